"""Describes the optics, ice, detector and stage by a few numbers each."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from cryojax_seg import units
from cryojax_seg.core import ctf
from cryojax_seg.core.plain import TiltAxis
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array, Key, Number
from cryojax_seg.simulate.projection import Images, misalign

Noise = Literal["poisson", "gaussian", "none"]
Halves = Float[Array, "2 tilt y x"]


@register_pytree
@dataclasses.dataclass(frozen=True)
class Slab:
    """Describes the ice around the sample, which removes electrons from the image.

    Attributes:
        thickness: at the centre, angstrom.
        slope: increase of the thickness along y and x, angstrom per angstrom.
        waviness: amplitude of a slow wave of the thickness, angstrom.
        wave_length: of that wave along both axes, angstrom.
        mean_free_path: for inelastic scattering, angstrom (3800 to 4000 at 300 kV).
    """

    thickness: Any = 1500.0
    slope: Any = (0.0, 0.0)
    waviness: Any = 0.0
    wave_length: Any = 5000.0
    mean_free_path: Any = 3900.0

    def __post_init__(self):
        units.check("thickness", self.thickness, units.THICKNESS)
        ctf.check_between("thickness", self.thickness, 0, math.inf)
        ctf.check_between("wave_length", self.wave_length, 1, math.inf)
        ctf.check_between("mean_free_path", self.mean_free_path, 1, math.inf)

    def thickness_at(self, y: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the thickness of the untilted slab at positions in angstrom from its centre."""
        wave = jnp.sin(2 * jnp.pi * y / self.wave_length + 1) * jnp.sin(
            2 * jnp.pi * x / self.wave_length + 1
        )
        rise = self.slope[0] * y + self.slope[1] * x
        return jnp.maximum(self.thickness + rise + self.waviness * wave, 0.0)

    def transmission(
        self, y: Float[Array, "..."], x: Float[Array, "..."], angle: Number, tilt_axis: TiltAxis
    ) -> Float[Array, "..."]:
        """Return the share of electrons that stay in the image, ``exp(-t / (Lambda cos a))``.

        Args:
            y, x: positions on the detector, angstrom from its centre.
            angle: tilt in degrees, strictly between -90 and 90.
        """
        cosine = jnp.cos(jnp.deg2rad(angle))
        y, x = (y, x / cosine) if tilt_axis == "y" else (y / cosine, x)
        return jnp.exp(-self.thickness_at(y, x) / (self.mean_free_path * cosine))


@register_pytree
@dataclasses.dataclass(frozen=True)
class Microscope:
    """Describes the optics, and the potential that a density of 1 stands for.

    Attributes:
        transfer: `ctf.ContrastTransfer` at the tilt axis.
        potential_in_volts: inner potential of protein above ice.
    """

    transfer: ctf.ContrastTransfer = ctf.ContrastTransfer()
    potential_in_volts: Any = 2.5

    def phase(self, voxel_size: Number) -> Number:
        """Return the phase in radians that a voxel of density 1 adds to a projection.

        Args:
            voxel_size: edge of the voxel, angstrom.
        """
        constant = ctf.interaction_constant(self.transfer.voltage)
        return constant * self.potential_in_volts * voxel_size


@register_pytree
@dataclasses.dataclass(frozen=True)
class Detector:
    """Describes how the detector counts the electrons that arrive.

    Attributes:
        efficiency: share of the electrons that are counted. It scales the counts, and hence the
            signal-to-noise ratio, but not the radiation damage.
        mtf_at_nyquist: see `ctf.detector_mtf`; above 0. The detector blurs signal and noise alike.
        noise: "poisson" counts electrons; "gaussian" draws ``mu + sqrt(mu) eps``, with the same
            mean and variance and a gradient; "none" gives the expected counts.
    """

    efficiency: Any = 0.84
    mtf_at_nyquist: Any = 0.9
    noise: Noise = dataclasses.field(default="poisson", metadata={"static": True})

    def __post_init__(self):
        ctf.check_between("efficiency", self.efficiency, 1e-9, math.inf)
        ctf.check_between("mtf_at_nyquist", self.mtf_at_nyquist, 1e-3, 1)

    def count(self, expected: Images, key: Key) -> Halves:
        """Return the counts of two independent halves of the exposure, which sum to the whole."""
        mean = jnp.broadcast_to(expected / 2, (2, *expected.shape))
        match self.noise:
            case "poisson":
                return jax.random.poisson(key, jax.lax.stop_gradient(mean)).astype(mean.dtype)
            case "gaussian":
                return mean + jnp.sqrt(mean) * jax.random.normal(key, mean.shape, mean.dtype)
            case "none":
                return mean
        raise ValueError(f"noise {self.noise!r} must be 'poisson', 'gaussian' or 'none'")


@register_pytree
@dataclasses.dataclass(frozen=True)
class Misalignment:
    """Describes the errors of the stage that the reconstruction is not told about.

    Attributes:
        shift: standard deviation along y and x, angstrom.
        rotation: standard deviation in the plane of the image, degrees.
    """

    shift: Any = 5.0
    rotation: Any = 0.1

    def __post_init__(self):
        ctf.check_between("shift", self.shift, 0, math.inf)
        ctf.check_between("rotation", self.rotation, 0, 45)

    def apply(self, images: Images, voxel_size: Number, key: Key) -> Images:
        """Return the images, each shifted and rotated by its own random errors."""
        tilts, dtype = images.shape[0], images.dtype
        shift_key, rotation_key = jax.random.split(key)
        shifts = jax.random.normal(shift_key, (tilts, 2), dtype) * (self.shift / voxel_size)
        rotations = jax.random.normal(rotation_key, (tilts,), dtype) * self.rotation
        return misalign(images, shifts, rotations)
