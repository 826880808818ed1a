"""How much faster is `core.convolution.conv3d` than XLA's own 3D convolution on this machine?

    python experiments/benchmarks/convolution.py            # 1 minute on 2 cores

The benchmark prints median times in milliseconds and their ratios, measured alternately in one run,
for the forward pass and for the gradient with respect to both arguments, and the difference between
the two results. The result is `experiments/results/benchmark_convolution.json`.
"""

import dataclasses
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import tyro

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from cryojax_seg.core import convolution
from experiments.common import claim, write_results


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure 3x3x3 convolutions."""

    cases: tuple[tuple[int, int, int], ...] = (
        (64, 16, 16),
        (64, 1, 16),
        (64, 32, 32),
        (32, 32, 32),
        (32, 64, 64),
    )
    """edge of the volume, channels in, channels out"""
    repeats: int = 7
    json: bool = True
    """write experiments/results/benchmark_convolution.json; otherwise use the temporary folder"""


def native(volume, kernel):
    return jax.lax.conv_general_dilated(
        volume[None], kernel, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )[0]


def with_gradient(conv):
    def run(volume, kernel, cotangent):
        out, pull = jax.vjp(conv, volume, kernel)
        return out, *pull(cotangent)

    return run


def alternating(functions, arguments, repeats):
    """Return median seconds of functions that are called alternately, so that drift affects all."""
    compiled = [jax.jit(f) for f in functions]
    for f in compiled:
        jax.block_until_ready(f(*arguments))
    times = [[] for _ in compiled]
    for _ in range(repeats):
        for f, record in zip(compiled, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(f(*arguments))
            record.append(time.perf_counter() - start)
    return [statistics.median(t) for t in times]


def relative(value, reference):
    return float(jnp.abs(value - reference).max() / jnp.abs(reference).max())


def main(config: Config) -> None:
    rows = []
    print(
        f"{'case':>16} {'native':>9} {'conv3d':>9} {'ratio':>6} | {'native':>9} {'conv3d':>9} ratio"
    )
    for edge, inputs, outputs in config.cases:
        keys = jax.random.split(jax.random.key(0), 3)
        volume = jax.random.normal(keys[0], (edge, edge, edge, inputs))
        kernel = jax.random.normal(keys[1], (3, 3, 3, inputs, outputs)) / (27 * inputs) ** 0.5
        cotangent = jax.random.normal(keys[2], (edge, edge, edge, outputs))
        pair = (native, convolution.conv3d)
        forward = alternating(pair, (volume, kernel), config.repeats)
        both = [with_gradient(f) for f in pair]
        gradient = alternating(both, (volume, kernel, cotangent), config.repeats)
        reference, value = (jax.jit(f)(volume, kernel, cotangent) for f in both)
        row = {
            "edge": edge,
            "in": inputs,
            "out": outputs,
            "native_ms": forward[0] * 1e3,
            "conv3d_ms": forward[1] * 1e3,
            "forward_ratio": forward[0] / forward[1],
            "native_gradient_ms": gradient[0] * 1e3,
            "conv3d_gradient_ms": gradient[1] * 1e3,
            "gradient_ratio": gradient[0] / gradient[1],
            "relative_difference": max(
                relative(a, b) for a, b in zip(value, reference, strict=True)
            ),
        }
        rows.append(row)
        print(
            f"{edge}^3 {inputs:3d} -> {outputs:3d}"
            f" {row['native_ms']:9.1f} {row['conv3d_ms']:9.1f} {row['forward_ratio']:5.1f}x |"
            f" {row['native_gradient_ms']:9.1f} {row['conv3d_gradient_ms']:9.1f}"
            f" {row['gradient_ratio']:4.1f}x  differs by {row['relative_difference']:.0e}",
            flush=True,
        )
    largest = max(r["relative_difference"] for r in rows)
    claims = [
        claim("conv3d forward, 64^3 16->16: native / ours", rows[0]["forward_ratio"], at_least=3),
        claim("the same with gradients: native / ours", rows[0]["gradient_ratio"], at_least=3),
        claim("largest relative difference from native", largest, at_most=1e-5),
    ]
    write_results(
        "benchmark_convolution", dataclasses.asdict(config), rows, claims, tiny=not config.json
    )


if __name__ == "__main__":
    main(tyro.cli(Config))
