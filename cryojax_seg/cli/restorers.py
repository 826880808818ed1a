"""The restorers by name: what each is, and what those that learn are trained by."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

from cryojax_seg.cli import console

Trained = Literal["equivariant", "n2n", "deepdewedge", "isonet", "isonet2", "energy", "simulated"]
Untrained = Literal["wiener", "deconvolution"]
NEED_HALVES = ("n2n", "deepdewedge", "isonet2")
# Steps, patch, width. A tomogram by itself is little to learn from: a wider U-Net, or patches that
# cover it too often, learn its noise by heart. Of phantoms there are many, and it is the other way
# round. See experiments/restoration_first.py.
_ALONE, _PHANTOMS = (400, 32, 8), (700, 48, 16)
BORDER = 6  # voxels, of a patch whose restorer learns too
_LARGEST = 256  # voxels, of the block that a spectrum is measured in


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long a restorer learns, from which patches, and how wide its U-Net is."""

    steps: int
    patch: int
    width: int


def effort(method: str, steps: int | None, patch: int | None, width: int | None) -> Effort:
    """What was asked for, and where nothing was, what the method is usually trained with.

    >>> effort("simulated", 9, None, None)
    Effort(steps=9, patch=48, width=16)
    """
    usual = Effort(*(_PHANTOMS if method == "simulated" else _ALONE))
    asked = {"steps": steps, "patch": patch, "width": width}
    return dataclasses.replace(usual, **{k: v for k, v in asked.items() if v is not None})


def check_halves(tomogram: Any, even: Any, odd: Any) -> None:
    """Raises a FileError, naming the files, unless these can be halves of that tomogram."""
    import numpy as np

    from cryojax_seg.core.blocks import blocks, release
    from cryojax_seg.io import FileError

    for half in (even, odd):
        if half.density.shape != tomogram.density.shape:
            raise FileError(
                f"{half.name}: has shape {half.density.shape}, {tomogram.name} has "
                f"{tomogram.density.shape}; halves lie on the grid of their tomogram"
            )
        sizes = (half.voxel_size, tomogram.voxel_size)
        if None not in sizes and not np.allclose(*sizes, rtol=1e-3):
            raise FileError(
                f"{half.name}: has voxels of {half.voxel_size[0]:.4g} A, {tomogram.name} of "
                f"{tomogram.voxel_size[0]:.4g} A"
            )
    for where in blocks(tomogram.density.shape):
        same = np.array_equal(even.density[where], odd.density[where])
        release(even.density)
        release(odd.density)
        if not same:
            return
    raise FileError(
        f"{even.name} and {odd.name}: hold the same values, so their noise is not independent; "
        "reconstruct one from the even and one from the odd tilts or frames"
    )


def on_scale(half: Any, volume: Any) -> Any:
    """A half tomogram on the scale of the normalized whole, with its own blank parts left out."""
    from cryojax_seg import core

    intensity = volume.intensity
    if intensity.blank.share:
        blank = core.measure_intensity(half.density, "bright").blank
        intensity = dataclasses.replace(intensity, blank=blank)
    return core.Normalized(half.density, intensity)


def wiener(volume: Any, pair: list[Any] | None, of: Literal["mean", "half"] = "mean") -> Any:
    """Wiener's filter, from the halves or else from the tomogram itself.

    Raises:
        ValueError: without halves, if the noise is not white.
    """
    from cryojax_seg import restore

    if pair is None:
        return restore.fit_wiener_white(_middle(volume, volume))
    return restore.fit_wiener(*(_middle(half, volume) for half in pair), of=of)


def deconvolution(
    voxel_size: float, defocus: float, voltage: float, strength: float, phase_flipped: bool
) -> Any:
    """Wiener's deconvolution of the contrast transfer; defocus in micrometre."""
    from cryojax_seg import restore
    from cryojax_seg.core.ctf import ContrastTransfer

    transfer = ContrastTransfer(defocus=1e4 * defocus, voltage=voltage)
    return restore.ctf_deconvolution(
        transfer, voxel_size, strength=strength, phase_flipped=phase_flipped
    )


