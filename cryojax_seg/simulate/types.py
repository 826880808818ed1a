"""Defines the names of classes and the shapes of points that the simulation uses."""

from jaxtyping import Float, Int

from cryojax_seg.core.types import Array

CLASSES = ("background", "membrane", "lumen", "microtubule", "actin", "macromolecule")
BACKGROUND, MEMBRANE, LUMEN, MICROTUBULE, ACTIN, MACROMOLECULE = range(len(CLASSES))

Points = Float[Array, "*n 3"]  # angstrom, zyx
Values = Float[Array, "*n"]
Classes = Int[Array, "*n"]
