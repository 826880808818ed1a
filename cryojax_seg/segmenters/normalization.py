"""Normalises features, and fits statistics so that a network stays local.

Instance statistics depend on the whole input, so a network that computes them has no halo and
cannot be tiled. `fit_normalization` measures them once per tomogram on probe patches and freezes
them: each layer becomes an affine map of its channels, which is local and tiles exactly.

`experiments/normalisation.py` compares the choices at equal CPU-seconds: instance statistics,
fitted, are the most accurate and lose nothing against those of the whole volume; batch statistics
come next, then weight standardisation, which needs no fitting.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from cryojax_seg.core import LocalOperator, Symmetrized, measured_box
from cryojax_seg.core.blocks import Readable, random_starts, read
from cryojax_seg.core.operator import Layer, Operator
from cryojax_seg.core.parameters import filled
from cryojax_seg.core.types import BATCH_AXIS, Array, Features, at_least_float32

NORMS = ("none", "rms", "instance", "batch", "frozen", "weight")
EPSILON = 1e-5
_GLOBAL = ("instance", "batch")


class Statistic(nnx.Variable):
    """Holds a measured mean or variance, which is saved with the parameters but not learned."""


Statistics = tuple[Float[Array, " channel"], Float[Array, " channel"]]  # mean and variance

_recorded: contextvars.ContextVar[dict[int, Statistics] | None] = contextvars.ContextVar(
    "recorded", default=None
)


@contextlib.contextmanager
def recorded_statistics() -> Iterator[dict[int, Statistics]]:
    """Collect the statistics that each `Normalization` computes, keyed by ``id(layer)``."""
    record: dict[int, Statistics] = {}
    token = _recorded.set(record)
    try:
        yield record
    finally:
        _recorded.reset(token)


class Normalization(Layer):
    """Computes ``scale * normalize(x) + shift`` per channel, with one of these normalisations.

    - ``"none"``: x itself. So is ``"weight"``, where `blocks.Convolution` standardises its kernel.
    - ``"rms"``: x over the root mean square of its channels, voxel by voxel (Zhang & Sennrich
      2019).
    - ``"instance"``: mean and variance of the volume, per channel (Ulyanov et al. 2016). Not
      local: for training, then `fit_normalization`.
    - ``"batch"``: as instance, but over all volumes of a `jax.vmap` whose axis is named
      `core.types.BATCH_AXIS` (Ioffe & Szegedy 2015); without such an axis the same as instance.
    - ``"frozen"``: a stored mean and variance (0 and 1 until fitted); affine, hence local.

    The variance takes two passes: a mean of squares minus a squared mean loses its digits where
    the mean is large. A constant input is divided by ``sqrt(1e-5)``, never by 0.
    """

    def __init__(self, channels: int, kind: str, scale: float = 1.0):
        self.kind: str = check_norm(kind)
        self.scale = nnx.Param(filled((channels,), scale))
        self.shift = nnx.Param(filled((channels,), 0.0))
        if kind == "frozen":
            self.mean = Statistic(filled((channels,), 0.0))
            self.variance = Statistic(filled((channels,), 1.0))

    @property
    def is_local(self) -> bool:
        return self.kind not in _GLOBAL

    def freeze(self, mean: Float[Array, " channel"], variance: Float[Array, " channel"]) -> None:
        """Turn this layer into an affine map with these statistics."""
        self.mean, self.variance = Statistic(mean), Statistic(variance)
        self.kind = "frozen"

    def thaw(self) -> None:
        """Turn a frozen layer into one that measures instance statistics, which undoes `freeze`."""
        if self.kind == "frozen":
            del self.mean, self.variance
            self.kind = "instance"

    def __call__(self, x: Features) -> Features:
        scale, shift, kind = self.scale[...], self.shift[...], x.dtype
        x = x.astype(at_least_float32(kind))
        if self.kind == "rms":
            x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + EPSILON)
        elif self.kind in ("instance", "batch", "frozen"):
            mean, variance = self._statistics(x)
            scale = scale * jax.lax.rsqrt(variance + EPSILON)
            x = x - _spread(mean)  # before scaling: a mean far from 0 would eat the digits
        return (x * _spread(scale) + _spread(shift)).astype(kind)

    def _statistics(self, x: Features) -> Statistics:
        if self.kind == "frozen":
            return self.mean[...], self.variance[...]
        pooled = self.kind == "batch" and _batched()
        mean = jnp.mean(x, (0, 1, 2))
        mean = jax.lax.pmean(mean, BATCH_AXIS) if pooled else mean
        variance = jnp.mean(jnp.square(x - _spread(mean)), (0, 1, 2))
        variance = jax.lax.pmean(variance, BATCH_AXIS) if pooled else variance
        if (record := _recorded.get()) is not None:
            record[id(self)] = mean, variance
        return mean, variance


def _spread(values: Float[Array, " channel"]) -> Float[Array, "1 1 1 channel"]:
    return values[None, None, None, :]


def _batched() -> bool:
    try:
        jax.lax.axis_size(BATCH_AXIS)
    except NameError:
        return False
    return True


def check_norm(kind: str) -> str:
    """Return the name of a normalisation if it exists.

    Raises:
        ValueError: for an unknown name.
    """
    if kind not in NORMS:
        raise ValueError(f"norm {kind!r} is not one of {', '.join(NORMS)}")
    return kind


def standardized(kernel: Float[Array, "*taps out"]) -> Float[Array, "*taps out"]:
    """Standardise a kernel to mean 0 and variance ``2 / fan_in`` per output channel.

    Scaled weight standardisation (Brock et al. 2021, arXiv:2101.08692, eq. 1).
    """
    axes = tuple(range(kernel.ndim - 1))
    centred = kernel - jnp.mean(kernel, axes, keepdims=True)
    power = jnp.sum(jnp.square(centred), axes, keepdims=True)
    return centred * jax.lax.rsqrt(power / 2 + EPSILON)


def normalizations(operator: nnx.Module) -> dict[str, Normalization]:
    """Return the normalisations of an operator by their path.

    >>> from cryojax_seg.segmenters import ConvNet
    >>> list(normalizations(ConvNet(layers=1, width=2, rngs=nnx.Rngs(0))))
    ['convolutions/0/norm']
    """
    modules = ((path, m) for path, m in nnx.iter_modules(operator) if isinstance(m, Normalization))
    return {"/".join(map(str, path)): norm for path, norm in modules}


@jax.jit
def measure_statistics(
    operator: LocalOperator, patches: Float[Array, "count z y x"]
) -> dict[str, Statistics]:
    """Return mean and variance of each normalisation of the kind "batch", over all patches."""
    norms = normalizations(operator)

    def run(patch):
        with recorded_statistics() as record:
            operator(patch)
        return {path: record[id(norm)] for path, norm in norms.items() if id(norm) in record}

    return jax.vmap(run, out_axes=None, axis_name=BATCH_AXIS)(patches)


Measure = Callable[[Any, np.ndarray], Mapping[str, Statistics]]


def _probes(volume: Readable | Array, edges: list[int], count: int, seed: int) -> np.ndarray:
    starts = random_starts(measured_box(volume), edges, count, seed, distinct=True)
    stops = [[a + e for a, e in zip(start, edges, strict=True)] for start in starts]
    return np.stack([read(volume, *ends) for ends in zip(starts, stops, strict=True)])


def fit_normalization(
    operator: Operator,
    volume: Readable | Array,
    *,
    patch: int = 64,
    count: int = 8,
    seed: int = 0,
    measure: Measure = measure_statistics,
) -> Operator:
    """Return the operator with normalisation statistics measured on this volume and frozen.

    The network runs once on random patches, and every layer is normalised by its mean and variance
    over all of them. An operator without statistics is returned unchanged; networks inside
    combinators are included. Call it once per tomogram, with the normalised volume to be segmented.
    Blank parts of a `core.Normalized` volume are left out.

    Args:
        operator: any segmenter or restorer.
        volume: ``(z, y, x)``, normalised, structure bright; `core.Normalized` will do.
        patch: edge of the patches, voxels; best that of the training patches. Shortened to the
            volume and to the stride; mirrored where the volume is thinner than the stride.
        count: number of patches.
        seed: seed of their positions.
        measure: function that returns the mean and variance of each normalisation, by its path;
            `export.measure_statistics` computes the same without compiling a JAX program.

    Raises:
        ValueError: for a volume that is not three-dimensional.

    >>> import jax, numpy as np
    >>> from cryojax_seg.segmenters import ConvNet, fit_normalization
    >>> net = ConvNet(layers=1, width=2, norm="instance", rngs=nnx.Rngs(0))
    >>> fitted = fit_normalization(net, np.random.default_rng(0).normal(size=(8, 8, 8)))
    >>> net.norm, fitted.norm, fitted.halo
    ('instance', 'frozen', 1)
    """
    fitted: Any = nnx.clone(operator)
    if isinstance(operator, Symmetrized):  # measured without its flips
        fitted.segmenter = fit_normalization(
            operator.segmenter, volume, patch=patch, count=count, seed=seed, measure=measure
        )
        return fitted
    known = normalizations(fitted).items()
    norms = {path: norm for path, norm in known if norm.kind in (*_GLOBAL, "frozen")}
    if not norms:
        return operator
    if volume.ndim != 3:
        raise ValueError(f"expected a volume (z, y, x), got an array of shape {volume.shape}")
    stride, sizes = operator.stride, [s.stop - s.start for s in measured_box(volume)]
    edges = [max(min(patch, n) // stride, 1) * stride for n in sizes]
    for norm in norms.values():
        norm.kind = "batch"  # which pools over all patches
    for path, statistics in measure(fitted, _probes(volume, edges, count, seed)).items():
        norms[path].freeze(*statistics)
    return fitted


def thaw_normalization(operator: Operator) -> Operator:
    """Return the operator with instance statistics again, to learn on; undoes `fit_normalization`.

    Only parameters remain, which are not changed. (Batch statistics that were frozen become
    instance statistics too: how a frozen layer was trained is not stored.)

    Args:
        operator: any segmenter or restorer; networks inside combinators are included.

    >>> from cryojax_seg.segmenters import ConvNet, fit_normalization, thaw_normalization
    >>> net = ConvNet(layers=1, width=2, norm="instance", rngs=nnx.Rngs(0))
    >>> fitted = fit_normalization(net, np.random.default_rng(0).normal(size=(8, 8, 8)))
    >>> thaw_normalization(fitted).norm
    'instance'
    """
    thawed = nnx.clone(operator)
    for norm in normalizations(thawed).values():
        norm.thaw()
    return thawed