def learner(
    method: Trained, volume: Any, pair: list[Any] | None, width: int, seed: int
) -> tuple[Any, Any]:
    """What is trained, a U-Net behind Wiener's filter, and by which objective."""
    from flax import nnx

    from cryojax_seg import losses
    from cryojax_seg.restore import unet_restorer
    from cryojax_seg.segmenters import ConvNet

    start, share = None, None  # share: of noise in the spectrum, if the tomogram has to be split
    own = method != "simulated"
    try:
        start = wiener(volume, pair, "half" if own else "mean")
    except ValueError as error:
        if pair is not None:
            raise
        console.warn(
            f"{error}. All of the spectrum is taken to be noise, which smooths"
            if own
            else f"{error}. Simulated noise is nearly white, so this tomogram is not like them"
        )
        share = 1.0
    restorer = unet_restorer(width, start=start, rngs=nnx.Rngs(seed))
    if method == "energy":
        energy = ConvNet(3, 8, norm="weight", rngs=nnx.Rngs(1))
        return losses.EnergyTrained(restorer, energy), losses.adversarial(share=share)
    if method == "simulated":
        return restorer, losses.noise2clean
    recipe = {
        "equivariant": losses.EQUIVARIANT,
        "n2n": losses.NOISE2NOISE,
        "deepdewedge": losses.DEEPDEWEDGE,
        "isonet": losses.ISONET,
        "isonet2": losses.ISONET2,
    }[method]
    return restorer, losses.restoration(recipe, share=share)


def saved(folder: Path) -> Any:
    """The restorer in a folder that `cryojax-seg restore` wrote, or in the model within it.

    Raises:
        FileError: naming the folder, if there is none in it.
    """
    from cryojax_seg import core, io

    path = folder / "model" if (folder / "model").is_dir() else folder
    restorer, _ = io.load_model(path)
    if not isinstance(restorer, core.Segmenter):
        return restorer
    raise io.FileError(
        f"{path}: is a {type(restorer).__name__}, not a restorer; make one with "
        "`cryojax-seg restore`"
    )


def restored(restorer: Any, examples: list[Any], patch: int) -> list[Any]:
    """Examples whose volumes went through a restorer as a whole."""
    from cryojax_seg import core
    from cryojax_seg.segmenters import fit_normalization

    found = []
    for example in examples:
        fitted: Any = fit_normalization(restorer, example.measured, patch=patch)
        tile = core.plan_tiles(fitted, example.volume.shape)
        volume = core.apply(fitted, example.volume, tile)[..., 0]
        if example.missing is not None:
            volume[example.missing] = 0
        found.append(dataclasses.replace(example, volume=volume))
    return found


def jointly(restorer: Any, segmenter: Any, goal: Any, joint: float) -> tuple[Any, Any]:
    """A segmenter behind a restorer that learns along, and their objective.

    Args:
        restorer, segmenter: to begin with.
        goal: the segmenter's objective; None for the default.
        joint: factor of the restorer's own loss.
    """
    from cryojax_seg import core, losses

    both = core.Chain([restorer, segmenter])
    goal = both.default_loss() if goal is None else goal
    return both, losses.add(goal, losses.restoration(), factors=(1.0, joint))


def _middle(volume: Any, whole: Any) -> Any:
    """The middle of what the whole has without blank parts, from a volume of any size."""
    import numpy as np

    from cryojax_seg.core import measured_box

    box = measured_box(whole)
    edges = [min(s.stop - s.start, _LARGEST) for s in box]
    starts = [(s.start + s.stop - e) // 2 for s, e in zip(box, edges, strict=True)]
    where = tuple(slice(a, a + e) for a, e in zip(starts, edges, strict=True))
    return np.asarray(volume[where], np.float32)
