"""Lets tomograms that nobody annotated teach a segmenter, beside annotated ones.

They teach by the equivariant objective (`losses.equivariant`), where the segmenter is sure of what
it finds: what it sees in a patch it must find again after a rotation that hides a part of it in the
missing wedge.
"""

import dataclasses
import math
from collections.abc import Sequence
from os import PathLike

from cryojax_seg import io
from cryojax_seg.core import MissingWedge, Segmenter
from cryojax_seg.core.plain import Contrast, TiltAxis
from cryojax_seg.errors import ParameterError
from cryojax_seg.losses import Objective, add, equivariant, select
from cryojax_seg.training.config import TrainConfig
from cryojax_seg.training.example import Example
from cryojax_seg.training.reading import Examples, coarsest
from cryojax_seg.training.resampling import angstrom, at_one_size
from cryojax_seg.training.starting import FAR

CONFIDENCE = 0.9  # least probability at which the teacher counts


def read_unlabelled(
    tomograms: Sequence[str | PathLike[str]],
    *,
    voxel_size: float | None = None,
    contrast: Contrast = "dark",
    tilt_range: tuple[float, float] | None = None,
    tilt_axis: TiltAxis = "y",
) -> Examples:
    """Read tomograms without annotation, from which `fit_model` learns beside annotated ones.

    Those of finer voxels than others, by over 5 %, are resampled to the coarsest.

    Args:
        tomograms: files of the tomograms.
        voxel_size: voxel size in angstrom; by default that in the files.
        contrast: whether structure is darker or brighter than its surroundings.
        tilt_range: lowest and highest tilt, degrees.
        tilt_axis: axis about which the sample was tilted.

    Raises:
        FileError: naming the file that cannot be read.

    >>> import pathlib, tempfile
    >>> import numpy as np
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "more.mrc"
    >>> density = np.random.default_rng(0).normal(size=(8, 16, 16)).astype(np.float32)
    >>> io.write_mrc(path, density, voxel_size=10.0)
    >>> found = read_unlabelled([path], tilt_range=(-60.0, 60.0))
    >>> found.examples[0].labels is None, found.voxel_size
    (True, (10.0, 10.0, 10.0))
    """
    wedge = None if tilt_range is None else MissingWedge(tilt_range, tilt_axis)
    volumes = [io.read_tomogram(path, voxel_size) for path in tomograms]
    wanted = coarsest(volumes)
    shared = io.common_voxel_size(volumes) if wanted is None else wanted
    examples = []
    for tomogram in volumes:
        normal = io.normalized(tomogram, contrast)
        missing = normal.missing((slice(None),) * 3)
        examples.append(
            Example(
                normal[:, :, :],
                wedge=wedge,
                missing=missing if missing.any() else None,
                name=tomogram.name,
            )
        )
    if wanted is not None:
        examples = at_one_size(examples, [t.require_voxel_size() for t in volumes], wanted)
    return Examples(tuple(examples), (), shared, contrast, tilt_range)


def beside(unlabelled: Examples, data: Examples, weight: float) -> tuple[Example, ...]:
    """Return tomograms that can teach without labels beside annotated ones, in voxels of these.

    Raises:
        ParameterError: if a tilt range is not known, voxel sizes differ more than twofold, or the
            weight has no meaning.

    >>> import numpy as np
    >>> one = Example(np.zeros((8, 8, 8), np.float32), name="more.mrc")
    >>> beside(Examples((one,)), Examples(()), 0.3)
    Traceback (most recent call last):
    cryojax_seg.errors.ParameterError: more.mrc: its tilt range is not known, ...
    """
    if not 0 < weight < math.inf:
        raise ParameterError(f"consistency is a positive weight, got {weight}", "consistency")
    for example in (*unlabelled.examples, *data.examples):
        if example.wedge is None:
            raise ParameterError(
                f"{example.name}: its tilt range is not known, and tomograms without labels teach "
                "by the missing wedge; give it",
                "tilt_range",
            )
    size, wanted = unlabelled.voxel_size, data.voxel_size
    if size is None or wanted is None:
        return unlabelled.examples
    if any(max(a, b) > FAR * min(a, b) for a, b in zip(size, wanted, strict=True)):
        raise ParameterError(
            f"{unlabelled.examples[0].name}: has voxels of {angstrom(size)} angstrom, more than "
            f"twofold off the {angstrom(wanted)} angstrom of the annotated tomograms; leave it "
            "out, or give voxel_size if the files are wrong",
            *("unlabelled", "voxel_size"),
        )
    return tuple(at_one_size(unlabelled.examples, [size] * len(unlabelled.examples), wanted))


def consistent(
    objective: Objective | None, segmenter: Segmenter, config: TrainConfig, weight: float
) -> tuple[Objective, TrainConfig]:
    """Return the objective and settings of a training that also learns from unlabelled patches.

    Each step draws as many of them as annotated ones, anywhere in the tomograms. The supervised
    objective does not see them, and the equivariant one sees no others.

    Args:
        objective: objective of the annotated patches; None for the default of the segmenter.
        segmenter: the segmenter that learns.
        config: settings of the training, with all patches but the unlabelled ones.
        weight: weight of the equivariant objective.

    >>> from cryojax_seg.segmenters import GlobalThreshold
    >>> _, config = consistent(None, GlobalThreshold(0.5), TrainConfig(batch=3, replay=1), 0.3)
    >>> config.unannotated, config.patches
    (3, 7)
    """
    supervised = segmenter.default_loss() if objective is None else objective
    config = dataclasses.replace(config, unannotated=config.batch)
    own = range(config.batch, config.batch + config.unannotated)
    labelled = [n for n in range(config.patches) if n not in own]  # the order is that of `draw`
    both = add(
        select(supervised, labelled),
        select(equivariant(confidence=CONFIDENCE), own),
        factors=(1.0, weight),
    )
    return both, config
