"""Restoration: functions from a volume to a volume, in front of a segmenter or by themselves."""

from cryojax_seg.restore.energy import EnergyTrained as EnergyTrained
from cryojax_seg.restore.energy import draws as draws
from cryojax_seg.restore.learned import Learned as Learned
from cryojax_seg.restore.learned import unet_restorer as unet_restorer
