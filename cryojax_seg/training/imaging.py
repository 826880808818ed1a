"""Images patches of rendered scenes under conditions drawn at random, inside the jitted sampler.

A scene is rendered once. Each patch of it is oriented, filtered and covered by noise anew, so that
a network never sees the same noise twice. All filters are products in Fourier space, on a patch
with some context around it, which costs two pairs of transforms.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from cryojax_seg.core import ctf, fourier
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.rotation import rotate_by_transposing
from cryojax_seg.core.types import Array, Key, Labels, Number, Scalar, Volume
from cryojax_seg.core.wedge import MissingWedge
from cryojax_seg.simulate.types import BACKGROUND, CLASSES, LUMEN

CONTEXT = 8  # voxels that are imaged around a patch, because transforms are periodic
_CORNER = 3**0.5 / 2  # largest frequency, cycles per voxel
_RADII = 1024  # at which radial gains are evaluated, from 0 to the corner of Fourier space
_TERMS = 4  # of the random gain of amplitudes
_TYPICAL = 0.3  # root mean square density of structures, where a patch has hardly any
_X_FROM_Y = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.int32)  # rotates tilts about y to x


class Range(NamedTuple):
    """Holds the lowest and the highest value of a number that is drawn."""

    low: Any
    high: Any


@register_pytree
@dataclasses.dataclass(frozen=True)
class Randomisation:
    """Sets the ranges from which the conditions of imaging are drawn, for each patch anew.

    The values are traced, so that other ranges need no other program. A share is the probability
    that a patch has a property.

    Attributes:
        contrast: root mean square of the signal in structures, in standard deviations of the
            noise; uniform in its logarithm. Half of it is about the difference of the means of
            structures and background, 0.5 to 0.6 in good tomograms.
        lowest, highest: lowest and highest tilt, degrees. Half of the patches have both at the same
            part of their range, so that ranges which mirror each other give symmetric tilts.
        about_x: share with tilts about x, and not y.
        complete: share of which nothing is missing.
        missing_tilts: share in which up to three tilts are missing, each of 3 degrees.
        noise_exponent: the power of the noise falls as frequency to the minus this.
        defocus: angstrom, under focus.
        b_factor: of the envelope, square angstrom.
        focused: share without contrast transfer.
        flipped: share of the others whose phases are flipped.
        flavours: relative shares of reconstructions by weighted back-projection; with the radial
            gain of SIRT; with Wiener's filter; and restored, so that fine noise is weak.
        amplitude: standard deviation of the logarithm of a smooth radial gain.
        density: standard deviation of the logarithm of a factor on the density of each class.
        lumen: standard deviation of a density that is added inside closed membranes, where 1 is
            solid protein.
        ramp: standard deviation of a linear change of the contrast across the patch (of its
            logarithm), and of the background, in standard deviations of the noise.
        filled: fraction of the tomogram that structures fill, on which the centre and the scale of
            the intensities depend.
        blank: share of which up to a half is padding of one value, labelled background.

    >>> Randomisation(contrast=Range(0.5, 0.6)).contrast.low
    0.5
    """

    contrast: Any = Range(0.25, 3.0)
    lowest: Any = Range(-70.0, -35.0)
    highest: Any = Range(35.0, 70.0)
    about_x: Any = 0.5
    complete: Any = 0.03
    missing_tilts: Any = 0.2
    noise_exponent: Any = Range(0.0, 1.2)
    defocus: Any = Range(10_000.0, 80_000.0)
    b_factor: Any = Range(0.0, 1500.0)
    focused: Any = 0.3
    flipped: Any = 0.8
    flavours: Any = (0.4, 0.2, 0.2, 0.2)
    amplitude: Any = 0.15
    density: Any = 0.2
    lumen: Any = 0.05
    ramp: Any = 0.1
    filled: Any = Range(0.01, 0.3)
    blank: Any = 0.1

    def like(self, wedge: MissingWedge | None) -> "Randomisation":
        """Return these ranges with the tilts of one wedge only, to 2 degrees, if it is known.

        >>> Randomisation().like(MissingWedge((-50.0, 60.0), "x")).lowest
        Range(low=-52.0, high=-48.0)
        """
        if wedge is None or wedge.rotation is not None:
            return self
        low, high = (float(angle) for angle in wedge.tilt_range)
        return dataclasses.replace(
            self,
            lowest=Range(max(low - 2, -90.0), low + 2),
            highest=Range(high - 2, min(high + 2, 90.0)),
            about_x=float(wedge.tilt_axis == "x"),
            complete=0.0,
        )


@register_pytree
@dataclasses.dataclass(frozen=True)
class Conditions:
    """Holds the conditions under which one patch is imaged, see `draw_conditions`.

    Attributes:
        contrast: root mean square of the signal in structures, in standard deviations of the
            noise.
        filled: fraction of the tomogram that structures fill.
        gains: ``(2, radius)``, gain of the signal and of white noise at evenly spaced frequencies,
            from 0 to the corner of Fourier space.
        measured: ``(z, half_x)``, the mask of the wedge about y.
        wedge: the missing wedge about y, before the patch is rotated.
        factors: factor on the density of each of `CLASSES`.
        lumen: density added inside closed membranes.
        ramps: ``(2, 3)``, changes of the logarithm of the contrast, and of the background, from the
            middle of the patch to its faces along z, y, x.
        kept: ``(3, 2)``, the part along each axis, as fractions of the patch, that is no padding.
        value: value of the padding.
        about_x: whether the tilts are about x.
    """

    contrast: Any
    filled: Any
    gains: Any
    measured: Any
    wedge: MissingWedge
    factors: Any
    lumen: Any
    ramps: Any
    kept: Any
    value: Any
    about_x: Any


class Patch(NamedTuple):
    """Holds an imaged patch.

    Attributes:
        volume: ``(z, y, x)``, normalised as in a tomogram.
        labels: values in `CLASSES`, background where there is padding.
        wedge: its missing wedge, about y and rotated.
    """

    volume: Volume
    labels: Labels
    wedge: MissingWedge


class _Draws:
    """Draws numbers from one array of uniform numbers, which compiles faster than many keys."""

    def __init__(self, key: Key, count: int):
        self.left = iter(jax.random.uniform(key, (count,)))

    def within(self, range: Any) -> Scalar:
        low, high = range
        return low + (high - low) * next(self.left)

    def happens(self, share: Number) -> Bool[Array, ""]:
        return next(self.left) < share

    def choice(self, shares: Any) -> Int[Array, ""]:
        total = jnp.cumsum(jnp.stack([jnp.asarray(s, jnp.float32) for s in shares]))
        return jnp.sum(next(self.left) * total[-1] >= total[:-1])


def draw_conditions(
    key: Key, ranges: Randomisation, voxel_size: Number, shape: tuple[int, ...]
) -> Conditions:
    """Draw conditions of imaging for a patch of this shape.

    >>> found = draw_conditions(jax.random.key(0), Randomisation(), 10.0, (16, 16, 16))
    >>> found.measured.shape, bool(0.25 <= found.contrast <= 3.0)
    ((16, 9), True)
    """
    by_number, by_gain = jax.random.split(key)
    draws, gains = _Draws(by_number, 48), jax.random.normal(by_gain, (24,))
    wedge, measured = _wedge(draws, ranges, shape)
    about_x = draws.happens(ranges.about_x)
    return Conditions(
        contrast=jnp.exp(draws.within(jax.tree.map(jnp.log, ranges.contrast))),
        filled=draws.within(ranges.filled),
        gains=_radial_gains(draws, ranges, voxel_size, gains[:_TERMS]),
        measured=measured,
        wedge=wedge,
        factors=jnp.exp(ranges.density * gains[4 : 4 + len(CLASSES)]),
        lumen=ranges.lumen * gains[10],
        ramps=ranges.ramp * gains[11:17].reshape(2, 3),
        kept=_kept(draws, ranges, shape),
        value=jnp.where(draws.happens(0.5), 0.0, gains[17]),  # known to be blank, it becomes 0
        about_x=about_x & (shape[1] == shape[2]),
    )


def image_patch(density: Volume, labels: Labels, conditions: Conditions, key: Key) -> Patch:
    """Image a patch of a scene.

    With the spectrum D of the density, the patch is ``D T E G A M + N G A M``. M is the missing
    wedge, T the contrast transfer, E the envelope, G the gain of the reconstruction, A a random
    smooth gain, and N coloured noise. The transfer is radial, as in the middle of a tilt series.

    The result is normalised as in a whole tomogram whose structures fill a fraction f: the mean
    outside of structures in the patch becomes ``-f c / sqrt(1 + f c^2)``, and the standard
    deviation of the noise ``1 / sqrt(1 + f c^2)``, with the contrast c. So a patch full of
    structures is not shifted to 0.

    Args:
        density: ``(z, y, x)`` without imaging, 1 for solid protein; with `CONTEXT` to crop.
        labels: values in `CLASSES` of the same shape.
        conditions: from `draw_conditions` for the same shape.
        key: random key of the noise.

    >>> ball = jnp.zeros((16, 16, 16)).at[5:11, 5:11, 5:11].set(1.0)
    >>> by_condition, by_noise = jax.random.split(jax.random.key(0))
    >>> conditions = draw_conditions(by_condition, Randomisation(), 10.0, ball.shape)
    >>> image_patch(ball, 5 * ball.astype(jnp.int32), conditions, by_noise).volume.shape
    (16, 16, 16)
    """
    shape, c = density.shape, conditions
    added = jnp.where(labels == LUMEN, c.lumen, 0.0)
    density = density.astype(jnp.float32) * c.factors[labels] + added
    white = jax.random.normal(key, shape)
    nearest = np.rint(_radius(shape) * (_RADII - 1) / _CORNER).astype(np.int32)
    filters = c.gains[:, nearest] * c.measured[None, :, None, :]
    spectra = fourier.rfftn(density), fourier.rfftn(white)
    signal, noise = (
        fourier.irfftn(spectrum * gain.astype(spectrum.dtype), shape)
        for spectrum, gain in zip(spectra, filters, strict=True)
    )
    inside = ((labels != BACKGROUND) & (labels != LUMEN)).astype(signal.dtype)
    outside = 1 - inside
    level = jnp.sum(outside * signal) / jnp.maximum(jnp.sum(outside), 1.0)
    # Where a patch has hardly any structure, it counts as so much of a typical one.
    few = 1e-3 * signal.size
    passed = (jnp.var(signal) + 1e-12) / (jnp.var(density) + 1e-12)
    power = jnp.sum(inside * jnp.square(signal - level)) + few * _TYPICAL**2 * passed
    strength = c.contrast * jnp.sqrt((jnp.sum(inside) + few) / power)
    noise = noise / jnp.sqrt(jnp.var(noise) + 1e-12)
    volume = (signal - level) * strength * jnp.exp(_ramp(shape, c.ramps[0]))
    volume = volume + noise + _ramp(shape, c.ramps[1])
    volume = (volume - c.filled * c.contrast) / jnp.sqrt(1 + c.filled * jnp.square(c.contrast))
    padding = _padding(shape, c.kept)
    volume = jnp.where(padding, c.value, volume)
    labels = jnp.where(padding, jnp.zeros_like(labels), labels)
    if shape[1] == shape[2]:
        volume, labels = (
            jnp.where(c.about_x, rotate_by_transposing(_X_FROM_Y, a), a) for a in (volume, labels)
        )
    rotation = jnp.where(c.about_x, _X_FROM_Y.astype(np.float32), np.eye(3, dtype=np.float32))
    return Patch(volume, labels, dataclasses.replace(c.wedge, rotation=rotation))


def _radius(shape: tuple[int, ...]) -> np.ndarray:
    z, y, x = np.fft.fftfreq(shape[0]), np.fft.fftfreq(shape[1]), np.fft.rfftfreq(shape[2])
    return np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)


def _wedge(draws: _Draws, ranges: Randomisation, shape: tuple[int, ...]):
    """Draw the tilts, and return the wedge about y and its mask, without the missing tilts."""
    part, other = draws.within((0.0, 1.0)), draws.within((0.0, 1.0))
    other = jnp.where(draws.happens(0.5), part, other)
    low = ranges.lowest[1] + (ranges.lowest[0] - ranges.lowest[1]) * part
    high = ranges.highest[0] + (ranges.highest[1] - ranges.highest[0]) * other
    complete = draws.happens(ranges.complete)
    tilts = jnp.where(complete, jnp.asarray([-90.0, 90.0]), jnp.stack([low, high]))
    wedge = MissingWedge(tilts, "y", jnp.zeros(()))
    lacking = draws.happens(ranges.missing_tilts) & ~complete
    kz, _, kx = fourier.frequencies(shape)
    angle = jnp.rad2deg(jnp.arctan2(kz, jnp.maximum(kx, 1e-6)))
    measured = wedge.transfer((shape[0], 1, shape[2]))[:, 0]
    kz, kx, angle = kz[:, 0], kx[:, 0], angle[:, 0]
    for _ in range(3):
        tilt = draws.within((tilts[0], tilts[1]))
        lost = lacking & draws.happens(0.5) & (jnp.abs(angle - tilt) < 1.5)
        measured = measured * jnp.where(lost & (kz != 0), 0.0, 1.0)
    return wedge, measured


def _radial_gains(draws: _Draws, ranges: Randomisation, voxel_size: Number, terms: Any):
    """Draw the gains of signal and noise, ``(2, _RADII)``."""
    k = jnp.linspace(0.0, _CORNER, _RADII, dtype=jnp.float32)  # cycles per voxel
    transfer = ctf.ContrastTransfer(defocus=draws.within(ranges.defocus))
    contrast = -transfer(jnp.zeros_like(k), k / voxel_size)
    contrast = jnp.where(draws.happens(ranges.flipped), jnp.abs(contrast), contrast)
    contrast = jnp.where(draws.happens(ranges.focused), jnp.ones_like(k), contrast)
    signal = contrast * jnp.exp(-draws.within(ranges.b_factor) / 4 * jnp.square(k / voxel_size))
    noise = jnp.maximum(k, 0.01) ** (-draws.within(ranges.noise_exponent) / 2)
    smooth = sum(t * (jnp.cos(jnp.pi * (n + 1) * k) - 1) for n, t in enumerate(terms))
    both = jnp.exp(ranges.amplitude * smooth)
    # SIRT recovers coarse frequencies first, as `simulate.reconstruction.row_filter`.
    share = jnp.minimum(1.0, 1.0 / (draws.within((64.0, 256.0)) * jnp.maximum(k, 1e-3)))
    sirt = 1 - (1 - share) ** draws.within((5.0, 40.0))
    size = jnp.abs(contrast)
    weak = 10 ** draws.within((-2.0, 0.0)) * (1 + jnp.square(k / 0.1))
    wiener = size / (jnp.square(size) + weak) * (1 + weak)
    cutoff, width = draws.within((0.08, 0.3)), draws.within((0.02, 0.08))
    clean = jax.nn.sigmoid((cutoff - k) / width)
    flavour = draws.choice(ranges.flavours)
    both = both * jnp.select([flavour == 1, flavour == 2], [sirt, wiener], jnp.ones_like(k))
    noise = noise * jnp.where(flavour == 3, clean, 1.0)
    signal = signal * jnp.where(flavour == 3, jnp.sqrt(clean), 1.0)
    return jnp.stack([signal * both, noise * both])


def _ramp(shape: tuple[int, ...], slopes: Any) -> Volume:
    """Return a plane that is 0 in the middle, with these slopes from there to each face."""
    ramp = jnp.zeros(shape)
    for axis, size in enumerate(shape):
        line = np.linspace(-1, 1, size, dtype=np.float32)
        ramp = ramp + slopes[axis] * line.reshape([-1 if a == axis else 1 for a in range(3)])
    return ramp


def _kept(draws: _Draws, ranges: Randomisation, shape: tuple[int, ...]):
    """Draw the part of a patch that is no padding: beyond a plane across one axis, or two."""
    padded = draws.happens(ranges.blank)
    first, second = (jnp.floor(draws.within((0.0, 3.0))) for _ in range(2))
    kept = []
    for axis, size in enumerate(shape):
        depth = draws.within((CONTEXT / size, 0.5))
        depth = jnp.where(padded & ((first == axis) | (second == axis)), depth, 0.0)
        low = draws.happens(0.5)
        kept.append(jnp.stack([jnp.where(low, depth, 0.0), jnp.where(low, 1.0, 1 - depth)]))
    return jnp.stack(kept)


def _padding(shape: tuple[int, ...], kept: Any):
    padding = jnp.zeros(shape, bool)
    for axis, size in enumerate(shape):
        place = (np.arange(size, dtype=np.float32) + 0.5) / size
        beyond = (place < kept[axis, 0]) | (place > kept[axis, 1])
        padding = padding | beyond.reshape([-1 if a == axis else 1 for a in range(3)])
    return padding
