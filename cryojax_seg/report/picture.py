"""Draws the labels of methods on a phantom in two slices, with their scores."""

from pathlib import Path

FOUND, MISSED, FALSE = "#1baf7a", "#2a78d6", "#eb6834"
INK, MUTED = "#222222", "#777777"


def draw_outcomes(path: Path, cell, slices: tuple[int, ...], outcomes) -> None:
    """Write a PNG of found, missed and false voxels of several methods on a phantom.

    Args:
        path: the file to write.
        cell: the `simulate.Phantom`.
        slices: z indices that were annotated.
        outcomes: the compared methods, each with name, labels, scores and recall.

    >>> import tempfile
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> labels = np.zeros((8, 8, 8), np.int8)
    >>> labels[:, 3:5] = 1
    >>> cell = SimpleNamespace(density=-labels, labels=labels, visibility=np.ones(labels.shape))
    >>> one = SimpleNamespace(name="vote", labels=labels, scores={"dice": 1.0}, recall=[])
    >>> file = Path(tempfile.mkdtemp()) / "outcomes.png"
    >>> draw_outcomes(file, cell, (2, 6), [one])
    >>> file.read_bytes()[1:4]
    b'PNG'
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    density, truth = -np.asarray(cell.density), np.asarray(cell.labels) == 1
    by_dice = sorted(outcomes, key=lambda o: o.scores["dice"] or 0.0)
    shown = [by_dice[0], *by_dice[-2:]]
    shown = list({o.name: o for o in shown}.values())
    gaps = [range(a, b) for a, b in zip(slices, slices[1:], strict=False)] or [range(len(truth))]
    z = max((g[len(g) // 2] for g in gaps), key=lambda i: truth[i].sum())  # far from annotation
    visibility = np.asarray(cell.visibility)
    plain, faint = truth & (visibility > 0.8), truth & (visibility < 0.5)  # a slice with both
    y = int(np.minimum(plain.sum((0, 2)), faint.sum((0, 2))).argmax())
    low, high = np.percentile(density, (1, 99))

    figure = Figure(figsize=(3.1 * (2 + len(shown)), 9.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    ratio = truth.shape[0] / truth.shape[1]
    grid = figure.add_gridspec(3, 2 + len(shown), height_ratios=(1, ratio, 0.95))
    for row, (cut, label) in enumerate(
        ((np.s_[z], f"xy slice, z = {z}"), (np.s_[:, y], f"xz slice, y = {y}"))
    ):
        panels = [("tomogram", None), ("truth", truth), *((o.name, o.labels > 0) for o in shown)]
        for column, (name, mask) in enumerate(panels):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(density[cut], cmap="gray", vmin=low, vmax=high, origin="lower")
            if mask is not None:
                axes.imshow(_overlay(mask[cut], truth[cut]), origin="lower")
            if row == 1 and column == 0:
                for annotated in slices:
                    axes.axhline(annotated, color="#eda100", lw=1)
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                score = next((o.scores["dice"] for o in outcomes if o.name == name), None)
                axes.set_title(name if score is None else f"{name}   Dice {score:.2f}", color=INK)
            if column == 0:
                axes.set_ylabel(label, color=INK)
            if row == 1 and column == 0:
                axes.set_xlabel("yellow: the annotated slices", color=MUTED)
    colours = {"found": FOUND, "missed": MISSED, "false": FALSE}
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]

    _bars(figure.add_subplot(grid[2, : (2 + len(shown)) // 2]), by_dice)
    _recall(figure.add_subplot(grid[2, (2 + len(shown)) // 2 :]), shown)
    figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False)
    figure.suptitle(
        "Membranes of a noisy phantom with a missing wedge, found in several ways",
        color=INK,
        x=0.01,
        ha="left",
    )
    figure.savefig(path, dpi=110, format="png")


def _overlay(mask, truth):
    """Return an RGBA image of found, missed and false voxels."""
    import numpy as np
    from matplotlib.colors import to_rgba

    image = np.zeros((*mask.shape, 4))
    image[mask & truth] = to_rgba(FOUND, 0.6)
    image[~mask & truth] = to_rgba(MISSED, 0.6)
    image[mask & ~truth] = to_rgba(FALSE, 0.6)
    return image


def _bars(axes, by_dice) -> None:
    values = [o.scores["dice"] or 0.0 for o in by_dice]
    names = [o.name for o in by_dice]
    axes.barh(names, values, height=0.6, color=[MUTED] * (len(values) - 1) + [FOUND])
    for i, value in enumerate(values):
        axes.text(value + 0.01, i, f"{value:.2f}", va="center", color=INK)
    axes.set_xlim(0, 1)
    axes.set_title("Dice where nothing was annotated", loc="left", color=INK)
    axes.spines[["top", "right"]].set_visible(False)


def _recall(axes, shown) -> None:
    for outcome, colour in zip(shown[::-1], (FOUND, "#4a3aa7", MUTED), strict=False):
        bins = [b for b in outcome.recall if b.recall is not None]
        x = [(b.low + b.high) / 2 for b in bins]
        y = [b.recall for b in bins]
        errors = [
            [r - b.interval[0] for r, b in zip(y, bins, strict=True)],
            [b.interval[1] - r for r, b in zip(y, bins, strict=True)],
        ]
        axes.errorbar(x, y, errors, color=colour, marker="o", lw=2, capsize=3, label=outcome.name)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("visibility: share of a membrane patch's signal that was measured", color=INK)
    axes.set_title("Recall by visibility under the missing wedge", loc="left", color=INK)
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
