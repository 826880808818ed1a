"""The one list of all operators. A new method is one more line here."""

import dataclasses
from collections.abc import Callable

import pytest
from flax import nnx

from cryojax_seg.core import (
    Chain,
    LocalOperator,
    MissingWedge,
    Rescaled,
    Segmenter,
    Stacked,
    Symmetrized,
)
from cryojax_seg.restore import (
    AnisotropicDiffusion,
    Gaussian,
    Learned,
    LocalContrast,
    NonLocalMeans,
    RadialFilter,
)
from cryojax_seg.segmenters import (
    BlobFilter,
    ConvNet,
    GlobalThreshold,
    Hysteresis,
    Isotonic,
    LinearVote,
    LocalThreshold,
    SheetFilter,
    Tempered,
    TensorVoting,
    Tomoseg,
    Truncated,
    TubeFilter,
    UNet,
)

THREE = ("background", "membrane", "filament")
WEDGE = MissingWedge((-60.0, 50.0))


@dataclasses.dataclass(frozen=True)
class Case:
    """An operator small enough to test, and what is known of its arithmetic.

    Attributes:
        build: makes it.
        products: whether it multiplies matrices (as `conv3d` does). Then forward-mode derivatives
            do not exist, and products of another size may add in another order, so tiles equal
            the whole to rounding; otherwise they do bitwise.
        rounding: float32 rounding of the logits, relative to the largest.
        depth: voxels along z of the volumes of a method that works slice by slice; None for as
            many as along y and x.
        rate: learning rate of the small overfit.
        bitwise: whether tiles equal the whole bitwise if it multiplies no matrices; a loop over
            steps may be compiled with other rounding for blocks of another shape.
        transforms: whether it goes through the FFT, where a NaN spreads to the whole block and
            everything else by rounding.
    """

    build: Callable[[], LocalOperator]
    products: bool = False
    rounding: float = 1e-5
    depth: int | None = None
    rate: float = 0.05
    bitwise: bool = True
    transforms: bool = False

    @property
    def tiling(self) -> float:
        return 0.0 if self.bitwise and not self.products else self.rounding


def stacked() -> Segmenter:
    return Stacked([SheetFilter((0.7,), radii=(1,)), GlobalThreshold()], THREE)


def network(build, *arguments, rate=0.01, depth=None, **keywords) -> Case:
    return Case(
        lambda: build(*arguments, **keywords, rngs=nnx.Rngs(0)), True, rate=rate, depth=depth
    )


OPERATORS = {
    "global threshold": Case(lambda: GlobalThreshold(0.5)),
    "global threshold, bands": Case(lambda: GlobalThreshold([0.5, 1.5], 0.5, THREE)),
    "niblack, bands": Case(
        lambda: LocalThreshold((0.8,), [0.0, 0.5], [0.5, 1.0], classes=THREE, radii=(1,))
    ),
    "sauvola, two windows": Case(
        lambda: LocalThreshold((0.8, 1.5), 0.1, 0.2, form="sauvola", radii=(1, 2))
    ),
    "hysteresis": Case(lambda: Hysteresis(0.5, 1.5, steps=3)),
    "hysteresis, 26 neighbours": Case(lambda: Hysteresis(0.5, 1.5, steps=2, connectivity=3)),
    "sheet, two scales": Case(lambda: SheetFilter((0.6, 0.9), radii=(1, 2))),
    "tube": Case(lambda: TubeFilter((0.7,), radii=(1,))),
    "blob": Case(lambda: BlobFilter((0.7,), radii=(1,))),
    # The saliency is the small difference of two eigenvalues.
    "tensor voting": Case(
        lambda: TensorVoting(0.7, 1.0, wedge=WEDGE, radii=(1, 2)), True, rounding=1e-4
    ),
    "linear vote": Case(lambda: LinearVote(2), True, transforms=True),
    "linear vote, radius 0": Case(lambda: LinearVote(0, 0.5, 0.5)),
    "linear vote, classes": Case(lambda: LinearVote(1, classes=THREE), True),
    "tomoseg": network(Tomoseg, "sigmoid_bce", depth=2, rate=3e-3),
    "convnet": network(ConvNet, 2, 4, norm="rms"),
    "u-net": network(UNet, 2, 1, norm="frozen"),
    "u-net, stem": network(UNet, 2, 0, "space_to_depth", norm="none", classes=THREE),
    "chain": Case(lambda: Chain([LocalContrast(0.8, radius=2), Hysteresis(0.0, 1.0, steps=1)])),
    "restorer": Case(lambda: RadialFilter([1.0, 0.6, 0.2], radius=1), True, transforms=True),
    "gaussian": Case(lambda: Chain([Gaussian(0.8, radius=2), GlobalThreshold(0.5)])),
    "diffusion": Case(
        lambda: Chain([AnisotropicDiffusion(2, 1.5), GlobalThreshold(0.5)]), bitwise=False
    ),
    "non-local means": Case(lambda: Chain([NonLocalMeans(1, 1), GlobalThreshold(0.5)])),
    "radial filter": Case(
        lambda: Chain([RadialFilter([1.0, 0.6, 0.2], radius=2), GlobalThreshold(0.5)]),
        True,
        transforms=True,
    ),
    "learned restorer": network(
        lambda rngs: Chain([Learned(ConvNet(1, 4, norm="rms", rngs=rngs)), GlobalThreshold(0.0)])
    ),
    "symmetrized": Case(lambda: Symmetrized(LinearVote(1), WEDGE), True),
    "stacked": Case(stacked),
    "tempered": Case(lambda: Tempered(GlobalThreshold(0.5, 0.5), 2.0)),
    "isotonic": Case(
        lambda: Isotonic(GlobalThreshold(0.5, 0.5), (-9.0, 0.0, 2.0, 9.0), (-8.0, -1.0, 2.0, 4.0))
    ),
    "rescaled, coarser": Case(
        lambda: Rescaled(GlobalThreshold(0.1), 0.66, 0.1, 1.5), bitwise=False
    ),
    "rescaled, finer": Case(lambda: Rescaled(LinearVote(1), 1.5), True),
    "rescaled, axes differ": network(
        lambda rngs: Rescaled(UNet(2, 1, norm="frozen", rngs=rngs), (1.0, 0.5, 2.0))
    ),
    "truncated": Case(lambda: Truncated(LinearVote(2), 2), True, transforms=True),
}


# The scope makes pytest run all tests of one method in a row, which share compiled functions.
@pytest.fixture(params=OPERATORS.values(), ids=list(OPERATORS), scope="session")
def case(request) -> Case:
    return request.param


@pytest.fixture
def every_case() -> list[Case]:
    return list(OPERATORS.values())
