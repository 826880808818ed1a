"""Makes a page for each result file, their list, and the table of the project's README.

    python experiments/report.py            # writes all of them
    python experiments/report.py --check    # only says whether they are up to date

Numbers in the documentation are never typed: they are copied from `experiments/results/*.json` by
this script. Those in the prose of an experiment are given by row and column, see `filled`.
"""

import ast
import dataclasses
import json
import pathlib
import re
import sys
from typing import NamedTuple

import tyro

FOLDER = pathlib.Path(__file__).resolve().parent
BEGIN, END = "<!-- results: made by experiments/report.py -->", "<!-- end of results -->"


@dataclasses.dataclass(frozen=True)
class Config:
    """Make the documentation of results."""

    check: bool = False
    """write nothing, and exit with status 1 if the documentation is not up to date"""


# Suffixes of a column's name, and the units that its heading shows for them.
UNITS = {
    "seconds": "s",
    "s": "s",
    "ms": "ms",
    "gib": "GiB",
    "megabytes": "MB",
    "nm": "nm",
    "nm2": "nm²",
    "um2": "µm²",
    "um3": "µm³",
    "degrees": "°",
}
# Columns whose unit their name does not say.
UNITS_OF = {
    "shape": "voxels",
    "block": "voxels",
    "edge": "voxels",
    "halo": "voxels",
    "half_tilt": "°",
    "slowest_process": "voxels per second",
}
SPELLED = {"dice": "Dice", "ece": "ECE", "snr": "SNR", "cpu": "CPU", "um": "µm"}
VERDICTS = ("met", "missed", "not resolved")
LONGEST = 12  # values of a list that a cell shows


def heading(column: str) -> str:
    """Return the heading of a column, with its unit in parentheses.

    >>> heading("cpu_seconds"), heading("areas_um2: inner membrane")
    ('CPU time (s)', 'areas, inner membrane (µm²)')
    """
    column, _, key = column.partition(": ")
    *words, last = column.split("_")
    unit = UNITS_OF.get(column)
    if unit is None and last in UNITS and (not words or words[-1] != "per"):
        unit = UNITS[last]
        words += [] if words and words != ["cpu"] and words != ["wall"] else ["time"]
    else:
        words += [last]
    name = " ".join(SPELLED.get(word, word) for word in words) + (f", {key}" if key else "")
    return f"{name} ({unit})" if unit else name


