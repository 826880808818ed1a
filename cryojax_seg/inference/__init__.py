"""Models applied to data: in memory or from file to file, streamed, bounded and resumable."""

from cryojax_seg.inference.engine import Engine as Engine
from cryojax_seg.inference.engine import choose as choose_engine  # noqa: F401
from cryojax_seg.inference.model import Model as Model
from cryojax_seg.inference.model import load as load
from cryojax_seg.inference.model import load_restorer as load_restorer
from cryojax_seg.inference.planning import How as How
from cryojax_seg.inference.planning import Plan as Plan
from cryojax_seg.inference.planning import plan as plan
from cryojax_seg.inference.restoration import Deconvolution as Deconvolution
from cryojax_seg.inference.restoration import Restored as Restored
from cryojax_seg.inference.restoration import restore_file as restore_file
from cryojax_seg.inference.restored import restore as restore
from cryojax_seg.inference.segmentation import Segmented as Segmented
from cryojax_seg.inference.segmentation import map_paths as map_paths
from cryojax_seg.inference.segmentation import segment as segment
from cryojax_seg.inference.segmentation import segment_file as segment_file
from cryojax_seg.io.normalized import normalized as normalized
