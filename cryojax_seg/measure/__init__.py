"""From labels to numbers: areas, volumes and distances in physical units, with their uncertainty.

Masks and probabilities are ``(z, y, x)``, voxel sizes are in angstrom along z, y, x, and results
are in the unit of the voxel size, or in nanometres where a name says so.
"""

from cryojax_seg.measure.area import boundary_area as boundary_area
from cryojax_seg.measure.area import coarea as coarea
from cryojax_seg.measure.area import membrane_area as membrane_area
from cryojax_seg.measure.centreline import Filament as Filament
from cryojax_seg.measure.curvature import Curvature as Curvature
from cryojax_seg.measure.curvature import level_set_curvature as level_set_curvature
from cryojax_seg.measure.filaments import FilamentRow as FilamentRow
from cryojax_seg.measure.filaments import FilamentSummary as FilamentSummary
from cryojax_seg.measure.filaments import measure_filaments as measure_filaments
from cryojax_seg.measure.kinds import KINDS as KINDS
from cryojax_seg.measure.kinds import Kind as Kind
from cryojax_seg.measure.kinds import is_hollow as is_hollow
from cryojax_seg.measure.kinds import kind_of as kind_of
from cryojax_seg.measure.measured import Measured as Measured
from cryojax_seg.measure.mesh import Mesh as Mesh
from cryojax_seg.measure.mesh import Surface as Surface
from cryojax_seg.measure.mesh import body_surface as body_surface
from cryojax_seg.measure.mesh import boundary_mesh as boundary_mesh
from cryojax_seg.measure.mesh import mesh_area as mesh_area
from cryojax_seg.measure.midsurface import membrane_mesh as membrane_mesh
from cryojax_seg.measure.midsurface import oriented_normals as oriented_normals
from cryojax_seg.measure.midsurface import sheet_curvature as sheet_curvature
from cryojax_seg.measure.neighbours import membrane_distance as membrane_distance
from cryojax_seg.measure.network import Orientation as Orientation
from cryojax_seg.measure.network import median_spacing as median_spacing
from cryojax_seg.measure.network import neighbour_spacing as neighbour_spacing
from cryojax_seg.measure.network import orientation as orientation
from cryojax_seg.measure.network import persistence_length as persistence_length
from cryojax_seg.measure.objects import Instance as Instance
from cryojax_seg.measure.objects import components as components
from cryojax_seg.measure.objects import instances as instances
from cryojax_seg.measure.objects import split_bodies as split_bodies
from cryojax_seg.measure.objects import split_membranes as split_membranes
from cryojax_seg.measure.organelles import Body as Body
from cryojax_seg.measure.organelles import Distances as Distances
from cryojax_seg.measure.organelles import Lumen as Lumen
from cryojax_seg.measure.organelles import distances as distances
from cryojax_seg.measure.organelles import lumen as lumen
from cryojax_seg.measure.organelles import measure_body as measure_body
from cryojax_seg.measure.pairs import PairCorrelation as PairCorrelation
from cryojax_seg.measure.pairs import Region as Region
from cryojax_seg.measure.pairs import pair_correlation as pair_correlation
from cryojax_seg.measure.sections import soft_length as soft_length
from cryojax_seg.measure.spatial import ComplexRow as ComplexRow
from cryojax_seg.measure.spatial import ComplexSummary as ComplexSummary
from cryojax_seg.measure.spatial import complex_centres as complex_centres
from cryojax_seg.measure.spatial import measure_complexes as measure_complexes
from cryojax_seg.measure.thickness import Sheet as Sheet
from cryojax_seg.measure.thickness import membrane_sheet as membrane_sheet
from cryojax_seg.measure.tracing import TracingLimits as TracingLimits
from cryojax_seg.measure.tracing import refit as refit
from cryojax_seg.measure.tracing import trace_filaments as trace_filaments
from cryojax_seg.measure.uncertainty import interval as interval
from cryojax_seg.measure.uncertainty import interval_if_present as interval_if_present
from cryojax_seg.measure.uncertainty import mask_draws as mask_draws
from cryojax_seg.measure.uncertainty import soft_volume as soft_volume
from cryojax_seg.measure.uncertainty import with_interval as with_interval
