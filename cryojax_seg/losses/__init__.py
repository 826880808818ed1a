"""Provides losses ``loss(logits, labels, weights)`` and objectives ``objective(operator, batch)``.

Voxels of weight 0 are not annotated.
"""

from cryojax_seg.core.loss import Objective as Objective
from cryojax_seg.core.loss import combine as combine
from cryojax_seg.core.loss import cross_entropy as cross_entropy
from cryojax_seg.core.loss import dice as dice
from cryojax_seg.core.loss import supervised as supervised
from cryojax_seg.core.loss import tversky as tversky
from cryojax_seg.losses.adversarial import EnergyTrained as EnergyTrained
from cryojax_seg.losses.adversarial import adversarial as adversarial
from cryojax_seg.losses.consistency import equivariant as equivariant
from cryojax_seg.losses.noise2clean import noise2clean as noise2clean
from cryojax_seg.losses.objective import add as add
from cryojax_seg.losses.objective import deep_supervision as deep_supervision
from cryojax_seg.losses.objective import select as select
from cryojax_seg.losses.self_supervised import DEEPDEWEDGE as DEEPDEWEDGE
from cryojax_seg.losses.self_supervised import EQUIVARIANT as EQUIVARIANT
from cryojax_seg.losses.self_supervised import ISONET as ISONET
from cryojax_seg.losses.self_supervised import ISONET2 as ISONET2
from cryojax_seg.losses.self_supervised import NOISE2NOISE as NOISE2NOISE
from cryojax_seg.losses.self_supervised import Recipe as Recipe
from cryojax_seg.losses.self_supervised import restoration as restoration
from cryojax_seg.losses.topology import cl_dice as cl_dice
from cryojax_seg.losses.topology import skeleton_recall as skeleton_recall
from cryojax_seg.losses.topology import soft_skeleton as soft_skeleton
from cryojax_seg.losses.topology import surface_dice as surface_dice
from cryojax_seg.losses.topology import surface_skeleton as surface_skeleton
from cryojax_seg.losses.voxel import focal as focal
from cryojax_seg.losses.voxel import log_mse as log_mse
from cryojax_seg.losses.wedge import visibility_weighted as visibility_weighted
