"""``cryojax-seg export``: a saved model for another program."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cryojax_seg.cli.arguments import AllowedModules, Overwrite, load_model


@dataclasses.dataclass(frozen=True)
class Export:
    """Write a saved model as an OpenVINO graph, and print how to use it.

    The graph maps a normalized volume to logits. It holds the normalization statistics of the
    training data. `cryojax-seg segment` measures them anew on each tomogram; to export those of a
    tomogram, use segmenters.fit_normalization and export.write_openvino in Python.
    """

    model: Positional[Path]
    """Folder RUN that `cryojax-seg train -o RUN` wrote, or name of a built-in model."""
    openvino: Annotated[Path, arg(metavar="FILE.xml")]
    """File for the graph. Its parameters go to FILE.bin beside it, in float32."""
    shape: Annotated[
        tuple[int, int, int] | None,
        arg(metavar="Z Y X", help_behavior_hint="(default: any)"),
    ] = None
    """Shape in voxels of the volumes that the graph will be applied to."""
    allow_module: AllowedModules = ()
    overwrite: Overwrite = False


def run(options: Export) -> None:
    """Run `Export`; a ValueError or OSError says in one line what is wrong."""
    xml, weights = options.openvino, options.openvino.with_suffix(".bin")
    if xml.suffix != ".xml":
        raise ValueError(f"--openvino: the name of a graph ends in .xml; got '{xml}'")

    from cryojax_seg import export, inference, io

    model = load_model(options.model, options.allow_module)
    segmenter, card = model.segmenter, model.card
    export.require(segmenter)
    job = {"model": model.digest(), "shape": options.shape}
    # The parameters get their name first: a graph that is there has them.
    read = [inference.model_folder(options.model)]
    with io.OutputSet(job, [xml, weights], read, options.overwrite) as outputs:
        if not outputs.finished:
            graph, parameters = outputs.place(xml), outputs.place(weights)
            export.write_openvino(segmenter, graph, parameters, options.shape)
    print(f"{xml} and {weights.name}:")
    needs = export.requirements(segmenter, card.contrast, card.normalization, options.shape)
    for name, value in needs.items():
        print(f"  {name.ljust(10)}  {value}")
