"""Makes all pages that come from other files, and names them in `nav`, without MkDocs."""

import re
import sys
from pathlib import Path

import api

import notebooks

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from experiments import report  # noqa: E402

WIDE = "---\nhide: [toc]\n---\n"  # tables take the room of the table of contents

RESULTS = """# Results

Each experiment asks one question and writes one result file. The pages of this section, and the
table below, are made from those files, so no number here was typed. `python experiments/NAME.py`
repeats an experiment and `--tiny` runs a short form of it. Every page says on which machine and at
which commit its numbers were measured.

Before an experiment runs, it states its goals as claims. The table lists all of them, whether they
were met or not.

{claims}
"""


def made() -> dict[str, str | bytes | Path]:
    """Return text, bytes or the file to copy by paths below the site, in the order of `nav`."""
    files: dict[str, str | bytes | Path] = dict(api.pages())
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files[f"notebooks/{path.stem}.md"], pictures = notebooks.page(path)
        files |= {f"notebooks/{name}": picture for name, picture in pictures.items()}
    linked = re.sub(r"(?m)^\| ([\w-]+) \|", _linked, report.claims())
    files["results/index.md"] = RESULTS.format(claims=linked)
    for name, result in report.results().items():
        linked = re.sub(r"!\[.*\]\((.*)\)", r"[\g<0>](\1)", report.page(name, result))
        files[f"results/{name}.md"] = f"{WIDE}{linked}"
    for path in sorted((ROOT / "experiments" / "results").glob("*.png")):
        files[f"results/{path.name}"] = path
    for name in ("contributing", "changelog"):
        files[f"{name}.md"] = (ROOT / f"{name.upper()}.md").read_text()
    return files


def expanded(nav: list, paths: list[str]) -> list:
    """Return a `nav` in which each folder, such as ``api/``, is replaced by its pages.

    >>> expanded([{"API": "api/"}, "index.md"], ["api/core.md", "results/a.md"])
    [{'API': [{'core': 'api/core.md'}]}, 'index.md']
    """

    def entry(item):
        if isinstance(item, dict):
            return {title: entry(value) for title, value in item.items()}
        if isinstance(item, list):
            return [entry(value) for value in item]
        if not item.endswith("/"):
            return item
        return [_named(p) for p in paths if p.startswith(item) and p.endswith(".md")]

    return entry(nav)


def _linked(cell: re.Match[str]) -> str:
    """Return the first cell of a row of claims as a link to the page of its experiment."""
    return cell[0] if cell[1] == "experiment" else f"| [{cell[1]}]({cell[1]}.md) |"


def _named(path: str) -> str | dict[str, str]:
    """Return an entry of `nav`; notebooks and indices are named by their own headings."""
    folder, _, name = path.removesuffix(".md").rpartition("/")
    if name == "index" or folder == "notebooks":
        return path
    words = name.replace("_", " ")
    return {words if folder == "api" else words[0].upper() + words[1:]: path}
