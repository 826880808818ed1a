"""What the parts of the simulation share: names of the classes and shapes of points."""

from jaxtyping import Float, Int

from cryojax_seg.core.types import Array

CLASSES = ("background", "membrane", "lumen", "microtubule", "actin", "macromolecule")
BACKGROUND, MEMBRANE, LUMEN, MICROTUBULE, ACTIN, MACROMOLECULE = range(len(CLASSES))

Points = Float[Array, "*n 3"]  # angstrom, zyx
Values = Float[Array, "*n"]
Classes = Int[Array, "*n"]
