"""Measures the networks on one block, ours and those of other tools, for `inference.py`."""

import functools
import importlib.util
import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cryojax_seg import core, segmenters

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
HAS_TORCH = importlib.util.find_spec("torch") is not None
CLASSES = ("membrane",)


def ours() -> dict[str, core.Segmenter]:
    """Return our segmenters by name; networks have fitted statistics."""
    volume = np.random.default_rng(0).normal(size=(32,) * 3).astype(np.float32)

    def fitted(net):
        return segmenters.fit_normalization(net, volume, patch=32, count=1)

    def network(name):
        return fitted(segmenters.unet_preset(name, CLASSES, rngs=nnx.Rngs(0)))

    return {
        "threshold": segmenters.GlobalThreshold(1.0),
        "sheet": segmenters.SheetFilter(),
        "vote": segmenters.LinearVote(3),
        "fast": network("fast"),
        "no stem": fitted(segmenters.UNet(classes=CLASSES, rngs=nnx.Rngs(0))),
        "standard": network("standard"),
        "large": network("large"),
    }


def rate(run, voxels: int, repeats: int) -> float:
    """Return voxels per second from the median time, after a first call."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return voxels / statistics.median(times)


def machine(repeats: int, n: int = 2048, dtype=jnp.float32) -> tuple[float, float]:
    """Return floating-point operations per second of a matrix product, and bytes of a copy."""
    a = jnp.ones((n, n), dtype)
    product = jax.jit(lambda a: a @ a)
    flops = 2 * n * rate(lambda: product(a).block_until_ready(), n * n, repeats)
    long = jnp.ones(2**27, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return flops, 8 * rate(lambda: copy(long).block_until_ready(), long.size, repeats)


def throughput(one: core.Segmenter, volume: np.ndarray, repeats: int):
    """Return voxels per second on a block on the device, and the compiled program."""
    one, block = jax.device_put((one, volume))
    compiled = jax.jit(lambda s, v: s(v)).lower(one, block).compile()
    return rate(lambda: jax.block_until_ready(compiled(one, block)), volume.size, repeats), compiled


def blocks(edge: int, repeats: int) -> list[dict]:
    """Return rows of our segmenters on one block, with their place under the roofline."""
    volume = np.random.default_rng(0).normal(size=(edge,) * 3).astype(np.float32)
    flops, bandwidth = machine(repeats)
    rows = []
    for name, one in ours().items():
        voxels, compiled = throughput(one, volume, repeats)
        row = {"what": name, "engine": "jax", "voxels_per_second": voxels}
        row["flops_per_voxel"] = arithmetic(one) or counted(compiled) / volume.size
        row["share_of_matrix_product"] = row["flops_per_voxel"] * voxels / flops
        row["share_of_copy"] = 8 * voxels / bandwidth  # a voxel read and a logit written
        rows.append(row)
        print(
            f"{name:22s} {voxels / 1e6:9.3f} M voxels/s  {row['flops_per_voxel']:9.0f} flop/voxel, "
            f"{100 * row['share_of_matrix_product']:.0f} % of a matrix product",
            flush=True,
        )
    return rows


def openvino(edge: int, repeats: int) -> list[dict]:
    """Return rows of our networks with OpenVINO, in each precision that the CPU has."""
    from cryojax_seg import export

    if not export.installed():
        print("OpenVINO is not installed: pip install -e '.[openvino]' to compare with it")
        return []
    volume = np.random.default_rng(0).normal(size=(edge,) * 3).astype(np.float32)
    rows = []
    for name, one in ours().items():
        if not export.supports(one):
            continue
        for precision in ("f32", "bf16"):
            try:
                program = export.OpenVINOProgram(one, volume.shape, precision)
            except ValueError as error:
                print(f"{name}, OpenVINO {precision}: {error}")
                continue
            voxels = rate(lambda p=program: p(volume), volume.size, repeats)
            what = f"{name}, {precision}"
            rows.append({"what": what, "engine": "openvino", "voxels_per_second": voxels})
            print(f"{what:22s} {voxels / 1e6:9.3f} M voxels/s, OpenVINO", flush=True)
    return rows


def counted(compiled) -> float:
    """Return the operations that the compiler counts, where the body of a loop counts once."""
    return float((compiled.cost_analysis() or {}).get("flops", 0.0))


def arithmetic(one: core.Segmenter) -> float | None:
    """Return floating-point operations per voxel of a network's convolutions, or None."""
    if not isinstance(one, (segmenters.UNet, segmenters.LinearVote)):
        return None
    if isinstance(one, segmenters.LinearVote):
        return 2.0 * one.kernel[...].size
    total, finest = 0.0, 8 if one.stem != "none" else 1
    levels = [
        *((0, leaf) for part in (one.heads,) for leaf in jax.tree.leaves(nnx.state(part))),
        *((i, leaf) for i, b in enumerate(one.encoder) for leaf in jax.tree.leaves(nnx.state(b))),
        *((i, leaf) for i, b in enumerate(one.decoder) for leaf in jax.tree.leaves(nnx.state(b))),
        *((i + 1, leaf) for i, b in enumerate(one.down) for leaf in jax.tree.leaves(nnx.state(b))),
        *((i + 1, leaf) for i, b in enumerate(one.up) for leaf in jax.tree.leaves(nnx.state(b))),
    ]
    for level, leaf in levels:  # each parameter of a kernel is multiplied once at each voxel
        total += 2.0 * leaf.size / (finest * 8**level)
    return total


def others(edge: int, repeats: int) -> list[dict]:
    """Return rows of the networks of other tools, and of ours in PyTorch."""
    if not HAS_TORCH:
        print("PyTorch is not installed: pip install -e '.[benchmark]' to compare with it")
        return []
    import torch

    from experiments.benchmarks import rivals
    from experiments.benchmarks.segmenters import torch_unet

    torch.set_num_threads(CORES)
    x = torch.randn(1, 1, *(edge,) * 3)
    volume = x[0, 0].numpy()
    net = segmenters.UNet(classes=CLASSES, rngs=nnx.Rngs(0))
    same, _ = torch_unet(net, volume)
    runs = {"no stem, in PyTorch": same}
    for name, build in (("MemBrain-seg", rivals.membrain), ("nnU-Net", rivals.nnunet)):
        network = torch.inference_mode()(build().eval().forward)
        runs[name] = functools.partial(network, x)
    rows = []
    for name, run in runs.items():
        voxels = rate(run, volume.size, repeats)
        rows.append({"what": name, "engine": "torch", "voxels_per_second": voxels})
        print(f"{name:22s} {voxels / 1e6:9.3f} M voxels/s, one pass", flush=True)
    return rows
