"""Files in and out: volumes, annotations and saved models, refused clearly or read rightly."""

from cryojax_seg.io.annotation import Annotation as Annotation
from cryojax_seg.io.annotation import annotate as annotate
from cryojax_seg.io.annotation import read_labels as read_labels
from cryojax_seg.io.files import FileError as FileError
from cryojax_seg.io.files import HeaderWarning as HeaderWarning
from cryojax_seg.io.files import atomic_folder as atomic_folder
from cryojax_seg.io.files import atomic_write as atomic_write
from cryojax_seg.io.model import ModelCard as ModelCard
from cryojax_seg.io.model import load_model as load_model
from cryojax_seg.io.model import save_model as save_model
from cryojax_seg.io.modules import ModelError as ModelError
from cryojax_seg.io.mrc import read_mrc as read_mrc
from cryojax_seg.io.mrc import write_mrc as write_mrc
from cryojax_seg.io.paint import offset_from_path as offset_from_path
from cryojax_seg.io.paint import paint_path as paint_path
from cryojax_seg.io.paint import paint_points as paint_points
from cryojax_seg.io.paint import read_points as read_points
from cryojax_seg.io.paint import sample_path as sample_path
from cryojax_seg.io.star import euler_angles as euler_angles
from cryojax_seg.io.star import write_star as write_star
from cryojax_seg.io.summary import Description as Description
from cryojax_seg.io.summary import describe as describe
from cryojax_seg.io.tiff import read_tiff as read_tiff
from cryojax_seg.io.volume import read_tomogram as read_tomogram
