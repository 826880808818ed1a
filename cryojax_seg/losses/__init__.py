"""Losses ``loss(logits, labels, weights) -> scalar``; weight 0 means not annotated."""

from cryojax_seg.losses.objective import Objective as Objective
from cryojax_seg.losses.objective import add as add
from cryojax_seg.losses.objective import combine as combine
from cryojax_seg.losses.objective import deep_supervision as deep_supervision
from cryojax_seg.losses.objective import default_objective as default_objective
from cryojax_seg.losses.objective import supervised as supervised
from cryojax_seg.losses.overlap import dice as dice
from cryojax_seg.losses.overlap import tversky as tversky
from cryojax_seg.losses.topology import cl_dice as cl_dice
from cryojax_seg.losses.topology import skeleton_recall as skeleton_recall
from cryojax_seg.losses.topology import soft_skeleton as soft_skeleton
from cryojax_seg.losses.topology import surface_dice as surface_dice
from cryojax_seg.losses.topology import surface_skeleton as surface_skeleton
from cryojax_seg.losses.voxel import cross_entropy as cross_entropy
from cryojax_seg.losses.voxel import focal as focal
from cryojax_seg.losses.voxel import log_mse as log_mse
from cryojax_seg.losses.wedge import equivariant as equivariant
from cryojax_seg.losses.wedge import forward_model as forward_model
from cryojax_seg.losses.wedge import hallucination as hallucination
from cryojax_seg.losses.wedge import visibility_weighted as visibility_weighted
