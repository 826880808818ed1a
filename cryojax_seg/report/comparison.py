"""Writes the report of a comparison: scores, charts and slices of several methods in one page."""

import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from cryojax_seg import evaluate
from cryojax_seg.core import label_names
from cryojax_seg.report.charts import COLOURS, curves
from cryojax_seg.report.page import resource
from cryojax_seg.report.pictures import as_grey, grey_range, jpeg, png
from cryojax_seg.training import Example
from cryojax_seg.training.comparison import CrossValidation, HeldOut

PICTURES = {"z": 24, "y": 12, "x": 12}
# Palette: nothing; found, missed and false where annotated; then each class where it is not.
PALETTE = (
    "#000000",
    "#1baf7a",
    "#2a78d6",
    "#eb6834",
    "#eda100",
    "#b65fd3",
    "#d9486b",
    "#5bb4c9",
    "#8f9a2f",
)


def comparison_page(
    title: str,
    found: CrossValidation,
    example: Example,
    classes: Sequence[str],
    options: dict[str, Any],
    scored: str = "Of annotated slices that the method did not learn from.",
) -> str:
    """Return the whole page, with its style, script and data in it.

    Args:
        title: title of the page.
        found: predictions and scores of the methods, from `training.cross_validation`.
        example: the annotated tomogram that was compared on.
        classes: classes of the labels, as in `core.Segmenter`.
        options: plain values by name, shown at the end.
        scored: what the scores are of, a sentence.

    >>> from cryojax_seg.training import cross_validation
    >>> labels = np.zeros((16, 16, 16), int)
    >>> labels[:, 4:8] = 1
    >>> example = Example(labels.astype(np.float32), labels)
    >>> found = cross_validation(example, ["threshold"], folds=2, steps=2, patch=8, progress=False)
    >>> text = comparison_page("Methods", found, example, ("foreground",), {"steps": 2})
    >>> text.startswith("<!doctype html>"), "threshold" in text
    (True, True)
    """
    values = content(title, found, example, classes, options)
    recall, note = _recall(found.methods, example)
    hues = values["hues"]
    reliability = {name: one.reliability for name, one in found.methods.items()}
    parts = {
        "/* style */": resource("report.css"),
        "/* script */": resource("comparison.js"),
        "<!-- scored -->": html.escape(scored),
        "<!-- recall note -->": html.escape(note),
        "<!-- recall -->": _chart(recall, "visibility", "recall", hues),
        "<!-- reliability -->": _chart(reliability, "confidence", "accuracy", hues, True),
        # "</" would end the script element whatever stands around it, and "<!--" with "<script"
        # hide its end.
        "null /* data */": json.dumps(values, allow_nan=False).replace("<", "\\u003c"),
    }
    page = resource("comparison.html")
    for place, text in parts.items():
        page = page.replace(place, text)
    return page


def _chart(
    named: dict[str, Any], across: str, up: str, hues: dict[str, str], diagonal: bool = False
) -> str:
    """Return curves with their legend; nothing if there are none."""
    if not named:
        return ""
    swatch = '<span class="swatch" style="background:{}"></span>'
    names = "".join(f"<li>{swatch.format(hues[n])}{html.escape(n)}</li>" for n in named)
    drawn = curves(named, f"{up} against {across}", across, up, hues, diagonal)
    return f'{drawn}<ul class="legend">{names}</ul>'


def content(
    title: str,
    found: CrossValidation,
    example: Example,
    classes: Sequence[str],
    options: dict[str, Any],
) -> dict[str, Any]:
    """Return the data that the script of the page shows, with pictures as data URLs."""
    return {
        "title": title,
        "options": options,
        "shape": list(example.volume.shape),
        "classes": list(label_names(tuple(classes)))[1:],
        "groups": [list(fold.scored) for fold in found.folds],
        "methods": [{"name": n, **r.scores} for n, r in found.methods.items()],
        "hues": {n: COLOURS[i % len(COLOURS)] for i, n in enumerate(found.methods)},
        "colours": list(PALETTE),
        "pictures": _pictures(found.methods, example),
    }


def _recall(results: dict[str, HeldOut], example: Example) -> tuple[dict[str, Any], str]:
    """Return recall of the foreground in bins of visibility, and the source of the visibility."""
    if example.wedge is None:
        return {}, "How recall depends on the missing wedge is shown where the tilt range is known."
    truth, known = example.labels > 0, (example.weights > 0).any((1, 2))
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], known, [0]]))))[::2]
    if runs.min() >= 5:
        mask, source = truth & (example.weights > 0), "the annotation"
    else:
        share = np.mean(
            [
                1 - r.probabilities[..., 0]
                if r.probabilities.shape[-1] > 1
                else r.probabilities[..., 0]
                for r in results.values()
            ],
            axis=0,
        )
        mask = (share > 0.5) | (truth & (example.weights > 0))
        source = (
            "what the methods found between the annotated slices, which are too few in a row to "
            "tell the direction of a surface"
        )
    visibility = np.asarray(example.wedge.visibility(evaluate.mask_normals(mask)))
    curves = {}
    for name, result in results.items():
        bins = evaluate.recall_by_visibility(
            result.predicted > 0,
            truth,
            visibility,
            evaluate.VISIBILITY_BINS,
            example.weights,
            voxels_per_sample=50.0,
        )
        curves[name] = [
            [(b.low + b.high) / 2, b.recall, *b.interval]
            for b in bins
            if b.recall is not None and b.interval is not None
        ]
    return curves, f"Directions are those of {source}. Bars: 95 % intervals, 50 voxels as one."


def _pictures(results: dict[str, HeldOut], example: Example) -> dict[str, list[dict[str, Any]]]:
    grey = 255 - as_grey(example.volume, *grey_range(example.volume))  # dark, as in microscopes
    known, truth = example.weights > 0, example.labels
    pictures = {}
    for axis, (name, count) in enumerate(PICTURES.items()):
        size = grey.shape[axis]
        at = set(np.linspace(0, size - 1, min(count, size)).round().astype(int).tolist())
        if name == "z":
            slices = np.flatnonzero(known.any((1, 2)))
            some = np.linspace(0, len(slices) - 1, min(count, len(slices))).round().astype(int)
            at |= set(slices[some].tolist())
        pictures[name] = []
        for index in sorted(at):
            cut = tuple(index if a == axis else slice(None) for a in range(3))
            overlays = {"truth": png(np.where(known[cut], _own(truth[cut]), 0), PALETTE)}
            for method, result in results.items():
                overlays[method] = png(
                    _outcome(result.predicted[cut], truth[cut], known[cut]), PALETTE
                )
            pictures[name].append(
                {
                    "index": index,
                    "annotated": bool(known[cut].all() if axis else known[cut].any()),
                    "image": jpeg(grey[cut]),
                    "overlays": overlays,
                }
            )
    return pictures


def _own(labels: np.ndarray) -> np.ndarray:
    """Return the palette index of each class."""
    return np.where(labels > 0, 4 + (labels - 1) % (len(PALETTE) - 4), 0)


def _outcome(predicted: np.ndarray, truth: np.ndarray, known: np.ndarray) -> np.ndarray:
    right = np.where(predicted == truth, 1, np.where(predicted > 0, 3, 2))
    judged = np.where((predicted > 0) | (truth > 0), right, 0)
    return np.where(known, judged, _own(predicted))
