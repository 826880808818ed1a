"""Scores of a segmentation: voxels, objects, surfaces, topology, particles, calibration.

Everything here runs on the host with NumPy and SciPy. Weights mean what they mean in training:
a voxel of weight 0 was not annotated and has no effect on any score, whatever it holds.
"""

from cryojax_seg.evaluate.bootstrap import bootstrap_ratio as bootstrap_ratio
from cryojax_seg.evaluate.bootstrap import by_bins as by_bins
from cryojax_seg.evaluate.calibration import Reliability as Reliability
from cryojax_seg.evaluate.calibration import brier_score as brier_score
from cryojax_seg.evaluate.calibration import (
    expected_calibration_error as expected_calibration_error,
)
from cryojax_seg.evaluate.calibration import foreground_band as foreground_band
from cryojax_seg.evaluate.calibration import reliability as reliability
from cryojax_seg.evaluate.detection import Detection as Detection
from cryojax_seg.evaluate.detection import Threshold as Threshold
from cryojax_seg.evaluate.detection import detection as detection
from cryojax_seg.evaluate.detection import fit_level as fit_level
from cryojax_seg.evaluate.detection import fit_threshold as fit_threshold
from cryojax_seg.evaluate.differences import Claim as Claim
from cryojax_seg.evaluate.differences import Difference as Difference
from cryojax_seg.evaluate.differences import paired_difference as paired_difference
from cryojax_seg.evaluate.mirrored import mirrored_axes as mirrored_axes
from cryojax_seg.evaluate.normals import mask_normals as mask_normals
from cryojax_seg.evaluate.operating_point import rank_inventions as rank_inventions
from cryojax_seg.evaluate.operating_point import (
    threshold_of_invention as threshold_of_invention,
)
from cryojax_seg.evaluate.operating_point import (
    threshold_of_precision as threshold_of_precision,
)
from cryojax_seg.evaluate.overlap import Overlap as Overlap
from cryojax_seg.evaluate.overlap import overlap as overlap
from cryojax_seg.evaluate.panoptic import Panoptic as Panoptic
from cryojax_seg.evaluate.panoptic import panoptic as panoptic
from cryojax_seg.evaluate.ranking import Ranking as Ranking
from cryojax_seg.evaluate.ranking import rank as rank
from cryojax_seg.evaluate.restoration import Audit as Audit
from cryojax_seg.evaluate.restoration import Invention as Invention
from cryojax_seg.evaluate.restoration import audit as audit
from cryojax_seg.evaluate.restoration import invention as invention
from cryojax_seg.evaluate.scores import VISIBILITY_BINS as VISIBILITY_BINS
from cryojax_seg.evaluate.scores import Calibration as Calibration
from cryojax_seg.evaluate.scores import ClassScores as ClassScores
from cryojax_seg.evaluate.scores import Scores as Scores
from cryojax_seg.evaluate.scores import score as score
from cryojax_seg.evaluate.surface import boundary_iou as boundary_iou
from cryojax_seg.evaluate.surface import hausdorff95 as hausdorff95
from cryojax_seg.evaluate.surface import surface_dice as surface_dice
from cryojax_seg.evaluate.topology import betti_error as betti_error
from cryojax_seg.evaluate.topology import betti_numbers as betti_numbers
from cryojax_seg.evaluate.visibility import PredictedBin as PredictedBin
from cryojax_seg.evaluate.visibility import VisibilityBin as VisibilityBin
from cryojax_seg.evaluate.visibility import precision_by_visibility as precision_by_visibility
from cryojax_seg.evaluate.visibility import recall_by_visibility as recall_by_visibility
from cryojax_seg.evaluate.visibility import wilson_interval as wilson_interval
