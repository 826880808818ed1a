"""Applies models to one or many tomograms, in bounded memory and resumable.

Sub-modules load when first used."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryojax_seg.inference.averaging import Averaged as Averaged
    from cryojax_seg.inference.averaging import average_files as average_files
    from cryojax_seg.inference.engine import Engine as Engine
    from cryojax_seg.inference.engine import choose_engine as choose_engine
    from cryojax_seg.inference.extraction import extract_files as extract_files
    from cryojax_seg.inference.many import Finished as Finished
    from cryojax_seg.inference.many import SomeFailedError as SomeFailedError
    from cryojax_seg.inference.many import each as each
    from cryojax_seg.inference.model import Model as Model
    from cryojax_seg.inference.model import load as load
    from cryojax_seg.inference.model import load_restorer as load_restorer
    from cryojax_seg.inference.paths import expanded as expanded
    from cryojax_seg.inference.paths import names as names
    from cryojax_seg.inference.paths import output_paths as output_paths
    from cryojax_seg.inference.paths import shard as shard
    from cryojax_seg.inference.paths import stem as stem
    from cryojax_seg.inference.picking import Picked as Picked
    from cryojax_seg.inference.picking import pick_by_template as pick_by_template
    from cryojax_seg.inference.picking import pick_volumes as pick_volumes
    from cryojax_seg.inference.planning import Plan as Plan
    from cryojax_seg.inference.planning import Settings as Settings
    from cryojax_seg.inference.planning import plan as plan
    from cryojax_seg.inference.restoration import Deconvolution as Deconvolution
    from cryojax_seg.inference.restoration import Restored as Restored
    from cryojax_seg.inference.restoration import restore_file as restore_file
    from cryojax_seg.inference.restored import restore as restore
    from cryojax_seg.inference.scoring import score_files as score_files
    from cryojax_seg.inference.segmentation import Segmented as Segmented
    from cryojax_seg.inference.segmentation import map_paths as map_paths
    from cryojax_seg.inference.segmentation import segment as segment
    from cryojax_seg.inference.segmentation import segment_file as segment_file
    from cryojax_seg.inference.segmentation import unfinished as unfinished

_HOME = {
    "Averaged": "averaging",
    "average_files": "averaging",
    "extract_files": "extraction",
    "score_files": "scoring",
    "Engine": "engine",
    "choose_engine": "engine",
    "Finished": "many",
    "SomeFailedError": "many",
    "each": "many",
    "Model": "model",
    "load": "model",
    "load_restorer": "model",
    "expanded": "paths",
    "names": "paths",
    "output_paths": "paths",
    "shard": "paths",
    "stem": "paths",
    "Picked": "picking",
    "pick_by_template": "picking",
    "pick_volumes": "picking",
    "Settings": "planning",
    "Plan": "planning",
    "plan": "planning",
    "Deconvolution": "restoration",
    "Restored": "restoration",
    "restore_file": "restoration",
    "restore": "restored",
    "Segmented": "segmentation",
    "map_paths": "segmentation",
    "segment": "segmentation",
    "segment_file": "segmentation",
    "unfinished": "segmentation",
}

__all__ = [
    "Averaged",
    "average_files",
    "extract_files",
    "score_files",
    "Deconvolution",
    "Engine",
    "Finished",
    "Settings",
    "Model",
    "Picked",
    "Plan",
    "Restored",
    "Segmented",
    "SomeFailedError",
    "choose_engine",
    "each",
    "expanded",
    "load",
    "load_restorer",
    "map_paths",
    "names",
    "output_paths",
    "pick_by_template",
    "pick_volumes",
    "plan",
    "restore",
    "restore_file",
    "segment",
    "segment_file",
    "shard",
    "stem",
    "unfinished",
]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
