"""Measures areas, volumes, lengths and distances of labels in physical units, with intervals.

Masks and probabilities are ``(z, y, x)``. The unit is in the name of a parameter, an attribute or a
function: ``_angstrom``, ``_nm``, ``_nm2``, ``_nm3``, ``_um``, ``_um3``. The only exceptions are
functions of geometry alone: they take a `voxel_size` in any unit and return powers of that unit.
Sub-modules load when first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