def number(value, between: str = " ") -> str:
    """Format a value for a cell, with three significant digits and grouped thousands.

    >>> number(5949284889.6), number(1.33e48), number(0.51234), number([0.1, None])
    ('5,950,000,000', '1.33e+48', '0.512', '0.1 -')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if abs(value) < 1000 or abs(value) >= 1e12:
            return f"{value:.3g}"
        return f"{float(f'{value:.3g}'):,.0f}"
    if isinstance(value, list):
        return between.join(number(v) for v in value)
    return "-" if value is None else str(value)


def flat(row: dict) -> dict:
    """Return a row whose mappings are separate columns, without long lists and lists of rows.

    >>> flat({"area": {"inner": 1.0, "outer": 2.0}, "rows": [{"a": 1}]})
    {'area: inner': 1.0, 'area: outer': 2.0}
    """
    cells = {}
    for key, value in row.items():
        if isinstance(value, dict):
            cells |= {f"{key}: {k}": v for k, v in value.items() if not isinstance(v, list)}
        elif not isinstance(value, list) or (len(value) <= LONGEST and not nested(value)):
            cells[key] = value
    return cells


def nested(value) -> bool:
    """Return whether a value is a list of rows, which needs a table of its own."""
    return isinstance(value, list) and any(isinstance(v, dict) for v in value)


def table(rows: list[dict], columns: list[str] | None = None) -> str:
    """Return a Markdown table; without `columns` it has those of all rows."""
    rows = [flat(row) for row in rows]
    if columns is None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(map(heading, columns)) + " |", "|" + "---|" * len(columns)]
    between = [" to " if re.match(r".*(interval|range)", c) else " " for c in columns]
    for row in rows:
        cells = [number(row.get(c), b) for c, b in zip(columns, between, strict=True)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tables(rows: list[dict]) -> list[str]:
    """Return the table of these rows, then one for each column that holds rows itself."""
    parts = [table(rows)]
    for name in dict.fromkeys(k for row in rows for k, v in row.items() if nested(v)):
        first = next(iter(rows[0]))  # names the row that each belongs to
        inner = [{first: row[first], **part} for row in rows for part in row.get(name) or []]
        parts += [f"{heading(name).capitalize()}:", table(inner)]
    return parts


def script(name: str) -> pathlib.Path:
    """Return the script that writes ``results/NAME.json`` or ``NAME-VARIANT.json``."""
    name = name.partition("-")[0]
    if name == "performance":
        return FOLDER / "benchmarks" / "inference.py"
    if name.startswith("benchmark_") and name != "benchmark_set":
        return FOLDER / "benchmarks" / f"{name.removeprefix('benchmark_')}.py"
    return FOLDER / f"{name}.py"


def filled(text: str, result: dict) -> str:
    """Return a text in which the numbers of a result stand for their names.

    ``{variant=plain; seeds=3: recall}`` is the value of a column in the one row with these values,
    and ``{claim=NAME: value}`` that of a claim. They may be broken into lines. ``result=NAME``, as
    the first of the values, stands for the rows and claims of another result file.

    Raises:
        ValueError: if not exactly one row has these values, or it lacks the column.

    >>> rows = [{"variant": "plain", "recall": 0.5}, {"variant": "insist", "recall": 0.625}]
    >>> filled("The recall is {variant=insist: recall}.", {"rows": rows})
    'The recall is 0.625.'
    """

    def value(match: re.Match) -> str:
        keys, column = (" ".join(part.split()) for part in match.groups())
        wanted = [pair.split("=", 1) for pair in keys.split("; ")]
        source = result
        if wanted[0][0] == "result":
            source = json.loads((FOLDER / "results" / f"{wanted.pop(0)[1]}.json").read_text())
        known = [*source["rows"], *({"claim": c["name"], **c} for c in source.get("claims", ()))]
        rows = [r for r in known if all(str(r.get(k)) == v for k, v in wanted)]
        if len(rows) != 1:
            raise ValueError(f"{match.group(0)} names {len(rows)} rows, not one")
        row = flat(rows[0])
        if column not in row:
            raise ValueError(f"{match.group(0)}: there is no column {column}")
        return number(row[column], " to " if "interval" in column else " ")

    return re.sub(r"\{(\w+=[^{}]+):\s([^{}:]+)\}", value, text)


class Told(NamedTuple):
    """What the docstring of an experiment says: its parts, without their headings."""

    question: str
    design: str
    learned: str
    sceptic: str


def told(docstring: str) -> Told:
    """Return the parts of a docstring: one begins with "Learned", one with "A sceptic".

    >>> told("Is it?\\n\\nWe look.\\n\\nLearned: yes.\\n\\nA sceptic doubts.")
    Told(question='Is it?', design='We look.', learned='Learned: yes.', sceptic='A sceptic doubts.')
    """
    question, _, rest = docstring.partition("\n")
    design, *doubts = re.split(r"\n\n(?=A sceptic )", rest)
    design, *learned = re.split(r"\n\n(?=Learned)", design)
    return Told(question, design.strip("\n"), "".join(learned), "".join(doubts))


def page(name: str, result: dict) -> str:
    """Return the page of an experiment: question, design, figure, tables, verdict, doubts.

    Args:
        name: of the result file.
        result: its content.
    """
    path = script(name)
    said = told(filled(ast.get_docstring(ast.parse(path.read_text())) or "", result))
    environment = result["environment"]
    run = (
        f"`{path.relative_to(FOLDER.parent)}`, run with Python {environment['python']}, "
        f"JAX {environment['jax']}, {environment['cores']} cores, {environment['device']}, "
        f"commit {environment['commit']}, {environment['date']}."
    )
    if sittings := environment.get("earlier"):
        told_of = dict.fromkeys(f"{one['commit']}, {one['date']}" for one in sittings)
        run += f" Begun at commit {'; '.join(told_of)}."
    parts = [f"# {said.question}", run, said.design, "## Result"]
    if (FOLDER / "results" / f"{name}.png").exists():
        parts += [f"![{name}]({name}.png)"]
    parts += tables([row for row in result["rows"] if not row.get("detail")])
    parts += ["## Verdict", claim_table(result["claims"])]
    parts += [said.learned] if said.learned else []
    parts += ["## What a sceptic would say", said.sceptic] if said.sceptic else []
    return "\n\n".join(parts) + "\n"


def claim_table(claims: list[dict]) -> str:
    """Return the claims with their verdicts, and with intervals if any claim has one.

    >>> told = {"name": "gain", "value": 0.1, "interval": [-0.1, 0.3], "goal": ">= 0", "met": False}
    >>> print(claim_table([told | {"verdict": "not resolved"}]))
    | name | value | interval | goal | verdict |
    |---|---|---|---|---|
    | gain | 0.1 | -0.1 to 0.3 | >= 0 | not resolved |
    """
    rows = [{**c, "verdict": verdict_of(c)} for c in claims]
    known = ["interval"] if any(c.get("interval") for c in claims) else []
    return table(rows, ["name", "value", *known, "goal", "verdict"])


def verdict_of(claim: dict) -> str:
    """Return the verdict that an interval decides, or else whether the value reaches the goal."""
    verdict = claim.get("verdict") or ("met" if claim["met"] else "missed")
    return f"**{verdict}**" if verdict == "missed" else verdict


def results() -> dict[str, dict]:
    paths = sorted((FOLDER / "results").glob("*.json"))
    return {p.stem: json.loads(p.read_text()) for p in paths}


HEAD = """# Experiments

