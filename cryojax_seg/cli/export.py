"""``cryojax-seg export``: a saved model for another program."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cryojax_seg.cli import models
from cryojax_seg.cli.arguments import Overwrite


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a saved model as an OpenVINO graph, and say what whoever uses it must know.

    The graph maps a normalized volume to logits. It holds the statistics that the saved model
    has, which are those of its training data. `cryojax-seg segment` measures them again on each
    tomogram; to export that, use fit_normalization and export.write_openvino in Python.
    """

    model: Positional[Path]
    """Folder that `cryojax-seg train -o RUN` wrote: RUN, or RUN/model."""
    openvino: Annotated[Path, arg(metavar="FILE.xml")]
    """The graph; its parameters go to FILE.bin beside it, in float32."""
    shape: Annotated[
        tuple[int, int, int] | None,
        arg(metavar="Z Y X", help_behavior_hint="(default: any)"),
    ] = None
    """Voxels of the volumes it will be given."""
    allow_module: models.AllowedModules = ()
    """Modules of your own that the model may import."""
    overwrite: Overwrite = False


def run(options: Export) -> None:
    """Does what `Export` says; a ValueError or OSError tells what is wrong in one line."""
    xml, weights = options.openvino, options.openvino.with_suffix(".bin")
    if xml.suffix != ".xml":
        raise ValueError(f"--openvino: the name of a graph ends in .xml; got '{xml}'")

    from cryojax_seg import export, io

    model = models.load(options.model, options.allow_module)
    segmenter, card = model.segmenter, model.card
    export.require(segmenter)
    job = {"model": model.digest(), "shape": options.shape}
    # The parameters get their name first: a graph that is there has them.
    with io.OutputSet(job, [xml, weights], [options.model], options.overwrite) as outputs:
        if not outputs.finished:
            graph, parameters = outputs.place(xml), outputs.place(weights)
            export.write_openvino(segmenter, graph, parameters, options.shape)
    print(f"{xml} and {weights.name}:")
    for name, value in _facts(segmenter, card, options.shape).items():
        print(f"  {name.ljust(10)}  {value}")


def _facts(segmenter, card, shape) -> dict[str, str]:
    """What the graph alone does not tell."""
    from flax import nnx

    axes = "z, y, x" if shape is None else " x ".join(map(str, shape))
    stride = segmenter.stride
    score = "sigmoid" if len(segmenter.classes) == 1 else "softmax"
    frozen = any(getattr(m, "kind", None) == "frozen" for _, m in nnx.iter_modules(segmenter))
    return {
        "input": f"volume ({axes}), float32; every axis a multiple of {stride}",
        "output": f"logits ({axes}, class), float32; their {score} is the probability of "
        + ", ".join(segmenter.classes),
        "normalize": f"by the {card.normalization} of each tomogram, structure bright "
        f"(it was {card.contrast} in the training data)",
        "statistics": "those of the training data" if frozen else "none",
        "tiles": f"read at least {segmenter.halo} voxels more on each side and crop them; "
        f"origins at multiples of {stride}",
        "precision": "float32, if you set INFERENCE_PRECISION_HINT to f32",
    }
