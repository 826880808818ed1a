"""From labels to numbers: areas, volumes and distances in physical units, with their uncertainty.

Masks and probabilities are ``(z, y, x)``, voxel sizes are in angstrom along z, y, x, and results
are in the unit of the voxel size, or in nanometres where a name says so.
"""

from cryojax_seg.measure.area import boundary_area as boundary_area
from cryojax_seg.measure.area import coarea as coarea
from cryojax_seg.measure.area import membrane_area as membrane_area
from cryojax_seg.measure.area import mesh_area as mesh_area
from cryojax_seg.measure.measured import Measured as Measured
from cryojax_seg.measure.objects import Instance as Instance
from cryojax_seg.measure.objects import components as components
from cryojax_seg.measure.objects import instances as instances
from cryojax_seg.measure.objects import split_bodies as split_bodies
from cryojax_seg.measure.objects import split_membranes as split_membranes
from cryojax_seg.measure.thickness import Sheet as Sheet
from cryojax_seg.measure.thickness import membrane_sheet as membrane_sheet
from cryojax_seg.measure.uncertainty import interval as interval
from cryojax_seg.measure.uncertainty import mask_draws as mask_draws
from cryojax_seg.measure.uncertainty import soft_volume as soft_volume
from cryojax_seg.measure.uncertainty import with_interval as with_interval