One file asks one question. It prints its table, writes `results/NAME.json`, and has a `--tiny` form
for the tests. The pages below are made from those files by `python experiments/report.py`: each has
the question, the design, a figure, tables, the verdict on the goals that were set before, and what
a sceptic would say. Where a goal has an interval, it is met only if the interval clears it, missed
if the interval excludes it, and else not resolved. A long experiment goes on where it stopped, with
the records in `results/NAME.partial.jsonl`. Once that file is committed, another machine can go on.

"""

OPEN = """
These questions have no recorded answer yet. Some of the experiments were designed anew:

"""


def experiments_readme() -> str:
    """Return the list of all questions, with the verdicts on their goals."""
    rows = []
    for name, result in results().items():
        asked = told(ast.get_docstring(ast.parse(script(name).read_text())) or "").question
        _, _, variant = name.partition("-")
        link = f"[{asked}](results/{name}.md)" + (f" ({variant})" if variant else "")
        rows.append({"question": link, **verdicts(result["claims"])})
    return HEAD + table(rows, ["question", *VERDICTS]) + "\n" + open_questions()


def open_questions() -> str:
    """Return the list of the questions whose answer is not recorded."""
    answered = {script(name) for name in results()}
    paths = sorted(FOLDER.glob("*.py")) + sorted(FOLDER.glob("benchmarks/*.py"))
    lines = []
    for path in (path for path in paths if path not in answered):
        asked = told(ast.get_docstring(ast.parse(path.read_text())) or "").question
        if asked.endswith("?"):
            lines.append(f"- [{asked}]({path.relative_to(FOLDER).as_posix()})\n")
    return OPEN + "".join(lines) if lines else ""


def verdicts(claims: list[dict]) -> dict[str, int | None]:
    """Return how many claims have each verdict; None stands for none.

    >>> verdicts([{"met": True}, {"met": False}, {"met": False, "verdict": "not resolved"}])
    {'met': 1, 'missed': 1, 'not resolved': 1}
    """
    found = [verdict_of(claim).strip("*") for claim in claims]
    return {name: found.count(name) or None for name in VERDICTS}


SHOWN = (
    *("threshold", "hysteresis", "sheet", "tensor-voting", "convnet"),
    *("unet-fast", "unet-fast both"),
)


def project_results() -> str:
    """Return the table of the project's README: some methods on the real microtubules."""
    rows = [row for row in results()["real_microtubules"]["rows"] if row["method"] in SHOWN]
    columns = ["method", "average_precision", "dice", "precision", "recall", "ece", "cpu_seconds"]
    return table(rows, columns)


def claims() -> str:
    """Return a table of the claims of all experiments."""
    rows = [
        {"experiment": name, **c, "verdict": verdict_of(c)}
        for name, result in results().items()
        for c in result["claims"]
    ]
    return table(rows, ["experiment", "name", "value", "interval", "goal", "verdict"])


def main(config: Config) -> int:
    readme = FOLDER.parent / "README.md"
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{readme} needs the lines '{BEGIN}' and '{END}'")
    before, rest = text.split(BEGIN)
    wanted = {
        readme: f"{before}{BEGIN}\n{project_results()}\n{END}{rest.split(END)[1]}",
        FOLDER / "README.md": experiments_readme(),
        **{FOLDER / "results" / f"{n}.md": page(n, result) for n, result in results().items()},
    }
    stale = [p for p, new in wanted.items() if not p.exists() or p.read_text() != new]
    for path in stale:
        print(f"{'stale' if config.check else 'wrote'}: {path.relative_to(FOLDER.parent)}")
        if not config.check:
            path.write_text(wanted[path])
    return int(config.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
