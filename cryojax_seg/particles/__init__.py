"""Picks, extracts, aligns and averages particles, with the missing wedge of each.

A pose is a rotation and an offset: ``sample = R @ reference + offset``, about the middle voxel
``size // 2`` of a box, in zyx order.
"""

from cryojax_seg.particles.align import Poses as Poses
from cryojax_seg.particles.align import align_particles as align_particles
from cryojax_seg.particles.align import constrained_correlation as constrained_correlation
from cryojax_seg.particles.align import refine_poses as refine_poses
from cryojax_seg.particles.align import search_poses as search_poses
from cryojax_seg.particles.average import Average as Average
from cryojax_seg.particles.average import average_particles as average_particles
from cryojax_seg.particles.balls import pick_balls as pick_balls
from cryojax_seg.particles.balls import pick_classes as pick_classes
from cryojax_seg.particles.classify import Classification as Classification
from cryojax_seg.particles.classify import classify_particles as classify_particles
from cryojax_seg.particles.extract import Box as Box
from cryojax_seg.particles.extract import extends_outside as extends_outside
from cryojax_seg.particles.extract import extract_boxes as extract_boxes
from cryojax_seg.particles.extract import wedge_masks as wedge_masks
from cryojax_seg.particles.interpolate import resample as resample
from cryojax_seg.particles.interpolate import rotate as rotate
from cryojax_seg.particles.interpolate import shift as shift
from cryojax_seg.particles.interpolate import spline_coefficients as spline_coefficients
from cryojax_seg.particles.objects import as_labels as as_labels
from cryojax_seg.particles.objects import pick_objects as pick_objects
from cryojax_seg.particles.orientations import covering_angle as covering_angle
from cryojax_seg.particles.orientations import normals_at as normals_at
from cryojax_seg.particles.orientations import (
    orientations_from_normals as orientations_from_normals,
)
from cryojax_seg.particles.orientations import rotations_near as rotations_near
from cryojax_seg.particles.orientations import rotations_within as rotations_within
from cryojax_seg.particles.orientations import uniform_rotations as uniform_rotations
from cryojax_seg.particles.pick import distances_to as distances_to
from cryojax_seg.particles.pick import inside_mask as inside_mask
from cryojax_seg.particles.pick import pick_peaks as pick_peaks
from cryojax_seg.particles.pick import pick_regions as pick_regions
from cryojax_seg.particles.picking import Surroundings as Surroundings
from cryojax_seg.particles.picking import correlation_threshold as correlation_threshold
from cryojax_seg.particles.picking import listed as listed
from cryojax_seg.particles.picking import oriented_by_membrane as oriented_by_membrane
from cryojax_seg.particles.picking import pick_labels as pick_labels
from cryojax_seg.particles.picking import pick_maps as pick_maps
from cryojax_seg.particles.picking import within_distance as within_distance
from cryojax_seg.particles.refinement import FEWEST_FOR_RESOLUTION as FEWEST_FOR_RESOLUTION
from cryojax_seg.particles.refinement import Refinement as Refinement
from cryojax_seg.particles.refinement import half_sets as half_sets
from cryojax_seg.particles.refinement import refine_halves as refine_halves
from cryojax_seg.particles.resolution import ShellCorrelation as ShellCorrelation
from cryojax_seg.particles.resolution import find_resolution as find_resolution
from cryojax_seg.particles.resolution import masked_shell_correlation as masked_shell_correlation
from cryojax_seg.particles.resolution import soft_sphere as soft_sphere
from cryojax_seg.particles.template_matching import Match as Match
from cryojax_seg.particles.template_matching import match_template as match_template
