"""Promises about the project as a whole: layers, light imports, the README's commands."""

import ast
import doctest
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import cryojax_seg
from cryojax_seg import cli, io
from cryojax_seg.cli import arguments

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cryojax_seg"

# What each layer may import beside `errors`, `text`, which shows values in messages, and `units`,
# which checks numbers. `training` may use the atomic files of io.
LAYERS = {
    "errors": set(),
    "text": set(),
    "units": set(),
    "core": set(),
    "runtime": {"core"},
    "segmenters": {"core", "losses"},
    "restore": {"core", "segmenters"},
    "export": {"core", "segmenters"},
    "losses": {"core"},
    "simulate": {"core"},
    "evaluate": {"core"},
    "particles": {"core"},
    "measure": {"core"},
    "training": {
        "core",
        "segmenters",
        "losses",
        "simulate",
        "restore",
        "evaluate",
        "io",
        "runtime",
    },
    "io": {"core", "particles", "measure", "simulate"},
    "inference": {
        *("core", "segmenters", "export", "restore", "evaluate", "io", "training", "runtime"),
        *("particles", "measure"),
    },
    "report": {"core", "evaluate", "measure", "io", "training"},
    "view": {
        *("core", "segmenters", "losses", "evaluate", "measure", "io", "training", "inference"),
        "runtime",
    },
    "demonstration": {
        *("core", "segmenters", "simulate", "training", "evaluate", "io", "report", "runtime"),
        "inference",
    },
    "cli": {
        "demonstration",
        *("core", "segmenters", "restore", "losses", "simulate", "training", "evaluate", "io"),
        *("export", "measure", "particles", "inference", "runtime", "report"),
        "view",
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
        extra = imported(path) - LAYERS[layer] - {layer, "errors", "text", "units"}
        assert not extra, f"{path.relative_to(ROOT)} imports {extra}"


def test_every_layer_is_known():
    found = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert found - {"__init__", "__main__"} == set(LAYERS)


def test_every_package_is_an_attribute():
    found = {p.parent.name for p in PACKAGE.glob("*/__init__.py")} - {"cli"}
    assert found == set(cryojax_seg._SUBPACKAGES)
    for name in cryojax_seg._SUBPACKAGES:
        assert getattr(cryojax_seg, name).__name__ == f"cryojax_seg.{name}"


def exported(package):
    """The classes and functions that a package exports, by name."""
    names = getattr(package, "__all__", None) or [n for n in vars(package) if n[0] != "_"]
    values = {name: getattr(package, name) for name in names}
    kinds = (inspect.isclass, inspect.isfunction, lambda v: hasattr(v, "__wrapped__"))  # by jit
    return {n: v for n, v in values.items() if any(kind(v) for kind in kinds)}


@pytest.mark.parametrize("name", cryojax_seg._SUBPACKAGES)
def test_every_exported_name_has_an_example(name):
    """Or, if it is only returned or taken by a function, the name of that function."""
    package = getattr(cryojax_seg, name)
    missing = set()
    for key, value in exported(package).items():
        text = value.__doc__ or ""
        users = re.findall(r"\b(?:Returned|Taken) by `(\w+)`", text)
        if inspect.isclass(value) and users:
            assert all(user in exported(package) for user in users), key
        elif ">>>" not in text and not (
            inspect.isclass(value) and issubclass(value, BaseException)
        ):
            missing.add(key)
    assert not missing


def loaded_by(statement):
    code = f"import sys\n{statement}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(run.stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import cryojax_seg") & {"jax", "numpy", "scipy", "matplotlib"}


def test_a_header_is_read_without_jax(tmp_path):
    io.write_mrc(tmp_path / "tiny.mrc", np.ones((2, 3, 4), np.float32), voxel_size=10.0)
    words = ["info", str(tmp_path / "tiny.mrc")]
    loaded = loaded_by(f"from cryojax_seg.cli import main; main({words})")
    assert "mrcfile" in loaded
    assert not loaded & {"jax", "flax", "scipy", "skimage", "tifffile", "matplotlib"}


def test_the_compute_core_needs_neither_files_nor_command_line():
    loaded = loaded_by("import cryojax_seg.core, cryojax_seg.segmenters, cryojax_seg.losses")
    assert "jax" in loaded
    # flax itself loads rich and yaml.
    assert not loaded & {"mrcfile", "tyro", "matplotlib", "tifffile"}


def test_files_of_json_and_yaml_are_read_in_one_place():
    """Where size and depth are bounded; what a process made itself may be parsed anywhere."""
    for path in PACKAGE.rglob("*.py"):
        if path.name not in ("plain.py", "processes.py"):
            found = re.findall(r"json\.loads?\((?!json\.dumps)|yaml\.\w*load", path.read_text())
            assert not found, path


def strings(path):
    """The strings in a file, with their lines."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return [
        (n.lineno, n.value)
        for n in nodes
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]


OF_DASK = ("--nthreads", "--memory-limit")  # options of its workers


def test_only_the_command_line_names_options():
    """The library names parameters; `cli.console.message` adds the options."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] != "cli":
            found = [(line, s) for line, s in strings(path) if re.search(r"(?<![-\w`])--[a-z]", s)]
            found = [(line, s) for line, s in found if s not in OF_DASK]
            assert not found, f"{path.relative_to(ROOT)}: {found}"


def test_the_command_line_computes_nothing():
    array = {"numpy", "jax", "scipy", "skimage"}
    for path in sorted((PACKAGE / "cli").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
        names += [n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)]
        found = {name.split(".")[0] for name in names} & array
        assert not found, (path, found)


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


@pytest.fixture
def site(monkeypatch):
    """The module that makes pages of the documentation; it needs no MkDocs."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "hooks"))
    return importlib.import_module("pages")


def leaves(nav):
    """The pages that a `nav` of mkdocs.yml names."""
    if isinstance(nav, str):
        return [nav]
    return [page for item in nav for page in leaves(item if isinstance(nav, list) else nav[item])]


def test_the_navigation_names_every_page(site):
    made = site.made()
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = leaves(site.expanded(nav, list(made)))
    written = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    assert len(named) == len(set(named))
    assert set(named) == written | {path for path in made if path.endswith(".md")}


def test_every_public_subpackage_has_a_page(site):
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")} - {"cli"}
    made = site.made()
    assert {f"api/{name}.md" for name in folders} <= set(made)
    for name in folders:
        assert f"::: cryojax_seg.{name}" in made[f"api/{name}.md"]


def test_every_command_has_a_page():
    pages = {p.stem: p.read_text() for p in (ROOT / "docs" / "commands").glob("*.md")}
    assert set(pages) - {"index"} == set(cli._COMMANDS)
    for name in cli._COMMANDS:
        headings = re.findall("^## (.*)$", pages[name], re.M)
        assert headings[:4] == ["When to use it", "Input", "Output", "Example"]
        assert f"({name}.md)" in pages["index"]


def test_every_figure_is_in_the_gallery():
    gallery = (ROOT / "docs" / "gallery.md").read_text()
    figures = {p.name for p in (ROOT / "experiments" / "results").glob("*.png")}
    assert set(re.findall(r"!\[.*?\]\(results/(.*?)\)", gallery)) == figures


def test_commands_in_the_documentation_have_options_that_exist():
    kinds = {name: options for name, (options, _) in cli._COMMANDS.items()}
    text = "\n".join(p.read_text() for p in (ROOT / "docs").rglob("*.md"))
    lines = re.findall(r"^(?:PYTHONPATH=\. )?cryojax-seg (.*)$", text, re.M)
    # In a shell a # within a word begins no comment, as it does for shlex.
    words = [shlex.split(re.sub(r"(^|\s)#.*", "", line)) for line in lines]
    parsed = [arguments.parse(line, kinds) for line in words]
    assert {type(options) for options in parsed} == set(kinds.values())


def test_examples_of_the_documentation_tools_run(site):
    for module in (site, site.report):
        failed, tried = doctest.testmod(module)
        assert tried > 0 and failed == 0


def test_a_page_of_a_notebook_shows_what_it_was_saved_with(site, tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Text."]},
        {
            "cell_type": "code",
            "source": ["print(1)\n", "2"],
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["1\n"]},
                {"output_type": "execute_result", "data": {"text/plain": ["2"]}},
                {"output_type": "display_data", "data": {"image/png": "UE5H", "text/plain": "<F>"}},
            ],
        },
        {"cell_type": "code", "source": [], "outputs": []},
    ]
    path = tmp_path / "own.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    text, pictures = site.notebooks.page(path)
    assert text.split("\n\n") == [
        "# Title\nText.",
        "```python\nprint(1)\n2\n```",
        "```text\n1\n```",
        "```text\n2\n```",
        "![A figure that the cell above draws](own-1.png)",
    ]
    assert pictures == {"own-1.png": b"PNG"}


def test_every_question_has_an_answer_and_a_doubt(site):
    """Benchmarks measure; experiments ask, and say what they learned and what is left to ask."""
    benchmarks = {"performance", *(n for n in site.report.results() if n.startswith("benchmark_"))}
    for name in set(site.report.results()) - benchmarks:
        headings = re.findall("^#+ (.*)$", site.made()[f"results/{name}.md"], re.M)
        assert headings[0].endswith("?")
        assert headings[1:] == ["Result", "Verdict", "What a sceptic would say"], name
        assert "\nLearned" in site.made()[f"results/{name}.md"], name


EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))


def docstring(path):
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def test_every_design_is_told_in_a_few_lines(site):
    """Commands, which are indented, do not count; details belong to the functions."""
    asked = {path.stem: docstring(path) for path in EXPERIMENTS}
    asked = {name: text for name, text in asked.items() if text.partition("\n")[0].endswith("?")}
    assert len(asked) > 20
    for name, text in asked.items():
        lines = site.report.told(text).design.splitlines()
        told = [line for line in lines if line.strip() and not line.startswith("    ")]
        assert 1 <= len(told) <= 7, (name, len(told))
        assert max(map(len, told)) <= 100, name


def numbers_in(text):
    return {float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", text)}


def settings(said, result):
    """The numbers of a question, its design, the config of its result and its goals."""
    goals = " ".join(claim["goal"] for claim in result["claims"])
    return numbers_in(f"{said.question} {said.design} {json.dumps(result['config'])} {goals}")


def typed(prose, known=frozenset()):
    """The decimal numbers and percentages in prose which are neither named nor a setting."""
    prose = re.sub(r"\{[^{}]*\}|``[^`]*``|`[^`]*`", "", prose)
    found = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])|\d+(?:\.\d+)?(?=\s?%)", prose)
    return [number for number in found if float(number) not in known]


def test_a_typed_result_is_found():
    assert typed("It is {way=a: dice} at 0.3, not 0.52, and 12 % more.", {0.3}) == ["0.52", "12"]


def test_results_in_prose_are_named_and_not_typed(site):
    """So that a sentence and its result file cannot differ, see `report.filled`."""
    for name, result in site.report.results().items():
        path = site.report.script(name)
        if path in EXPERIMENTS:
            said = site.report.told(docstring(path))
            assert not typed(said.learned + said.sceptic, settings(said, result)), name


def test_nothing_nested_is_in_a_cell_of_a_result_table(site):
    for path, text in site.made().items():
        if path.startswith("results/") and path.endswith(".md"):
            cells = [line for line in text.splitlines() if line.startswith("|")]
            assert cells and not [line for line in cells if "{" in line], path


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_the_release_has_one_version():
    version = cryojax_seg.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
