"""Export segmenters to inference engines other than JAX."""

from cryojax_seg.export.openvino import OpenVINOProgram as OpenVINOProgram
from cryojax_seg.export.openvino import installed as installed
from cryojax_seg.export.openvino import openvino_model as openvino_model
from cryojax_seg.export.openvino import require as require
from cryojax_seg.export.openvino import requirements as requirements
from cryojax_seg.export.openvino import supports as supports
from cryojax_seg.export.openvino import write_openvino as write_openvino
