"""How fast are the networks and filters, compared with the same computation in other libraries?

    pip install -e ".[benchmark]"                  # PyTorch, which is used here only
    python experiments/benchmarks/segmenters.py    # 3 minutes on 2 cores

The benchmark compares median times, measured alternately in one run without compilation:

- a 16-32-64 U-Net on 64^3 voxels, forward and with its gradient, against the same network with the
  same parameters in PyTorch;
- closed-form Hessian eigenvalues against `jnp.linalg.eigvalsh`;
- Gaussian windows against `scipy.ndimage.gaussian_filter`.

It also measures what a training step costs beyond its arithmetic. Without PyTorch its rows are left
out and its claims are not met. The result is `experiments/results/benchmark_segmenters.json`.
"""

import dataclasses
import importlib.util
import os
import pathlib
import statistics
import sys
import time

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import tyro
from flax import nnx

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cryojax_seg.core.neighbourhood import gaussian
from cryojax_seg.runtime import keep_memory
from cryojax_seg.segmenters import UNet
from cryojax_seg.segmenters.ridge import symmetric_eigenvalues
from cryojax_seg.training import Example, TrainConfig, make_step
from cryojax_seg.training.samples import prepare
from cryojax_seg.training.step import initial_state, take_apart
from experiments.common import claim, write_results

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
HAS_TORCH = importlib.util.find_spec("torch") is not None


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure networks and filters."""

    edge: int = 64
    """edge of the volumes, in voxels"""
    width: int = 16
    """channels of the finest level of the U-Net"""
    depth: int = 2
    """number of times that the U-Net halves the resolution"""
    scale: float = 2.0
    """standard deviation of the Gaussian window, in voxels"""
    repeats: int = 9
    steps: int = 5
    """number of training steps after the first"""
    json: bool = True
    """write experiments/results/benchmark_segmenters.json; otherwise use the temporary folder"""


def alternating(functions, repeats):
    """Return median and least seconds of functions that are called alternately."""
    for function in functions:
        function()
    times = [[] for _ in functions]
    for _ in range(repeats):
        for function, record in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            record.append(time.perf_counter() - start)
    return [(statistics.median(t), min(t)) for t in times]


def compiled(function, *arguments):
    """Return a blocking call of the compiled function, and the seconds of compilation."""
    start = time.perf_counter()
    executable = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    return lambda: jax.block_until_ready(executable(*arguments)), seconds


def compare(what, ours, theirs, name, repeats, compile_seconds=0.0):
    """Return a row of the results that compares our time with theirs."""
    (ours_median, ours_least), (median, least) = alternating((ours, theirs), repeats)
    row = {
        "what": what,
        "against": name,
        "ours_ms": ours_median * 1e3,
        "theirs_ms": median * 1e3,
        "ratio": ours_median / median,
        "ratio_of_least": ours_least / least,
        "compile_s": compile_seconds,
    }
    print(
        f"{what:>34}: ours {row['ours_ms']:8.1f} ms, {name} {row['theirs_ms']:8.1f} ms, ratio"
        f" {row['ratio']:.2f} (of the least times {row['ratio_of_least']:.2f}),"
        f" compiled in {compile_seconds:.1f} s",
        flush=True,
    )
    return row


def torch_unet(net: UNet, volume: np.ndarray):
    """Return the same network with the same parameters in PyTorch, as two calls.

    Returns:
        one that gives the logits ``(z, y, x, class)``, and one that gives the gradient of their
        mean square with respect to all parameters.
    """
    import torch

    from experiments.benchmarks.rivals import SameUNet

    torch.set_num_threads(CORES)
    same, x = SameUNet(net), torch.from_numpy(volume)[None, None]

    def inference():
        with torch.inference_mode():
            return same(x)[0].permute(1, 2, 3, 0).numpy()

    def gradient():
        return torch.autograd.grad(same(x).square().mean(), same.leaves)

    return inference, gradient


def networks(config: Config):
    """Return rows and claims of the U-Net against PyTorch."""
    net = UNet(config.width, config.depth, norm="instance", rngs=nnx.Rngs(0))
    volume = np.random.default_rng(0).normal(size=(config.edge,) * 3).astype(np.float32)
    on_device = jnp.asarray(volume)
    forward, forward_compile = compiled(lambda n, v: n(v), net, on_device)
    gradient, gradient_compile = compiled(
        jax.grad(lambda n, v: jnp.mean(jnp.square(n(v)))), net, on_device
    )
    goals = ("U-Net forward: ours / torch", 1.5), ("U-Net with gradient: ours / torch", 2.0)
    agreement = "U-Net: largest relative difference from torch"
    if not HAS_TORCH:
        print("PyTorch is not installed: pip install -e '.[benchmark]' to compare with it")
        for function, seconds in ((forward, forward_compile), (gradient, gradient_compile)):
            ((median, _),) = alternating((function,), config.repeats)
            print(f"U-Net: {median * 1e3:.1f} ms, compiled in {seconds:.1f} s", flush=True)
        return [], [claim(name, None, at_most=goal) for name, goal in (*goals, (agreement, 1e-4))]
    their_forward, their_gradient = torch_unet(net, volume)
    reference = their_forward()
    difference = float(np.abs(forward() - reference).max() / np.abs(reference).max())
    rows = [
        compare("U-Net forward", forward, their_forward, "torch", config.repeats, forward_compile),
        compare(
            "U-Net with gradient",
            gradient,
            their_gradient,
            "torch",
            config.repeats,
            gradient_compile,
        ),
    ]
    claims = [
        claim(name, row["ratio"], at_most=goal)
        for (name, goal), row in zip(goals, rows, strict=True)
    ]
    return rows, [*claims, claim(agreement, difference, at_most=1e-4)]


def filters(config: Config):
    """Return rows and claims of eigenvalues and Gaussian windows."""
    rng = np.random.default_rng(0)
    parts = tuple(jnp.asarray(rng.normal(size=(config.edge,) * 3), jnp.float32) for _ in range(6))

    def general(zz, yy, xx, zy, zx, yx):
        rows = (zz, zy, zx), (zy, yy, yx), (zx, yx, xx)
        return jnp.linalg.eigvalsh(jnp.stack([jnp.stack(row, -1) for row in rows], -1))

    closed, seconds = compiled(symmetric_eigenvalues, *parts)
    reference, _ = compiled(general, *parts)
    eigen = compare("Hessian eigenvalues", closed, reference, "eigvalsh", config.repeats, seconds)
    error = float(jnp.abs(jnp.stack(closed(), -1) - reference()).max())

    radius = int(np.ceil(4 * config.scale))
    window, seconds = compiled(lambda v: gaussian(v, config.scale, radius), parts[0])
    volume = np.asarray(parts[0])

    def scipy_window():
        return scipy.ndimage.gaussian_filter(volume, config.scale, mode="constant", radius=radius)

    smooth = compare("Gaussian window", window, scipy_window, "scipy", config.repeats, seconds)
    error = max(error, float(np.abs(window() - scipy_window()).max()))
    return [eigen, smooth], [
        claim("Hessian eigenvalues: eigvalsh / ours", 1 / eigen["ratio"], at_least=5),
        claim("Gaussian window: ours / scipy", smooth["ratio"], at_most=1),
        claim("filters: largest difference from eigvalsh and scipy", error, at_most=1e-4),
    ]


def training_step(config: Config):
    """Return rows and claims of the cost of a training step beyond its arithmetic.

    The share of the host is the time of a call with the same state and samples whose compiled
    function returns its state unchanged, which includes flattening, dispatch and wrapping alone.
    """
    rng = np.random.default_rng(0)
    shape = (config.edge + 16,) * 3
    labels = rng.integers(0, 2, shape).astype(np.int32)
    volume = rng.normal(size=shape).astype(np.float32)
    example = Example(volume, labels)
    settings = TrainConfig(steps=100, batch=2, patch=config.edge)
    net = UNet(config.width, config.depth, norm="instance", rngs=nnx.Rngs(0))
    samples = prepare([example], net.classes, settings.patch_shape)
    parts = take_apart(net)
    state = initial_state(parts, settings)
    step = make_step(parts, net.default_loss(), settings)

    compilations = []

    def listen(event: str, duration_secs: float, **kwargs) -> None:
        if "backend_compile" in event:
            compilations.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    start = time.perf_counter()
    state, metrics = jax.block_until_ready(step(state, samples))
    first, before = time.perf_counter() - start, len(compilations)
    times = []
    for _ in range(config.steps):
        start = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state, samples))
        times.append(time.perf_counter() - start)
    after = len(compilations) - before

    idle = jax.jit(
        lambda state, samples: (state, dict.fromkeys(metrics, state.step)), donate_argnums=0
    )
    overheads = []
    for _ in range(100):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(idle(state, samples))
        overheads.append(time.perf_counter() - start)
    row = {
        "what": "training step, batch 2",
        "ours_ms": statistics.median(times) * 1e3,
        "first_s": first,
        "host_ms": statistics.median(overheads) * 1e3,
        "compilations_after_the_first": after,
    }
    print(
        f"training step: {row['ours_ms']:.0f} ms, of which host {row['host_ms']:.2f} ms;"
        f" the first took {first:.1f} s, {after} compilations after it",
        flush=True,
    )
    return [row], [
        claim("training step: compilations after the first", after, at_most=0),
        claim("training step: host overhead, ms", row["host_ms"], at_most=2),
    ]


def main(config: Config) -> None:
    keep_memory()
    rows, claims = [], []
    for part in (networks, filters, training_step):
        more_rows, more_claims = part(config)
        rows += more_rows
        claims += more_claims
    write_results(
        "benchmark_segmenters", dataclasses.asdict(config), rows, claims, tiny=not config.json
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
