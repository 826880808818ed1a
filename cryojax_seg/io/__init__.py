"""Files in and out: volumes, annotations and saved models, refused clearly or read rightly."""

from cryojax_seg.io.files import FileError as FileError
from cryojax_seg.io.files import HeaderWarning as HeaderWarning
from cryojax_seg.io.files import atomic_folder as atomic_folder
from cryojax_seg.io.files import atomic_write as atomic_write
from cryojax_seg.io.mrc import read_mrc as read_mrc
from cryojax_seg.io.mrc import write_mrc as write_mrc
from cryojax_seg.io.tiff import read_tiff as read_tiff
from cryojax_seg.io.volume import read_tomogram as read_tomogram
