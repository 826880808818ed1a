"""Makes `experiments/README.md` and the results in the project's README from the result files.

    python experiments/report.py            # writes both
    python experiments/report.py --check    # only says whether they are up to date

Numbers in the documentation are never typed: they are copied from `experiments/results/*.json` by
this script.
"""

import ast
import dataclasses
import json
import pathlib
import sys

import tyro

FOLDER = pathlib.Path(__file__).resolve().parent
BEGIN, END = "<!-- results: made by experiments/report.py -->", "<!-- end of results -->"


@dataclasses.dataclass(frozen=True)
class Config:
    """Documentation from results."""

    check: bool = False
    """write nothing; exit 1 if the documentation is not up to date"""


def number(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, list):
        return " ".join(number(v) for v in value)
    return "-" if value is None else str(value)


def table(rows: list[dict], columns: list[str] | None = None) -> str:
    """A Markdown table; without `columns`, of all that any row has."""
    if columns is None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(c.replace("_", " ") for c in columns) + " |"]
    lines.append("|" + "---|" * len(columns))
    lines += ["| " + " | ".join(number(row.get(c)) for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def script(name: str) -> pathlib.Path:
    """The experiment or benchmark that writes ``results/NAME.json`` or ``NAME-VARIANT.json``."""
    name = name.partition("-")[0]
    if name == "performance":
        return FOLDER / "benchmarks" / "inference.py"
    if name.startswith("benchmark_"):
        return FOLDER / "benchmarks" / f"{name.removeprefix('benchmark_')}.py"
    return FOLDER / f"{name}.py"


def section(name: str, result: dict) -> str:
    path = script(name)
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    environment = result["environment"]
    parts = [
        f"## {docstring.splitlines()[0]}",
        "",
        f"`{path.relative_to(FOLDER.parent)}`, run with ",
    ]
    parts[-1] += (
        f"Python {environment['python']}, JAX {environment['jax']}, {environment['cores']} cores, "
        f"{environment['device']}, commit {environment['commit']}, {environment['date']}."
    )
    rows = [row for row in result["rows"] if not row.get("detail")]
    parts += ["", "\n".join(docstring.splitlines()[1:]).strip(), "", table(rows), ""]
    claims = [{**c, "met": "met" if c["met"] else "**not met**"} for c in result["claims"]]
    parts += [table(claims, ["name", "value", "goal", "met"]), ""]
    if (FOLDER / "results" / f"{name}.png").exists():
        parts += [f"![{name}](results/{name}.png)", ""]
    return "\n".join(parts)


def results() -> dict[str, dict]:
    paths = sorted((FOLDER / "results").glob("*.json"))
    return {p.stem: json.loads(p.read_text()) for p in paths}


def experiments_readme() -> str:
    head = (
        "# Experiments\n\nOne file, one question. Each prints its table, writes "
        "`results/NAME.json` and has a `--tiny` form that takes less than a minute. This page is "
        "made from those files by `python experiments/report.py`.\n\n"
    )
    return head + "\n".join(section(name, result) for name, result in results().items())


def project_results() -> str:
    """What the project's README shows: the real microtubules, speed, then every claim."""
    found = results()
    parts = []
    if real := found.get("real_microtubules"):
        rows = [r for r in real["rows"] if r["data"] == "microtubules"]
        parts += [table(rows, ["method", "dice", "precision", "recall", "ece", "cpu_seconds"]), ""]
    if performance := found.get("performance"):
        columns = ["what", "engine", "voxels_per_second", "share_of_matrix_product"]
        parts += [table(performance["rows"], [*columns, "seconds", "peak_gib"]), ""]
    claims = [
        {"experiment": name, **c, "met": "met" if c["met"] else "**not met**"}
        for name, result in found.items()
        for c in result["claims"]
    ]
    parts += [table(claims, ["experiment", "name", "value", "goal", "met"])]
    return "\n".join(parts)


def main(config: Config) -> int:
    readme = FOLDER.parent / "README.md"
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{readme} needs the lines '{BEGIN}' and '{END}'")
    before, rest = text.split(BEGIN)
    wanted = {
        readme: f"{before}{BEGIN}\n{project_results()}\n{END}{rest.split(END)[1]}",
        FOLDER / "README.md": experiments_readme(),
    }
    stale = [p for p, new in wanted.items() if not p.exists() or p.read_text() != new]
    for path in stale:
        print(f"{'stale' if config.check else 'wrote'}: {path.relative_to(FOLDER.parent)}")
        if not config.check:
            path.write_text(wanted[path])
    return int(config.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
