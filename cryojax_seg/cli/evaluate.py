"""``cryojax-seg evaluate``: scores of a label volume against the truth."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from cryojax_seg.cli import console
from cryojax_seg.cli.arguments import AnnotationOptions, default, flat
from cryojax_seg.cli.geometry import TiltOptions, VoxelSize
from cryojax_seg.cli.projects import ProjectOptions


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Score a predicted label volume against a true one, class by class.

    A dash in the table (null in JSON) means that a score is not defined, such as the precision of a
    class that was never predicted or the recall of one that is not in the truth. --tilt-range adds
    recall and precision against visibility.
    """

    prediction: Positional[Path]
    """Predicted label volume: MRC or TIFF of integers, where 0 is background."""
    truth: Positional[Path]
    """True label volume on the same grid, or an IMOD model or a mesh of the tomogram."""
    tolerance: Annotated[float | None, default("ANGSTROM", "two voxels")] = None
    """Distance in angstrom within which two surfaces agree in the surface Dice. It is also the
    width of the border in the boundary IoU."""
    probabilities: Annotated[tuple[Path, ...], default("PATH ...", "none")] = ()
    """Probability maps, one for each class but the background. They add the calibration (expected
    calibration error and Brier score), and what a recalibration as `train` does it would leave of
    the error."""
    voxel_size: VoxelSize = None
    json: bool = False
    """Print JSON instead of a table."""
    project: ProjectOptions = ProjectOptions()
    annotation: AnnotationOptions = AnnotationOptions()
    tilt: TiltOptions = TiltOptions()


def run(options: Evaluate) -> None:
    """Run `Evaluate`; a ValueError or OSError says in one line what is wrong."""
    import json

    from cryojax_seg import inference, report

    found = inference.score_files(
        options.prediction,
        options.truth,
        tolerance=options.tolerance,
        wedge=options.tilt.wedge(),
        probabilities=options.probabilities,
        voxel_size=options.voxel_size,
        **flat(options.annotation),
    )
    files = {"prediction": str(options.prediction), "truth": str(options.truth)}
    scores = files | found.as_dict()
    if options.json:
        print(json.dumps(scores, indent=2))
        return
    title = f"{options.prediction} against {options.truth}"
    for part in report.score_tables(scores, title):
        if isinstance(part, str):
            print(part)
        else:
            console.table(*part)
