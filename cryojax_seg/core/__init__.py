"""The contract, the values and the array operations everything else is built on."""

from cryojax_seg.core import fourier as fourier
from cryojax_seg.core import neighbourhood as neighbourhood
from cryojax_seg.core import tiling as tiling
from cryojax_seg.core.compilation import keep_compiled as keep_compiled
from cryojax_seg.core.intensity import Intensity as Intensity
from cryojax_seg.core.intensity import Normalized as Normalized
from cryojax_seg.core.intensity import measure_intensity as measure_intensity
from cryojax_seg.core.intensity import normalize as normalize
from cryojax_seg.core.segmenter import Restorer as Restorer
from cryojax_seg.core.segmenter import Segmenter as Segmenter
from cryojax_seg.core.segmenter import Sequential as Sequential
from cryojax_seg.core.segmenter import Stacked as Stacked
from cryojax_seg.core.segmenter import Symmetrized as Symmetrized
from cryojax_seg.core.segmenter import WedgeAware as WedgeAware
from cryojax_seg.core.segmenter import Wrapper as Wrapper
from cryojax_seg.core.segmenter import hyperparameters as hyperparameters
from cryojax_seg.core.segmenter import label_names as label_names
from cryojax_seg.core.segmenter import labels as labels
from cryojax_seg.core.segmenter import probabilities as probabilities
from cryojax_seg.core.tiling import Tiling as Tiling
from cryojax_seg.core.tiling import plan_tiles as plan_tiles
from cryojax_seg.core.tiling import segment as segment
from cryojax_seg.core.tiling import segment_tiles as segment_tiles
from cryojax_seg.core.tomogram import Tomogram as Tomogram
from cryojax_seg.core.wedge import MissingWedge as MissingWedge
from cryojax_seg.core.wedge import estimate_wedge as estimate_wedge
