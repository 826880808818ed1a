"""Provides all segmentation methods, from a threshold to a network, as one kind of object."""

from cryojax_seg.segmenters.calibrated import Isotonic as Isotonic
from cryojax_seg.segmenters.calibrated import Tempered as Tempered
from cryojax_seg.segmenters.calibrated import fit_isotonic as fit_isotonic
from cryojax_seg.segmenters.calibrated import fit_temperature as fit_temperature
from cryojax_seg.segmenters.conditioned import WedgeConditioned as WedgeConditioned
from cryojax_seg.segmenters.convnet import ConvNet as ConvNet
from cryojax_seg.segmenters.hysteresis import Hysteresis as Hysteresis
from cryojax_seg.segmenters.local_threshold import LocalThreshold as LocalThreshold
from cryojax_seg.segmenters.normalization import fit_normalization as fit_normalization
from cryojax_seg.segmenters.precision import Bfloat16 as Bfloat16
from cryojax_seg.segmenters.precision import disagreement as disagreement
from cryojax_seg.segmenters.precision import in_bfloat16 as in_bfloat16
from cryojax_seg.segmenters.ridge import BlobFilter as BlobFilter
from cryojax_seg.segmenters.ridge import SheetFilter as SheetFilter
from cryojax_seg.segmenters.ridge import TubeFilter as TubeFilter
from cryojax_seg.segmenters.tensor_voting import TensorVoting as TensorVoting
from cryojax_seg.segmenters.threshold import GlobalThreshold as GlobalThreshold
from cryojax_seg.segmenters.threshold import false_positive_rate as false_positive_rate
from cryojax_seg.segmenters.threshold import otsu as otsu
from cryojax_seg.segmenters.threshold import percentile as percentile
from cryojax_seg.segmenters.tomoseg import Tomoseg as Tomoseg
from cryojax_seg.segmenters.truncated import Truncated as Truncated
from cryojax_seg.segmenters.truncated import fit_halo as fit_halo
from cryojax_seg.segmenters.unet import UNet as UNet
from cryojax_seg.segmenters.unet import unet_preset as unet_preset
from cryojax_seg.segmenters.voting import LinearVote as LinearVote
