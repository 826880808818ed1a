"""Represents the missing wedge of a tilt series by a few numbers.

Conventions: the beam is along z. The sample is tilted about y (or x) by the right-hand rule, so a
projection at tilt ``a`` measures the central plane spanned by the tilt axis and by the direction
``(k_z, k_x) = (sin a, cos a)`` for tilt about y, ``(k_z, k_y) = (-sin a, cos a)`` for tilt about x.
A symmetric range of ``+-a`` about y thus measures ``|k_z| <= |k_x| tan a``, whatever ``k_y`` is.
Vectors and rotation matrices are in (z, y, x) order.
"""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cryojax_seg import units
from cryojax_seg.core import fourier
from cryojax_seg.core.plain import Shape, TiltAxis
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array, Key, Number, Spectrum, Volume
from cryojax_seg.errors import ParameterError

# A wedge of tilts about x equals one of tilts about y, rotated by this matrix.
_X_FROM_Y = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)


@register_pytree
@dataclasses.dataclass(frozen=True)
class MissingWedge:
    """Describes which Fourier coefficients a single-axis tilt series measured.

    Attributes:
        tilt_range: lowest and highest tilt angle in degrees, within -90 to 90.
        tilt_axis: "y" or "x".
        softness: width of the edge of the measured region, cycles per voxel; 0 is a hard edge.
        rotation: ``(3, 3)`` matrix in zyx order by which the volume was rotated after
            reconstruction; None if it was not rotated.

    Raises:
        ValueError: for an invalid tilt range or tilt axis.

    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> wedge.transfer((32, 32, 32)).shape
    (32, 32, 17)
    >>> wedge.symmetries()
    ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
    """

    # Shapes are not annotated: JAX rebuilds pytrees with batched, traced or placeholder leaves.
    tilt_range: Any
    tilt_axis: TiltAxis = dataclasses.field(default="y", metadata={"static": True})
    softness: Any = 0.0
    rotation: Any = None

    def __post_init__(self):
        angles = self.tilt_range
        if isinstance(angles, tuple | list) and all(isinstance(a, float | int) for a in angles):
            if len(angles) != 2 or not -90 <= angles[0] < angles[1] <= 90:
                raise ParameterError(
                    f"tilt_range {tuple(angles)} must be two angles in degrees, lowest first, "
                    "within -90 to 90",
                    "tilt_range",
                )
            units.check("tilt_range", tuple(angles), units.TILT)
        if self.tilt_axis not in ("y", "x"):
            raise ValueError(f"tilt_axis {self.tilt_axis!r} must be 'y' or 'x'")

    def _sector(self):
        """Return the (horizontal, beam) normals of the two edges of the measured sector."""
        low, high = (jnp.deg2rad(jnp.asarray(a, jnp.result_type(float))) for a in self.tilt_range)
        return (jnp.sin(high), -jnp.cos(high)), (-jnp.sin(low), jnp.cos(low))

    def _frame(self, z, y, x):
        """Return the horizontal and beam components of a vector in the frame of the acquisition."""
        if self.rotation is not None:
            r = jnp.asarray(self.rotation, jnp.result_type(float))
            z, y, x = (r[0, i] * z + r[1, i] * y + r[2, i] * x for i in range(3))  # R^T k
        return (x, z) if self.tilt_axis == "y" else (-y, z)

    def _measured(self, z, y, x):
        """Return the transfer at the given frequencies."""
        u, w = self._frame(z, y, x)
        sign = jnp.where(u < 0, -1.0, 1.0)  # M(-k) = M(k)
        u, w = u * sign, w * sign
        softness = jnp.asarray(self.softness, u.dtype)
        hard = jnp.ones_like(u * w, bool)
        soft = jnp.ones_like(u * w)
        width = jnp.where(softness > 0, softness, 1.0)
        for horizontal, beam in self._sector():
            distance = horizontal * u + beam * w
            hard &= distance >= -1e-6
            soft *= jax.nn.sigmoid(distance / width)
        # Every projection measures the tilt axis (u = w = 0).
        on_axis = (jnp.abs(u) < 1e-7) & (jnp.abs(w) < 1e-7)
        return jnp.where(on_axis, 1.0, jnp.where(softness > 0, soft, hard.astype(u.dtype)))

    def transfer(
        self, shape: Shape, voxel_size: fourier.Spacing = (1.0, 1.0, 1.0)
    ) -> Float[Array, "z y half_x"]:
        """Return the Fourier mask of a volume in rfftn layout, with values between 0 and 1.

        The mask is evaluated analytically as ``M(R^T k)``, without interpolation. A frequency on a
        Nyquist plane is kept only if its alias of opposite sign is also measured, so that the mask
        is Hermitian for every rotation and filtering is idempotent.

        Args:
            shape: shape of the volume, ``(z, y, x)``.
            voxel_size: only the ratios matter; `softness` refers to the smallest voxel size.
        """
        smallest = min(voxel_size)
        kz, ky, kx = fourier.frequencies(shape, tuple(v / smallest for v in voxel_size))
        mask = self._measured(kz, ky, kx)

        def alias(k, size):
            return jnp.where(jnp.arange(k.size).reshape(k.shape) * 2 == size, -k, k)

        az, ay, ax = alias(kz, shape[0]), alias(ky, shape[1]), alias(kx, shape[2])
        needed = [(az, ky, kx), (kz, ky, ax)]
        if self.rotation is not None:
            needed += [(kz, ay, kx), (kz, ay, ax), (az, ay, kx), (az, ky, ax), (az, ay, ax)]
        elif self.tilt_axis == "x":
            needed = [(az, ky, kx), (kz, ay, kx)]
        for aliased in needed:
            mask = jnp.minimum(mask, self._measured(*aliased))
        return jnp.broadcast_to(mask, (shape[0], shape[1], shape[2] // 2 + 1))

    def apply(self, volume: Volume) -> Volume:
        """Return the volume with unmeasured Fourier coefficients removed."""
        spectrum = fourier.rfftn(volume)
        return fourier.irfftn(
            spectrum * self.transfer(volume.shape).astype(spectrum.dtype), volume.shape
        )

    def rotate(self, rotation: Float[Array, "3 3"]) -> "MissingWedge":
        """Return the wedge of a volume that is rotated by this matrix (zyx order)."""
        rotation = jnp.asarray(rotation, jnp.result_type(float))
        if self.rotation is not None:
            rotation = rotation @ jnp.asarray(self.rotation, rotation.dtype)
        return dataclasses.replace(self, rotation=rotation)

    def as_numbers(self) -> "MissingWedge":
        """Return the wedge with plain numbers in tuples, which is hashable and can be static.

        >>> MissingWedge((-60.0, 60.0)).rotate(jnp.eye(3)).as_numbers().rotation[0]
        (1.0, 0.0, 0.0)
        """
        low, high = (float(a) for a in self.tilt_range)
        rotation = self.rotation
        if rotation is not None:
            rotation = tuple(tuple(float(v) for v in row) for row in np.asarray(rotation))
        return MissingWedge((low, high), self.tilt_axis, float(self.softness), rotation)

    def symmetries(self) -> tuple[tuple[int, ...], ...]:
        """Return the sets of array axes whose joint flip leaves this wedge unchanged.

        The transfer is compared numerically, which covers asymmetric tilt ranges and rotations.
        Call this outside `jax.jit`, because it needs concrete numbers.
        """
        rng = np.random.default_rng(0)
        k = rng.uniform(-0.5, 0.5, (3, 4096)).astype(jnp.result_type(float))
        measured = jax.jit(
            MissingWedge._measured
        )  # compile one program instead of one per operation
        reference = measured(self, *k)
        unchanged = []
        for count in range(4):
            for axes in itertools.combinations(range(3), count):
                flipped = [-k[i] if i in axes else k[i] for i in range(3)]
                if np.abs(measured(self, *flipped) - reference).mean() < 1e-3:
                    unchanged.append(axes)
        return tuple(unchanged)

    def about_y(self) -> "MissingWedge":
        """Return the same wedge expressed by tilts about y and a rotation matrix."""
        dtype = np.asarray(0.0, jnp.result_type(float)).dtype
        rotation = jnp.eye(3, dtype=dtype) if self.rotation is None else jnp.asarray(self.rotation)
        if self.tilt_axis == "x":
            rotation = rotation @ jnp.asarray(_X_FROM_Y, rotation.dtype)
        return MissingWedge(self.tilt_range, "y", self.softness, rotation)

    def visibility(
        self,
        normals: Float[Array, "*n 3"],
        extent_angstrom: Number = 60.0,
        thickness_angstrom: Number = 15.0,
    ) -> Float[Array, "*n"]:
        """Return the measured fraction of the Fourier energy of a planar patch.

        The patch is a Gaussian sheet, ``exp(-s^2 / 2 t^2)`` across and ``exp(-r^2 / 2 e^2)``
        along. Its power spectrum is a Gaussian, and so is the marginal in the plane
        ``(k_horizontal, k_beam)`` perpendicular to the tilt axis, where the measured region is a
        double sector. A linear map that whitens this Gaussian maps sectors to sectors, whose
        probability is their angle divided by pi. With ``m`` the normal in that plane,
        ``q = (e/t)^2 - 1`` and ``a, b`` the directions of the lowest and highest tilt::

            w = atan2(sin(high - low) sqrt(1 + q m.m),
                      cos(high - low) (1 + q m.m) - q (a.m)(b.m)) / pi

        Args:
            normals: unit vectors in zyx order.
            extent_angstrom: standard deviation e of the patch in its plane. Only its ratio to the
                thickness matters, so values of tomograms with other voxels are comparable.
            thickness_angstrom: standard deviation t of its profile.

        Returns:
            values between 0 (entirely in the missing wedge) and 1, differentiable in all arguments
            including the tilt range.

        >>> w = MissingWedge((-60.0, 60.0))
        >>> n = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])   # normals along x and along the beam
        >>> [round(float(v), 2) for v in w.visibility(n, extent_angstrom=180.0)]
        [0.97, 0.09]
        """
        normals = jnp.asarray(normals)
        dtype = normals.dtype
        low, high = (jnp.deg2rad(jnp.asarray(a, dtype)) for a in self.tilt_range)
        ratio = jnp.asarray(extent_angstrom, dtype) / jnp.asarray(thickness_angstrom, dtype)
        q = jnp.square(ratio) - 1
        u, w = self._frame(normals[..., 0], normals[..., 1], normals[..., 2])
        stretch = 1 + q * (u * u + w * w)
        along_low = jnp.cos(low) * u + jnp.sin(low) * w
        along_high = jnp.cos(high) * u + jnp.sin(high) * w
        angle = jnp.arctan2(
            jnp.abs(jnp.sin(high - low))
            * jnp.sqrt(stretch),  # for 180 degrees it may round below 0
            jnp.cos(high - low) * stretch - q * along_low * along_high,
        )
        return angle / jnp.pi


def unmeasured_noise(volume: Volume, transfer: Spectrum, key: Key) -> Volume:
    """Return noise at the unmeasured frequencies, with the power of the volume at measured ones.

    Args:
        volume: ``(z, y, x)``; the noise has the same power per coefficient.
        transfer: measured share of each frequency on the rfftn grid, see `MissingWedge.transfer`.
        key: random key of the noise.

    >>> wedge = MissingWedge((-60.0, 60.0))
    >>> transfer = wedge.transfer((8, 8, 8))
    >>> volume = jnp.ones((8, 8, 8)).at[4].set(2.0)
    >>> noise = unmeasured_noise(volume, transfer, jax.random.key(0))
    >>> bool(jnp.abs(wedge.apply(noise)).max() < 1e-5)
    True
    """
    deviation = jnp.std(volume) / jnp.sqrt(jnp.maximum(transfer.mean(), 1e-6))
    noise = deviation.astype(volume.dtype) * jax.random.normal(key, volume.shape, volume.dtype)
    return noise - fourier.apply_gain(noise, transfer)


def estimate_wedge(volume: np.ndarray) -> MissingWedge | None:
    """Estimate the tilt axis and range from the power spectrum of a volume, to about 2 degrees.

    In the plane perpendicular to the tilt axis, unmeasured directions carry hardly any power. The
    measured sector ends where the power per degree, between 0.1 and 0.45 cycles per voxel, falls
    below a third of its median.

    Args:
        volume: ``(z, y, x)`` as reconstructed; a restoration that fills the wedge hides it.

    Returns:
        a hard-edged wedge, or None if neither axis shows one.

    >>> noise = np.random.default_rng(0).normal(size=(48, 48, 48)).astype(np.float32)
    >>> wedge = estimate_wedge(np.asarray(MissingWedge((-50.0, 60.0)).apply(noise)))
    >>> wedge.tilt_axis, [round(a / 5) * 5 for a in wedge.tilt_range]
    ('y', [-50, 60])
    """
    tapered = np.asarray(volume, np.float32) - np.mean(volume, dtype=np.float64).astype(np.float32)
    for taper in fourier.hann_tapers(volume.shape):
        tapered = tapered * taper.astype(np.float32)
    power = np.abs(np.fft.rfftn(tapered)) ** 2
    kz, ky, kx = (np.asarray(k) for k in fourier.frequencies(volume.shape))
    found = {}
    for tilt_axis in ("y", "x"):
        across = 1 if tilt_axis == "y" else 2
        plane = power.mean(across)
        u = kx[0] if tilt_axis == "y" else -ky[:, :, 0]
        w = kz[:, :, 0]
        radius = np.hypot(u, w)
        angle = np.rad2deg(np.arctan2(w * np.where(u < 0, -1, 1), np.abs(u)))
        used = (radius > 0.1) & (radius < 0.45) & (u != 0)
        bins = np.clip(np.floor(angle[used] + 90).astype(int), 0, 179)
        total = np.bincount(bins, plane[used], 180)
        count = np.bincount(bins, minlength=180)
        window = np.ones(5)
        mean = np.convolve(total, window, "same") / np.maximum(
            np.convolve(count, window, "same"), 1
        )
        found[tilt_axis] = mean / np.median(mean[30:150])
    tilt_axis = min(found, key=lambda a: np.minimum(found[a][:15], found[a][-15:]).min())
    measured = found[tilt_axis] > 1 / 3
    inside = np.flatnonzero(measured)
    if inside[-1] - inside[0] >= 160:  # no stage tilts that far, so resampling caused the edge
        return None
    return MissingWedge((float(inside[0] - 90), float(inside[-1] - 89)), tilt_axis)
