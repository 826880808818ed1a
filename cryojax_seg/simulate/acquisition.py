"""Simulates the recording of a tilt series from a density.

At each tilt the density is projected, displaced by errors of the stage, converted to a phase,
filtered by radiation damage and by the contrast transfer at the local defocus, attenuated by the
ice, counted as electrons, blurred by the detector, and converted back to contrast.

The electrons travel towards +z, which is along ``(z, x) = (cos a, -sin a)`` in the volume's frame
at tilt a about y. A point farther along is farther from the source and has more underfocus.
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg.core import ctf
from cryojax_seg.core.plain import TiltAxis
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array, Key, Number, Volume
from cryojax_seg.simulate.instrument import Detector, Halves, Microscope, Misalignment, Slab
from cryojax_seg.simulate.projection import Angles, Images, handedness, project

Order = Literal["dose_symmetric", "bidirectional", "unidirectional"]

_MARGIN = 4  # images are padded by 1 / _MARGIN of their edge while they are filtered


def tilt_angles(low: float, high: float, step: float, scheme: Order) -> np.ndarray:
    """Return the angles ``low, low + step, ...`` up to `high` in recording order.

    Args:
        scheme: "unidirectional" goes from low to high; "bidirectional" from the angle nearest 0 up
            to high, then from there down to low; "dose_symmetric" alternates sides outwards from
            the angle nearest 0 (Hagen, Wan & Briggs 2017, in groups of one).

    >>> tilt_angles(-9.0, 9.0, 3.0, "dose_symmetric").tolist()
    [0.0, 3.0, -3.0, 6.0, -6.0, 9.0, -9.0]
    >>> tilt_angles(-6.0, 6.0, 3.0, "bidirectional").tolist()
    [0.0, 3.0, 6.0, -3.0, -6.0]
    """
    if not -90 <= low < high <= 90:
        raise ValueError(f"tilt range {low} to {high} must be rising, within -90 to 90 degrees")
    if not 0 < step <= high - low:
        raise ValueError(f"tilt step {step} must be above 0 and at most {high - low} degrees")
    angles = low + step * np.arange(math.floor((high - low) / step + 1e-6) + 1.0)
    start = int(np.argmin(np.abs(angles)))
    up, down = angles[start:], angles[:start][::-1]
    match scheme:
        case "unidirectional":
            return angles
        case "bidirectional":
            return np.concatenate([up, down])
        case "dose_symmetric":
            distance = np.concatenate([np.arange(up.size), np.arange(down.size) + 1.25])
            return np.concatenate([up, down])[np.argsort(distance, kind="stable")]
    raise ValueError(
        f"scheme {scheme!r} must be 'dose_symmetric', 'bidirectional' or 'unidirectional'"
    )


@register_pytree
@dataclasses.dataclass(frozen=True)
class TiltScheme:
    """Describes the recorded tilts, their order and their exposure.

    Attributes:
        tilt_range: lowest and highest tilt, degrees.
        order: rank of each tilt, 0 for the lowest, in the order of recording; the tilts are evenly
            spaced over the range.
        exposure: electrons per square angstrom and tilt.
        tilt_axis: "y" or "x".

    >>> scheme = TiltScheme.every(3.0, -60.0, 60.0)
    >>> len(scheme.order), scheme.angles[:3].tolist()
    (41, [0.0, 3.0, -3.0])
    """

    tilt_range: Any
    order: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    exposure: Any = 3.0
    tilt_axis: TiltAxis = dataclasses.field(default="y", metadata={"static": True})

    def __post_init__(self):
        if sorted(self.order) != list(range(len(self.order))):
            raise ValueError(f"order must rank the tilts 0 to {len(self.order) - 1} once each")
        if isinstance(self.tilt_range, tuple | list):
            for angle in self.tilt_range:
                ctf.check_between(
                    "tilt_range", angle, -89.9, 89.9
                )  # at 90 degrees the slab is infinitely long
        ctf.check_between("exposure", self.exposure, 1e-9, math.inf)

    @classmethod
    def every(
        cls,
        step: float,
        low: float = -60.0,
        high: float = 60.0,
        scheme: Order = "dose_symmetric",
        exposure: Number = 3.0,
        tilt_axis: TiltAxis = "y",
    ) -> "TiltScheme":
        """Return the scheme that records `tilt_angles(low, high, step, scheme)`."""
        angles = tilt_angles(low, high, step, scheme)
        order = tuple(int(rank) for rank in np.argsort(np.argsort(angles)))
        return cls((float(angles.min()), float(angles.max())), order, exposure, tilt_axis)

    @property
    def angles(self) -> Angles:
        """Return the angles in degrees in recording order, differentiable in the range."""
        low, high = (jnp.asarray(a, jnp.result_type(float)) for a in self.tilt_range)
        rank = jnp.asarray(self.order, low.dtype)
        return low + (high - low) / max(len(self.order) - 1, 1) * rank

    @property
    def exposures(self) -> Float[Array, " tilt"]:
        """Return the exposure, in electrons per A^2, accumulated by the middle of each tilt."""
        half = jnp.arange(len(self.order), dtype=jnp.result_type(float)) + 0.5
        return jnp.asarray(self.exposure, half.dtype) * half


@register_pytree
@dataclasses.dataclass(frozen=True)
class Acquisition:
    """Describes how `expose` records a tilt series.

    Attributes:
        scheme, microscope, slab, detector: parts of the acquisition; see their classes.
        misalignment: None for a perfect stage.
        damaged: whether radiation damages the sample.
        flip_phases: whether the sign of the CTF is corrected in the images.
        flatten: whether the images are divided by the transmission of the slab at each pixel; if
            not, they are divided by its mean over the image, and uneven thickness shows.
        strips: number of positions across the image at which the defocus of a tilted sample is
            evaluated; images of neighbouring positions are blended linearly.

    >>> from cryojax_seg.simulate import Acquisition, TiltScheme
    >>> Acquisition(TiltScheme.every(20.0)).scheme.angles.shape
    (7,)
    """

    scheme: TiltScheme = TiltScheme.every(3.0)
    microscope: Microscope = Microscope()
    slab: Slab = Slab()
    detector: Detector = Detector()
    misalignment: Misalignment | None = None
    damaged: bool = dataclasses.field(default=True, metadata={"static": True})
    flip_phases: bool = dataclasses.field(default=True, metadata={"static": True})
    flatten: bool = dataclasses.field(default=True, metadata={"static": True})
    strips: int = dataclasses.field(default=5, metadata={"static": True})

    def __post_init__(self):
        ctf.check_between("strips", self.strips, 1, 1000)


@register_pytree
@dataclasses.dataclass(frozen=True)
class TiltSeries:
    """Holds recorded images as contrast, which is 0 in empty ice and positive in structures.

    With a CTF of -1 a voxel of density 1 adds ``2 * Microscope.phase`` to the images.

    Attributes:
        halves: two independent halves of the exposure, each in units of the whole.
        clean: the images without noise; differentiable in density and instrument.
        angles: tilt of each image, degrees, in the order of recording.
        exposures: electrons per square angstrom accumulated by the middle of each image.
        tilt_axis: "y" or "x".
    """

    halves: Halves
    clean: Images
    angles: Angles
    exposures: Float[Array, " tilt"]
    tilt_axis: TiltAxis = dataclasses.field(metadata={"static": True})

    @property
    def images(self) -> Images:
        """Return the images of the whole exposure, the mean of the halves."""
        return (self.halves[0] + self.halves[1]) / 2

    def split_by_tilt(self) -> tuple["TiltSeries", "TiltSeries"]:
        """Return two series of alternate tilts, counted from the lowest."""
        ranked = jnp.argsort(self.angles)
        return self._chosen(ranked[::2]), self._chosen(ranked[1::2])

    def _chosen(self, tilts) -> "TiltSeries":
        return dataclasses.replace(
            self,
            halves=self.halves[:, tilts],
            clean=self.clean[tilts],
            angles=self.angles[tilts],
            exposures=self.exposures[tilts],
        )


def expose(volume: Volume, voxel_size: Number, config: Acquisition, key: Key) -> TiltSeries:
    """Record the tilt series of a density.

    The intensity is ``T exp(2 CTF * phase)`` with the transmission T. To first order this is the
    weak-phase approximation ``1 + 2 CTF * phase``, but it stays positive for dense objects such as
    gold (the Rytov form). The defocus changes across the image with the height of the slab's middle
    plane, but not with depth.

    Args:
        volume: ``(z, y, x)``, 1 for solid protein and 0 for ice, also outside the volume.
        voxel_size: angstrom, along each axis.
        config: the instrument.
        key: random key; the same key gives the same series.

    >>> config = Acquisition(scheme=TiltScheme.every(20.0))
    >>> series = jax.jit(expose)(jnp.zeros((8, 16, 16)), 10.0, config, jax.random.key(0))
    >>> series.images.shape, float(abs(series.clean).max()) < 1e-5
    ((7, 16, 16), True)
    """
    axis, dtype = config.scheme.tilt_axis, volume.dtype
    angles = config.scheme.angles.astype(dtype)
    exposures = config.scheme.exposures.astype(dtype)
    move_key, count_key = jax.random.split(key)
    phases = project(volume, angles, axis) * config.microscope.phase(voxel_size)
    if config.misalignment is not None:
        phases = config.misalignment.apply(phases, voxel_size, move_key)
    optics = _Optics(config, voxel_size, volume.shape[1:])

    transmission = jax.lax.map(optics.transmission, angles)
    contrast = jax.lax.map(lambda tilt: optics.contrast(*tilt), (phases, angles, exposures))
    electrons = config.scheme.exposure * voxel_size**2 * config.detector.efficiency
    expected = electrons * transmission * jnp.exp(contrast)
    halves = config.detector.count(expected, count_key)
    background = transmission if config.flatten else transmission.mean((1, 2), keepdims=True)

    def develop(tilt):
        counts, in_ice, angle = tilt
        return optics.develop(counts / in_ice[None], angle)

    counts = jnp.concatenate([halves, expected[None] / 2]).swapaxes(0, 1)
    developed = jax.lax.map(develop, (counts, electrons * background / 2, angles)).swapaxes(0, 1)
    return TiltSeries(developed[:2], developed[2], angles, exposures, axis)


class _Optics:
    """Filters images of one shape by the optics of one acquisition.

    Before recording, images are continued beyond their edges by the edge values. Recorded images
    are filtered as if they were periodic, as programs for phase correction do.
    """

    def __init__(self, config: Acquisition, voxel_size: Number, shape: tuple[int, ...]):
        self.config, self.voxel_size, self.shape = config, voxel_size, shape
        self.axis: TiltAxis = config.scheme.tilt_axis
        width = shape[1] if self.axis == "y" else shape[0]
        u = np.arange(width) - (width - 1) / 2
        if config.strips > 1:
            self.places = np.linspace(u[0], u[-1], config.strips)
            spacing = self.places[1] - self.places[0]
            blend = np.maximum(0, 1 - np.abs(u - self.places[:, None]) / spacing)
        else:
            self.places, blend = np.zeros(1), np.ones((1, width))
        self.blend = blend[:, None, :] if self.axis == "y" else blend[:, :, None]

    def transmission(self, angle):
        y, x = (
            (jnp.arange(n, dtype=angle.dtype) - (n - 1) / 2) * self.voxel_size for n in self.shape
        )
        return self.config.slab.transmission(y[:, None], x[None, :], angle, self.axis)

    def contrast(self, phase, angle, exposure):
        """Return the logarithm of the intensity relative to empty ice."""
        margin = [(n // _MARGIN // 2, n // _MARGIN - n // _MARGIN // 2) for n in self.shape]
        padded = jnp.pad(phase, margin, "edge")
        gains = self._transfer(padded.shape, angle)
        if self.config.damaged:
            k = self._radius(padded.shape, angle.dtype)
            gains *= ctf.damage(k, exposure, self.config.microscope.transfer.voltage)[None]
        spectrum = jnp.fft.rfft2(padded)[None]
        filtered = jnp.fft.irfft2(spectrum * gains.astype(spectrum.dtype), padded.shape)
        inside = tuple(slice(low, low + n) for (low, _), n in zip(margin, self.shape, strict=True))
        return 2 * self._blended(filtered[:, *inside])

    def develop(self, counts, angle):
        """Convert relative counts ``(image, y, x)`` to contrast, with MTF and phase correction."""
        k = self._radius(self.shape, angle.dtype) * self.voxel_size
        spectrum = jnp.fft.rfft2(counts - 1)
        mtf = ctf.detector_mtf(k, self.config.detector.mtf_at_nyquist)
        spectrum *= mtf[None].astype(spectrum.dtype)
        if not self.config.flip_phases:
            return -jnp.fft.irfft2(spectrum, self.shape)
        signs = jnp.where(self._transfer(self.shape, angle) > 0, 1.0, -1.0).astype(spectrum.dtype)
        filtered = jnp.fft.irfft2(spectrum[:, None] * signs[None], self.shape)
        return jax.vmap(self._blended)(filtered)

    def _frequencies(self, shape, dtype):
        """Return the frequencies along y and x in cycles per angstrom."""
        k_y = jnp.fft.fftfreq(shape[0], dtype=dtype)[:, None] / self.voxel_size
        k_x = jnp.fft.rfftfreq(shape[1], dtype=dtype)[None, :] / self.voxel_size
        return jnp.broadcast_arrays(k_y, k_x)

    def _radius(self, shape, dtype):
        k_y, k_x = self._frequencies(shape, dtype)
        return jnp.sqrt(jnp.maximum(jnp.square(k_y) + jnp.square(k_x), 1e-14))  # gradient at 0

    def _transfer(self, shape, angle):
        """Return the CTF at each strip."""
        transfer = self.config.microscope.transfer
        below = jnp.asarray(-handedness(self.axis) * self.places, angle.dtype) * self.voxel_size
        defocus = transfer.defocus + below * jnp.tan(jnp.deg2rad(angle))
        k_y, k_x = self._frequencies(shape, angle.dtype)
        return jax.vmap(lambda z: dataclasses.replace(transfer, defocus=z)(k_y, k_x))(defocus)

    def _blended(self, images):
        return jnp.sum(images * jnp.asarray(self.blend, images.dtype), 0)
