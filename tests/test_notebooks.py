"""Every notebook runs from top to bottom, and is the same as the script it is paired with."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_notebook(path):
    """What a notebook claims it asserts itself; here it must print scores and draw."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "Dice 0." in "".join(output.get("text", "") for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    stderr = [o["text"] for o in outputs if o.get("name") == "stderr"]
    assert not any("Traceback" in text or "Warning" in text for text in stderr), stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_pair(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any("image/png" in o.get("data", {}) for c in code for o in c.outputs), "run and save it"
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1)), "run it as a whole"
    script = jupytext.read(path.with_suffix(".py"))
    cells = [[(c.cell_type, c.source) for c in n.cells] for n in (notebook, script)]
    assert cells[0] == cells[1], f"run: jupytext --sync {path.relative_to(ROOT)}"


def test_every_script_has_a_notebook():
    assert [p.stem for p in NOTEBOOKS] == [
        p.stem for p in sorted((ROOT / "notebooks").glob("*.py"))
    ]
    assert len(NOTEBOOKS) >= 4
