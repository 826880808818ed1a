"""Differentiable segmentation of cryo-electron tomograms.

Every method, from a scalar threshold to a 3D U-Net, is one local function
``p_r = f_theta({I_{r+delta} : |delta| <= halo})``. Sub-packages load when first used, so that
``import cryojax_seg`` costs nothing.
"""

import importlib

__version__ = "0.2.0"

_SUBPACKAGES = (
    "core",
    "segmenters",
    "restore",
    "losses",
    "training",
    "simulate",
    "particles",
    "evaluate",
    "measure",
    "export",
    "runtime",
    "io",
    "inference",
    "report",
    "view",
)

__all__ = ["__version__", *_SUBPACKAGES]


def __getattr__(name: str):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
