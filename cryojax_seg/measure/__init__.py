"""Measures areas, volumes, lengths and distances of labels in physical units, with intervals.

Masks and probabilities are ``(z, y, x)``. The unit is in the name of a parameter, an attribute or a
function: ``_angstrom``, ``_nm``, ``_nm2``, ``_nm3``, ``_um``, ``_um3``. The only exceptions are
functions of geometry alone: they take a `voxel_size` in any unit and return powers of that unit.
"""

from cryojax_seg.measure.apposition import Apposition as Apposition
from cryojax_seg.measure.apposition import Distances as Distances
from cryojax_seg.measure.apposition import apposition as apposition
from cryojax_seg.measure.apposition import distances as distances
from cryojax_seg.measure.area import boundary_area as boundary_area
from cryojax_seg.measure.area import coarea as coarea
from cryojax_seg.measure.area import membrane_area as membrane_area
from cryojax_seg.measure.boxes import ObjectBox as ObjectBox
from cryojax_seg.measure.boxes import ObjectBoxes as ObjectBoxes
from cryojax_seg.measure.centreline import Filament as Filament
from cryojax_seg.measure.classes import measure_classes as measure_classes
from cryojax_seg.measure.complexes import ComplexRow as ComplexRow
from cryojax_seg.measure.complexes import ComplexSummary as ComplexSummary
from cryojax_seg.measure.complexes import complex_centres as complex_centres
from cryojax_seg.measure.complexes import measure_complexes as measure_complexes
from cryojax_seg.measure.curvature import Curvature as Curvature
from cryojax_seg.measure.curvature import level_set_curvature as level_set_curvature
from cryojax_seg.measure.enclosed import Lumen as Lumen
from cryojax_seg.measure.enclosed import lumen as lumen
from cryojax_seg.measure.enclosure import Enclosure as Enclosure
from cryojax_seg.measure.enclosure import enclosures as enclosures
from cryojax_seg.measure.errors import SizeErrors as SizeErrors
from cryojax_seg.measure.errors import filament_doubt as filament_doubt
from cryojax_seg.measure.errors import fit_size_errors as fit_size_errors
from cryojax_seg.measure.errors import membrane_doubt as membrane_doubt
from cryojax_seg.measure.errors import openness as openness
from cryojax_seg.measure.filaments import FilamentRow as FilamentRow
from cryojax_seg.measure.filaments import FilamentSummary as FilamentSummary
from cryojax_seg.measure.filaments import measure_filaments as measure_filaments
from cryojax_seg.measure.kinds import KINDS as KINDS
from cryojax_seg.measure.kinds import Kind as Kind
from cryojax_seg.measure.kinds import filament_of as filament_of
from cryojax_seg.measure.kinds import kind_of as kind_of
from cryojax_seg.measure.known_errors import bias_of_predictions as bias_of_predictions
from cryojax_seg.measure.measured import Measured as Measured
from cryojax_seg.measure.measured import total as total
from cryojax_seg.measure.membranes import MembraneRow as MembraneRow
from cryojax_seg.measure.membranes import MembraneSummary as MembraneSummary
from cryojax_seg.measure.membranes import measure_membranes as measure_membranes
from cryojax_seg.measure.mesh import Mesh as Mesh
from cryojax_seg.measure.mesh import Surface as Surface
from cryojax_seg.measure.mesh import boundary_mesh as boundary_mesh
from cryojax_seg.measure.mesh import boundary_surface as boundary_surface
from cryojax_seg.measure.mesh import mesh_area as mesh_area
from cryojax_seg.measure.midsurface import membrane_mesh as membrane_mesh
from cryojax_seg.measure.midsurface import oriented_normals as oriented_normals
from cryojax_seg.measure.midsurface import sheet_curvature as sheet_curvature
from cryojax_seg.measure.network import Orientation as Orientation
from cryojax_seg.measure.network import (
    least_persistence_length_angstrom as least_persistence_length_angstrom,
)
from cryojax_seg.measure.network import median_spacing_angstrom as median_spacing_angstrom
from cryojax_seg.measure.network import neighbour_spacing_angstrom as neighbour_spacing_angstrom
from cryojax_seg.measure.network import orientation as orientation
from cryojax_seg.measure.network import persistence_length_angstrom as persistence_length_angstrom
from cryojax_seg.measure.objects import Instance as Instance
from cryojax_seg.measure.objects import components as components
from cryojax_seg.measure.objects import instances as instances
from cryojax_seg.measure.objects import renumber as renumber
from cryojax_seg.measure.objects import split_at_necks as split_at_necks
from cryojax_seg.measure.objects import split_at_valleys as split_at_valleys
from cryojax_seg.measure.objects import split_membranes as split_membranes
from cryojax_seg.measure.objects import split_touching as split_touching
from cryojax_seg.measure.objects import whole_numbers as whole_numbers
from cryojax_seg.measure.organelles import ObjectShape as ObjectShape
from cryojax_seg.measure.organelles import OrganelleRow as OrganelleRow
from cryojax_seg.measure.organelles import OrganelleSummary as OrganelleSummary
from cryojax_seg.measure.organelles import measure_organelles as measure_organelles
from cryojax_seg.measure.organelles import object_shape as object_shape
from cryojax_seg.measure.outlines import Gap as Gap
from cryojax_seg.measure.outlines import Outline as Outline
from cryojax_seg.measure.outlines import gaps as gaps
from cryojax_seg.measure.outlines import outline as outline
from cryojax_seg.measure.outlines import tube as tube
from cryojax_seg.measure.pairs import PairCorrelation as PairCorrelation
from cryojax_seg.measure.pairs import pair_correlation as pair_correlation
from cryojax_seg.measure.region import Region as Region
from cryojax_seg.measure.results import MeasuredClass as MeasuredClass
from cryojax_seg.measure.results import Measurements as Measurements
from cryojax_seg.measure.scene import ObjectClass as ObjectClass
from cryojax_seg.measure.sections import soft_length as soft_length
from cryojax_seg.measure.separation import lumens as lumens
from cryojax_seg.measure.separation import number_membranes as number_membranes
from cryojax_seg.measure.separation import separate_membranes as separate_membranes
from cryojax_seg.measure.thickness import Sheet as Sheet
from cryojax_seg.measure.thickness import membrane_sheet as membrane_sheet
from cryojax_seg.measure.tracing import TracingLimits as TracingLimits
from cryojax_seg.measure.tracing import refit as refit
from cryojax_seg.measure.tracing import trace_filaments as trace_filaments
from cryojax_seg.measure.uncertainty import interval as interval
from cryojax_seg.measure.uncertainty import interval_if_present as interval_if_present
from cryojax_seg.measure.uncertainty import sample_masks as sample_masks
from cryojax_seg.measure.uncertainty import soft_volume as soft_volume
from cryojax_seg.measure.uncertainty import with_interval as with_interval
