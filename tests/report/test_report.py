"""Pages of reports: one file each, charts with accessible names, and nothing from elsewhere."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from cryojax_seg import report, training
from cryojax_seg.core import MissingWedge
from cryojax_seg.report import charts
from cryojax_seg.training.comparison import CrossValidation, HeldOut
from cryojax_seg.training.folds import Fold


def elements(svg):
    """The elements of a chart by their tag."""
    found = {}
    for element in ET.fromstring(svg).iter():
        found.setdefault(element.tag.partition("}")[2], []).append(element)
    return found


def test_bars_have_the_heights_of_a_histogram():
    chart = charts.histogram([0, 10, 20, 40], [4, 0, 2], "a to <b>", "nm", "area", "#2a78d6")
    root = ET.fromstring(chart)
    assert root.get("role") == "img" and root.get("aria-label") == "a to <b>"
    assert root.get("width") is None and root.get("viewBox")
    (bars,) = [p for p in elements(chart)["path"] if "#2a78d6" in p.get("style", "")]
    x, y = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", bars.get("d")), float).T
    base = y.max()
    heights = base - np.array([y[(x == x.min())].min(), y.min()])
    assert heights[0] == heights[1] > 50  # the first is the highest
    text = [t.text.strip() for t in elements(chart)["text"]]
    assert {"nm", "area", "0", "40"} <= set(text)
    second = sorted(set(np.round(base - y, 3)))[1]
    assert second == pytest.approx(heights[0] / 2, rel=1e-3)


def test_charts_take_the_colours_of_the_page():
    band = ([0.8, 0.9], [1.2, 1.1])
    chart = charts.curve_over_band([1.0, 2.0], [3.0, 1.0], band, "pairs", "nm", "g", "#eb6834")
    assert "var(--muted)" in chart and "var(--line)" in chart and "#010203" not in chart
    assert "<style" not in chart and "<metadata" not in chart and 'id="axes_1"' not in chart
    other = charts.curves({"one": [(0.1, 0.2)]}, "c", "x", "y", {"one": "#123456"}, diagonal=True)
    assert "#123456" in other
    empty = charts.histogram([0, 1, 2], [0, 0], "nothing", "nm", "area", "#2a78d6")
    assert ET.fromstring(empty).get("aria-label") == "nothing"


SUMMARY = {
    "labels": "a<b.mrc",
    "voxel_size_angstrom": [10.0] * 3,
    "origin_angstrom": [0.0] * 3,
    "shape": [4, 5, 6],
    "classes": {
        "inner": {
            "label": 1, "kind": "membrane", "count": 1,
            "area_nm2": {"value": 2e6, "low": 1e6, "high": 3e6},
            "volume_nm3": {"value": 5e6, "low": None, "high": None},
        }
    },
    "distances": [
        {
            "from": "inner", "to": "outer", "mean_nm": 7.0,
            "quantiles_nm": {q: 7.0 for q in ("0.05", "0.25", "0.5", "0.75", "0.95")},
            "area_within_nm2": 1e6, "area_share_within": 0.5, "contact_area_nm2": 1e5,
            "histogram": {"edges_nm": [0.0, 10.0, 20.0], "area_nm2": [1e6, 0.0]},
        }
    ],
}  # fmt: skip


def test_measurements_as_a_page():
    row = {"class": "inner", "label": 1, "kind": "membrane", "instance": 1, "closed": True}
    page = report.measurement_page(SUMMARY, [row])
    assert "<title>Measurements of a&lt;b.mrc</title>" in page and "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == 1 and 'aria-label="inner to outer"' in page
    assert "2 (1 to 3)" in page
    title, columns, lines = report.measurement_tables(SUMMARY)[1]
    assert title == "between membranes" and lines[0][:2] == ("inner to outer", "7.0")
    assert lines[0][columns.index("area in reach")] == "50 %"


@pytest.fixture(scope="module")
def compared():
    """Two methods on a slab, one right and one that finds nothing."""
    labels = np.zeros((8, 16, 16), int)
    labels[:, 6:9] = 1
    volume = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32)
    example = training.Example(volume, labels, wedge=MissingWedge((-60.0, 60.0)))
    scores = {"dice": 1.0, "dice_by_group": [1.0, None]}
    methods = {
        name: HeldOut(
            share[..., None].astype(np.float16), (share > 0.5).astype(int), scores, [[0.2, 0.4]]
        )
        for name, share in (("unet", labels.astype(float)), ("</script>", 0.0 * labels))
    }
    folds = (Fold((0, 1), (4, 5), (0, 4)), Fold((4, 5), (0, 1), (4, 8)))
    return CrossValidation(folds, methods), example


def test_a_comparison_as_a_page(compared):
    page = report.comparison_page("slab", *compared, ("membrane",), {"steps": 3})
    assert not re.search(r"https?://(?!www\.w3\.org)", page) and "null /* data */" not in page
    data = json.loads(re.search(r"const DATA = (.*);</script>", page)[1])
    assert [m["name"] for m in data["methods"]] == ["unet", "</script>"]
    assert data["groups"] == [[0, 1], [4, 5]] and data["options"] == {"steps": 3}
    assert page.count("</script>") == 2 and "&lt;/script&gt;" in page
    for name in ("recall against visibility", "accuracy against confidence"):
        assert f'aria-label="{name}"' in page
    assert data["hues"]["unet"] in page.partition("<script>")[0]


def test_no_name_can_hide_the_page_of_a_comparison(compared):
    found, example = compared
    page = report.comparison_page(
        "slab", found, example, ("background", "<!--<script>", "</script><b>"), {}
    )
    assert "<!--<script>" not in page and "</script><b>" not in page
    assert r'"\u003c!--\u003cscript>"' in page and r'"\u003c/script>\u003cb>"' in page


def test_without_a_tilt_range_there_is_no_recall_by_visibility(compared):
    import dataclasses

    found, example = compared
    page = report.comparison_page(
        "slab", found, dataclasses.replace(example, wedge=None), ("membrane",), {}
    )
    assert 'aria-label="recall against visibility"' not in page
    assert "where the tilt range is known" in page
