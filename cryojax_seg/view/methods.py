"""Names the ways to learn from strokes within a moment."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # the page is there before JAX is loaded
    from cryojax_seg.training import Example, HeldOutVoxels

AROUND = 3  # slices on each side of an annotated one that are learned from


class Method(Protocol):
    """A way to learn from a few slices, within a moment.

    Attributes:
        segmenter: what was learned; None before.
    """

    segmenter: Any

    def learn(self, examples: "list[Example]", classes: tuple[str, ...]) -> str:
        """Learn, and return in a few words what was done.

        Raises:
            ValueError: if nothing can be learned from these yet; it says what is needed.
        """
        ...

    def held_out(
        self, examples: "list[Example]", classes: tuple[str, ...]
    ) -> "HeldOutVoxels | None":
        """Return annotated voxels as the method predicts them without having seen them."""
        ...


class VoteMethod:
    """Fits a linear vote anew after each stroke, see `training.fit_vote`."""

    def __init__(self) -> None:
        self.segmenter: Any = None

    def learn(self, examples: "list[Example]", classes: tuple[str, ...]) -> str:
        from cryojax_seg.training import fit_vote

        self.segmenter = fit_vote(examples, classes, AROUND, self.segmenter)
        count = sum(int((example.weights > 0).sum()) for example in examples)
        return f"The vote learned from {count} voxels"

    def held_out(
        self, examples: "list[Example]", classes: tuple[str, ...]
    ) -> "HeldOutVoxels | None":
        from cryojax_seg.training import cross_validate_vote

        return cross_validate_vote(examples, classes, AROUND)


METHODS: Mapping[str, Callable[[], Method]] = {"vote": VoteMethod}
