"""Promises about the project as a whole: layers, light imports, the README's commands."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cryojax_seg

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cryojax_seg"

# What each layer may import beside `text`, which shows values in messages. `training` may use the
# atomic files of io.
LAYERS = {
    "text": set(),
    "core": set(),
    "segmenters": {"core"},
    "restore": {"core", "segmenters"},
    "export": {"core", "segmenters"},
    "losses": {"core"},
    "simulate": {"core"},
    "evaluate": {"core"},
    "particles": {"core"},
    "measure": {"core"},
    "training": {"core", "segmenters", "losses", "simulate", "io"},
    "io": {"core", "segmenters", "restore"},
    "datasets": {"core", "io"},
    "cli": {
        *("core", "segmenters", "restore", "losses", "simulate", "training", "evaluate", "io"),
        *("export", "measure", "particles"),
    },
}


def imported(path):
    """Sub-packages of the package that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{a.name}" for a in node.names}
    return {n.split(".")[1] for n in names if n.startswith("cryojax_seg.")} & set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_run_one_way(layer):
    alone = PACKAGE / f"{layer}.py"
    for path in [alone] if alone.exists() else (PACKAGE / layer).rglob("*.py"):
        extra = imported(path) - LAYERS[layer] - {layer, "text"}
        assert not extra, f"{path.relative_to(ROOT)} imports {extra}"


def test_every_layer_is_known():
    found = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert found - {"__init__", "__main__"} == set(LAYERS)


def test_every_package_is_an_attribute():
    found = {p.parent.name for p in PACKAGE.glob("*/__init__.py")} - {"cli"}
    assert found == set(cryojax_seg._SUBPACKAGES) - {"datasets"}
    for name in cryojax_seg._SUBPACKAGES:
        assert getattr(cryojax_seg, name).__name__ == f"cryojax_seg.{name}"


def loaded_by(statement):
    code = f"import sys\n{statement}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import cryojax_seg") & {"jax", "numpy", "scipy", "matplotlib"}


def test_the_compute_core_needs_neither_files_nor_command_line():
    loaded = loaded_by("import cryojax_seg.core, cryojax_seg.segmenters, cryojax_seg.losses")
    assert "jax" in loaded
    # flax itself loads rich and yaml.
    assert not loaded & {"mrcfile", "tyro", "matplotlib", "tifffile"}


def test_no_module_is_overgrown():
    for path in PACKAGE.rglob("*.py"):
        assert path.read_text().count("\n") <= 350, path


def test_readme_has_the_two_commands():
    commands = re.findall(r"^ *(python3 -m venv .*)$", (ROOT / "README.md").read_text(), re.M)
    assert len(commands) == 2
    assert commands[0].endswith(".venv/bin/cryojax-seg demo")
    assert commands[1].endswith(".venv/bin/python -m pytest")
    assert all("pip install -c constraints.txt" in c for c in commands)


def test_documentation_is_made_from_the_results():
    run = subprocess.run(
        [sys.executable, "experiments/report.py", "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stdout + run.stderr
