"""Export segmenters to inference engines other than JAX."""

from cryojax_seg.export.openvino import installed as installed
from cryojax_seg.export.openvino import openvino_model as openvino_model
from cryojax_seg.export.openvino import require as require
from cryojax_seg.export.openvino import requirements as requirements
from cryojax_seg.export.openvino import supports as supports
from cryojax_seg.export.openvino import write_openvino as write_openvino
from cryojax_seg.export.program import OpenVINOProgram as OpenVINOProgram
from cryojax_seg.export.program import measure_statistics as measure_statistics
from cryojax_seg.export.program import memory_per_voxel as memory_per_voxel
from cryojax_seg.export.program import prefers_bf16 as prefers_bf16
