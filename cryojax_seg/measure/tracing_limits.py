"""States how filaments of a class may look, which decides how they are traced."""

import dataclasses
import math

from cryojax_seg.measure.kinds import filament_of


@dataclasses.dataclass(frozen=True)
class TracingLimits:
    """Sets the limits that decide what counts as a filament, and where it ends.

    Attributes:
        minimum_length_angstrom: shorter filaments are left out.
        maximum_curvature_per_nm: an axis of larger curvature is cut into two filaments. The default
            of 0.05 is a radius of 20 nm, less than actin (1 / 100 nm is already strongly bent) or
            microtubules have.
        maximum_gap_angstrom: the largest gap between two ends that are joined.
        maximum_angle_degrees: the largest angle between two ends that are joined.
        lumen_radius_angstrom: hollow filaments are filled up to this radius; 0 fills holes of one
            voxel.
        wall_radius_angstrom: the radius of the middle of the wall of tubes (110 for microtubules),
            whose axes are then found by their shape (`tube_axes.tube_axes`), hollow or filled. A
            mask without any is traced as usual, as it is for 0.
        round_ends: whether the mask contains all points within a radius of the axis, as if drawn
            with a ball, so that the half ball at each end is not part of the length.

    >>> TracingLimits(lumen_radius_angstrom=90.0).minimum_length_angstrom
    200.0
    """

    minimum_length_angstrom: float | int = 200.0
    maximum_curvature_per_nm: float | int = 0.05
    maximum_gap_angstrom: float | int = 150.0
    maximum_angle_degrees: float | int = 40.0
    lumen_radius_angstrom: float | int = 0.0
    wall_radius_angstrom: float | int = 0.0
    round_ends: bool = False

    def __post_init__(self):
        for name in ("maximum_curvature_per_nm", "maximum_angle_degrees"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in (
            "minimum_length_angstrom",
            "maximum_gap_angstrom",
            "lumen_radius_angstrom",
            "wall_radius_angstrom",
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")

    @classmethod
    def of_class(cls, name: str, round_ends: bool = False) -> "TracingLimits":
        """Return the limits for the filaments of a class, by its name.

        Microtubules in fibroblasts break at a curvature of 1.5 per micrometre with a standard
        deviation of 1.0 (24 of them, Odde et al., J. Cell Sci. 112, 3283, 1999, as quoted in
        doi:10.1038/s41598-022-24912-0); the limit is 2.5 standard deviations above, a radius of
        250 nm. F-actin breaks in a knot narrower than 0.4 micrometres (Arai et al., Nature 399,
        466, 1999); the limit is a fourth of its radius, 50 nm, since that knot is an average over
        its turns.

        >>> TracingLimits.of_class("MT").maximum_curvature_per_nm
        0.004
        """
        known = {
            "microtubule": {
                "maximum_curvature_per_nm": 0.004,
                "lumen_radius_angstrom": 90.0,
                "wall_radius_angstrom": 110.0,
            },
            "doublet": {"maximum_curvature_per_nm": 0.004, "lumen_radius_angstrom": 90.0},
            "actin": {"maximum_curvature_per_nm": 0.02},
            None: {},
        }
        return cls(round_ends=round_ends, **known[filament_of(name)])

    @property
    def scale_angstrom(self) -> float:
        """Return the shortest wave of an axis: a bend of it loses a thousandth of its height."""
        return 10 / self.maximum_curvature_per_nm
