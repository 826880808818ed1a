"""How fast are the networks on an accelerator, in float32 and bfloat16?

    python experiments/benchmarks/gpu.py     # a few minutes on one GPU; stops where there is none

The benchmark measures, without compilation:

- voxels per second of each U-Net preset on one block that is already on the device, and the share
  of the rate of a large matrix product in the same precision that this reaches;
- the effect of bfloat16 on logits and labels;
- the time of a training step;
- if PyTorch with CUDA is installed, its speed with the same network (channels last, bfloat16) and
  with the network of MemBrain-seg.

The result is ``experiments/results/benchmark_gpu.json``.
"""

import dataclasses
import importlib.util
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cryojax_seg import core, training
from cryojax_seg.segmenters import (
    UNet,
    disagreement,
    fit_normalization,
    in_bfloat16,
    unet_preset,
)
from cryojax_seg.segmenters.unet import Preset
from cryojax_seg.training.samples import prepare
from cryojax_seg.training.step import initial_state, take_apart
from experiments.benchmarks.one_block import arithmetic, machine, rate, throughput
from experiments.common import claim, write_results
from experiments.scenes import vesicles

CLASSES = ("membrane",)
PRECISIONS = {"f32": jnp.float32, "bf16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure networks on one accelerator."""

    presets: tuple[Preset, ...] = ("fast", "standard", "large")
    edge: int = 192
    """edge of the block, in voxels; a multiple of 32"""
    patch: int = 96
    """edge of the training patches, in voxels"""
    batch: int = 2
    learn: int = 100
    """training steps before labels in both precisions are compared"""
    product: int = 8192
    """edge of the matrices whose product defines the peak rate"""
    repeats: int = 5
    any_device: bool = False
    """also run without an accelerator, which is meaningless except for tests"""
    json: bool = True
    """write experiments/results/benchmark_gpu.json; otherwise use the temporary folder"""


def forward(config: Config) -> list[dict]:
    """Return rows of each preset in each precision."""
    volume = np.random.default_rng(0).normal(size=(config.edge,) * 3).astype(np.float32)
    peaks = {p: machine(config.repeats, config.product, t)[0] for p, t in PRECISIONS.items()}
    rows = []
    networks = {name: unet_preset(name, CLASSES, rngs=nnx.Rngs(0)) for name in config.presets}
    networks["no stem"] = UNet(classes=CLASSES, rngs=nnx.Rngs(0))
    for name, net in networks.items():
        net = fit_normalization(net, volume, patch=32, count=1)
        for precision, one in (("f32", net), ("bf16", in_bfloat16(net))):
            voxels, _ = throughput(one, volume, config.repeats)
            share = (arithmetic(net) or 0.0) * voxels / peaks[precision]
            what = f"{name}, {precision}"
            rows.append(
                {"what": what, "voxels_per_second": voxels, "share_of_matrix_product": share}
            )
            print(
                f"{what:30s} {voxels / 1e6:9.1f} M voxels/s, {100 * share:.0f} % of a product",
                flush=True,
            )
    return rows


def learning(config: Config) -> tuple[list[dict], dict[str, float]]:
    """Return rows of training steps, and the effect of precision on labels after training."""
    edge = max(config.patch, 64)
    volume, truth = vesicles(0, 0.3, False, 60, edge)
    example = training.Example(volume, truth)
    net = unet_preset("standard", CLASSES, rngs=nnx.Rngs(0))
    rows, dices = [], {}
    for precision in ("f32", "bf16"):
        settings = training.TrainConfig(
            steps=config.learn, batch=config.batch, patch=config.patch, precision=precision
        )
        parts, samples = take_apart(net), prepare([example], CLASSES, settings.patch_shape)
        state = initial_state(parts, settings)
        step = training.make_step(parts, net.default_loss(), settings)
        times = []
        for _ in range(config.learn):
            start = time.perf_counter()
            state, metrics = jax.block_until_ready(step(state, samples))
            times.append(time.perf_counter() - start)
        what = f"training step, {precision}"
        milliseconds = 1e3 * statistics.median(times[1:])
        rows.append({"what": what, "step_ms": milliseconds, "loss": float(metrics["loss"])})
        print(f"{what:30s} {milliseconds:9.1f} ms, loss {rows[-1]['loss']:.4f}", flush=True)
        learned = fit_normalization(parts.rebuild(state.ema, state.fixed), volume, patch=edge)
        found = np.asarray(core.labels(core.apply(learned, volume)))
        dices[precision] = float(2 * (found * truth).sum() / (found.sum() + truth.sum()))
    lowered = in_bfloat16(learned)
    exact, rounded = (np.asarray(one(volume)) for one in (learned, lowered))
    return rows, {
        "labels": disagreement(jax.jit(learned), jax.jit(lowered), volume, learned.stride),
        "logits": float(np.abs(exact - rounded).max() / np.abs(exact).max()),
        "dice": abs(dices["f32"] - dices["bf16"]),
    }


def others(config: Config) -> list[dict]:
    """Return rows of PyTorch with the same network and with that of MemBrain-seg."""
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: pip install torch to compare with it")
        return []
    import torch

    if not torch.cuda.is_available():
        print("this PyTorch has no CUDA, so nothing is compared with it")
        return []
    from experiments.benchmarks.rivals import SameUNet, membrain

    torch.backends.cudnn.benchmark = True
    x = torch.randn(1, 1, *(config.edge,) * 3, device="cuda")
    x = x.to(memory_format=torch.channels_last_3d)
    without = SameUNet(UNet(classes=CLASSES, rngs=nnx.Rngs(0)), "cuda")
    rival = membrain().eval().cuda().to(memory_format=torch.channels_last_3d)
    rows = []
    for name, network in (("no stem", without), ("MemBrain-seg", rival)):
        for precision, low in (("f32", False), ("bf16", True)):

            def run(network=network, low=low):
                with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=low):
                    network(x)
                torch.cuda.synchronize()

            what = f"{name} in PyTorch, {precision}"
            rows.append({"what": what, "voxels_per_second": rate(run, x.numel(), config.repeats)})
            print(f"{what:30s} {rows[-1]['voxels_per_second'] / 1e6:9.1f} M voxels/s", flush=True)
    return rows


def main(config: Config) -> None:
    device = jax.devices()[0]
    if device.platform == "cpu" and not config.any_device:
        print("no accelerator: JAX computes on the CPU here, so there is nothing to measure")
        return
    rows = [*forward(config), *others(config)]
    speed = {row["what"]: row["voxels_per_second"] for row in rows}
    steps, apart = learning(config)

    def ratio(a: str, b: str) -> float | None:
        return speed[a] / speed[b] if a in speed and b in speed else None

    claims = [
        claim("voxels per second: standard in bf16 / in f32",
              ratio("standard, bf16", "standard, f32"), at_least=1),
        claim("voxels per second in bf16: U-Net without stem in JAX / in PyTorch",
              ratio("no stem, bf16", "no stem in PyTorch, bf16"), at_least=1),
        claim("share of voxels whose label depends on the precision", apart["labels"],
              at_most=0.005),
        claim("largest difference of a logit / largest logit", apart["logits"], at_most=0.05),
        claim("Dice: what training in bf16 changes", apart["dice"], at_most=0.02),
    ]  # fmt: skip
    write_results(
        "benchmark_gpu", dataclasses.asdict(config), [*rows, *steps], claims, tiny=not config.json
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
