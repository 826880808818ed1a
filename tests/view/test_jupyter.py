"""Somebody paints in a notebook of a real JupyterLab, and the stroke is on disk.

These need Chromium and a Python with jupyterlab and this package, named by CRYOJAX_SEG_JUPYTER.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest

from cryojax_seg import io

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
JUPYTER = os.environ.get("CRYOJAX_SEG_JUPYTER") or (
    sys.executable if importlib.util.find_spec("jupyterlab") else None
)
CELL = """from cryojax_seg import view
painted = view.annotate("t.mrc", ["membrane"], "labels.mrc")
painted"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; install it to test pages"),
    pytest.mark.skipif(
        JUPYTER is None, reason="JupyterLab is not installed, nor is its Python named"
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@contextlib.contextmanager
def serving(folder):
    """Runs JupyterLab in a folder; yields the link that opens it."""
    words = ["lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    process = subprocess.Popen(
        [JUPYTER, "-m", "jupyter", *words, f"--ServerApp.root_dir={folder}"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(io.__file__).parents[2])},
    )
    try:
        for line in process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:\d+/lab\?token=\w+", line):
                yield found[0]
                break
        else:
            raise AssertionError("JupyterLab has ended")
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_a_stroke_in_jupyterlab_is_saved(tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    noise = np.random.default_rng(0).normal(size=(6, 40, 60)).astype(np.float32)
    io.write_mrc(tmp_path / "t.mrc", noise, voxel_size=10.0)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CELL)], metadata={"kernelspec": kernel}
    )
    nbformat.write(notebook, tmp_path / "paint.ipynb")
    with serving(tmp_path) as link, sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(link.replace("/lab?", "/lab/tree/paint.ipynb?"), timeout=120_000)
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=120_000)
        page.get_by_text("| Idle").wait_for(timeout=120_000)  # a cell is lost without a kernel
        page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        canvas = page.locator(".pane.active canvas").first
        canvas.wait_for(timeout=180_000)
        page.get_by_text("xy z 3").first.wait_for(timeout=60_000)
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 30, y)
        page.mouse.down()
        page.mouse.move(x + 30, y, steps=5)
        page.mouse.up()
        page.locator(".saved", has_text="Saved in").wait_for(timeout=60_000)
        if "CRYOJAX_SEG_SHOTS" in os.environ:
            page.screenshot(path=Path(os.environ["CRYOJAX_SEG_SHOTS"]) / "jupyterlab.png")
        browser.close()
    end = time.monotonic() + 30
    while not (tmp_path / "labels.mrc").exists() and time.monotonic() < end:
        time.sleep(0.1)
    labels = io.read_labels(tmp_path / "labels.mrc")
    assert np.unique(labels.labels[labels.weights > 0]).tolist() == [1]
    assert labels.weights[3].sum() > 10 and labels.weights[[0, 1, 2, 4, 5]].sum() == 0
