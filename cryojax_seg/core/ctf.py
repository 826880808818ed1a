"""Models contrast transfer, radiation damage and detector response by spatial frequency.

Sign conventions: defocus is positive under focus. The intensity of a weak phase object of
phase ``p`` is ``1 + 2 CTF * p`` with

    CTF(k) = -sin(chi(k) + arcsin w) exp(-B k^2 / 4)
    chi(k) = pi lambda k^2 z - (pi / 2) C_s lambda^3 k^4 + phase shift
    z      = defocus + (astigmatism / 2) cos 2(angle of k - azimuth)

(Mindell & Grigorieff 2003; Rohou & Grigorieff 2015, equations 2 to 4), so that under focus the CTF
starts at -w, stays negative up to its first zero, and dense structure is dark.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Float

from cryojax_seg import units
from cryojax_seg.core.pytrees import register_pytree
from cryojax_seg.core.types import Array, Number

_REST_ENERGY = 510998.95  # of the electron, eV
_PLANCK_TIMES_C = 12398.419843320026  # eV angstrom


def wavelength(voltage_kv: Number) -> Number:
    """Return the relativistic electron wavelength in angstrom, ``hc / sqrt(E^2 + 2 E m c^2)``.

    >>> round(wavelength(300.0), 6)
    0.019687
    """
    energy = voltage_kv * 1e3
    return _PLANCK_TIMES_C / (energy * (energy + 2 * _REST_ENERGY)) ** 0.5


def interaction_constant(voltage_kv: Number) -> Number:
    """Return the phase shift per projected potential, in radians per volt and angstrom.

    Source: Kirkland 2010, equation 5.6.

    >>> round(interaction_constant(300.0), 7)
    0.0006526
    """
    energy = voltage_kv * 1e3
    relativity = (_REST_ENERGY + energy) / (2 * _REST_ENERGY + energy)
    return 2 * jnp.pi * relativity / (wavelength(voltage_kv) * energy)


def check_between(name: str, value: Any, low: float | int, high: float | int) -> None:
    """Refuse a plain number outside its range; traced and array values are not checked.

    Raises:
        ValueError: if the value lies outside the range.
    """
    if isinstance(value, float | int) and not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, got {value}")


@register_pytree
@dataclasses.dataclass(frozen=True)
class ContrastTransfer:
    """Computes the contrast transfer function above, differentiable in every parameter.

    Attributes:
        defocus: mean of the two principal defoci, angstrom, positive under focus.
        astigmatism: the greater principal defocus minus the other, angstrom.
        azimuth: direction of the greater defocus, degrees from x towards y.
        spherical_aberration: C_s, millimetres.
        voltage: acceleration voltage, kilovolts.
        amplitude_contrast: w, between 0 and 1.
        phase_shift: phase shift of a phase plate, degrees.
        b_factor: B of the envelope, square angstrom.

    >>> transfer = ContrastTransfer(defocus=30_000.0)
    >>> [round(float(transfer(0.0, k)), 2) for k in (0.0, 0.02, 0.04)]
    [-0.07, -0.73, -0.1]
    """

    defocus: Any = 40_000.0
    astigmatism: Any = 0.0
    azimuth: Any = 0.0
    spherical_aberration: Any = 2.7
    voltage: Any = 300.0
    amplitude_contrast: Any = 0.07
    phase_shift: Any = 0.0
    b_factor: Any = 0.0

    def __post_init__(self):
        units.check("defocus", self.defocus, units.DEFOCUS_ANGSTROM)
        units.check("voltage", self.voltage, units.VOLTAGE)
        units.check("spherical_aberration", self.spherical_aberration, units.ABERRATION)
        units.check("amplitude_contrast", self.amplitude_contrast, units.AMPLITUDE)
        check_between("voltage", self.voltage, 1, 3000)
        check_between("spherical_aberration", self.spherical_aberration, 0, 100)
        check_between("amplitude_contrast", self.amplitude_contrast, 0, 1)

    def __call__(
        self, k_y: Number | Float[Array, "..."], k_x: Number | Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Return the transfer at frequencies in cycles per angstrom; the arguments broadcast."""
        k_y, k_x = jnp.asarray(k_y), jnp.asarray(k_x)
        azimuth = jnp.deg2rad(self.azimuth)
        squared = jnp.square(k_y) + jnp.square(k_x)
        # k^2 cos 2(angle - azimuth), without the angle, which is undefined at k = 0
        stretched = (jnp.square(k_x) - jnp.square(k_y)) * jnp.cos(2 * azimuth)
        stretched += 2 * k_x * k_y * jnp.sin(2 * azimuth)
        length = wavelength(self.voltage)
        aberration = self.spherical_aberration * 1e7  # angstrom
        chi = (
            jnp.pi * length * (self.defocus * squared + self.astigmatism / 2 * stretched)
            - jnp.pi / 2 * aberration * length**3 * jnp.square(squared)
            + jnp.deg2rad(self.phase_shift)
            + jnp.arcsin(self.amplitude_contrast)
        )
        return -jnp.sin(chi) * jnp.exp(-self.b_factor / 4 * squared)


def critical_exposure(k: Float[Array, "..."], voltage_kv: Number = 300.0) -> Float[Array, "..."]:
    """Return the exposure, in electrons per A^2, at which the amplitude falls to exp(-1/2).

    ``0.245 k^-1.665 + 2.81`` at 300 kV, 0.8 of that at 200 kV (Grant & Grigorieff 2015, equation 3
    and page 8), interpolated linearly between.

    Args:
        k: frequencies, cycles per angstrom; 0 is never damaged.
        voltage_kv: acceleration voltage, kilovolts.

    >>> [round(float(critical_exposure(jnp.array(k))), 1) for k in (0.05, 0.1, 0.25)]
    [38.7, 14.1, 5.3]
    """
    at_300 = 0.245 * jnp.maximum(k, 1e-6) ** -1.665 + 2.81
    return at_300 * (0.8 + 0.2 * (voltage_kv - 200) / 100)


def damage(
    k: Float[Array, "..."], exposure: Number, voltage_kv: Number = 300.0
) -> Float[Array, "..."]:
    """Return the amplitude that remains at `k` after an accumulated exposure, ``exp(-D / 2 D_c)``.

    >>> round(float(damage(jnp.array(0.1), 14.1)), 2)
    0.61
    """
    return jnp.exp(-exposure / (2 * critical_exposure(k, voltage_kv)))


def detector_mtf(k: Float[Array, "..."], at_nyquist: Number) -> Float[Array, "..."]:
    """Return the modulation transfer of a detector, modelled as a Gaussian that is 1 at 0.

    Args:
        k: frequencies, cycles per pixel.
        at_nyquist: value at half a cycle per pixel, between 0 and 1. For images binned b times it
            is ``at_nyquist**(1 / b^2)`` of the unbinned detector.

    >>> round(float(detector_mtf(jnp.array(0.25), 0.5)), 3)
    0.841
    """
    return jnp.exp(jnp.log(at_nyquist) * jnp.square(2 * k))
