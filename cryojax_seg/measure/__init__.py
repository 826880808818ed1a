"""From labels to numbers: areas, volumes and distances in physical units, with their uncertainty.

Masks and probabilities are ``(z, y, x)``, voxel sizes are in angstrom along z, y, x, and results
are in the unit of the voxel size, or in nanometres where a name says so.
"""

from cryojax_seg.measure.measured import Measured as Measured
from cryojax_seg.measure.uncertainty import interval as interval
from cryojax_seg.measure.uncertainty import mask_draws as mask_draws
from cryojax_seg.measure.uncertainty import soft_volume as soft_volume
from cryojax_seg.measure.uncertainty import with_interval as with_interval
