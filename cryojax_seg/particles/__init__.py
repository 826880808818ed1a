"""Particles: found, cut out, aligned and averaged, with the missing wedge of each.

A pose is a rotation and an offset: ``sample = R @ reference + offset``, about the middle voxel
``size // 2`` of a box, in zyx order.
"""

from cryojax_seg.particles.extract import Box as Box
from cryojax_seg.particles.extract import extract_boxes as extract_boxes
from cryojax_seg.particles.extract import reaches_outside as reaches_outside
from cryojax_seg.particles.interpolate import resample as resample
from cryojax_seg.particles.interpolate import rotate as rotate
from cryojax_seg.particles.interpolate import shift as shift
from cryojax_seg.particles.interpolate import spline_coefficients as spline_coefficients
from cryojax_seg.particles.orientations import covering_angle as covering_angle
from cryojax_seg.particles.orientations import normals_at as normals_at
from cryojax_seg.particles.orientations import (
    orientations_from_normals as orientations_from_normals,
)
from cryojax_seg.particles.orientations import rotations_near as rotations_near
from cryojax_seg.particles.orientations import rotations_within as rotations_within
from cryojax_seg.particles.orientations import uniform_rotations as uniform_rotations
