"""Builds the parts of a page, which is one HTML file that opens offline."""

import html
from collections.abc import Sequence
from importlib import resources

from cryojax_seg.report.units import pretty


def resource(name: str) -> str:
    """Return the text of a file that lies beside this module."""
    return resources.files("cryojax_seg.report").joinpath(name).read_text("utf-8")


def page(title: str, header: str, body: str, scripts: str = "") -> str:
    """Return a page in the style of the reports.

    Args:
        title: of the page, plain text; it is its heading too.
        header: HTML below the heading.
        body: HTML of the main part.
        scripts: script elements at the end.

    >>> "<title>a&lt;b</title>" in page("a<b", "", "")
    True
    """
    title = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{resource('report.css')}</style></head>\n"
        f"<body><header><h1>{title}</h1>{header}</header><main>{body}</main>{scripts}</body></html>\n"
    )


def section(title: str, content: str, note: str = "") -> str:
    """Return a section with a heading and a note, which are plain text, around HTML.

    >>> section("A & B", "<p>text</p>", "note")
    '<section><h2>A &amp; B</h2><p>note</p><p>text</p></section>'
    """
    note = f"<p>{html.escape(note)}</p>" if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{note}{content}</section>"


class Html(str):
    """Holds HTML, which a table shows as it is."""


def table(columns: Sequence[str], lines: Sequence[Sequence[str]], kind: str = "") -> str:
    """Return a table of plain text, or `Html`, whose lines stand below each other on a phone.

    Args:
        columns: the heads.
        lines: the cells of each line.
        kind: a further class for the style.

    >>> table(["a"], [["<"]])[-60:]
    '</th></tr><tr><td data-head="a">&lt;</td></tr></table></div>'
    """
    heads = [html.escape(pretty(c)) for c in columns]
    head = "".join(f'<th scope="col">{c}</th>' for c in heads)
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td data-head="{name}">{cell if isinstance(cell, Html) else html.escape(cell)}</td>'
            for name, cell in zip(heads, line, strict=True)
        )
        + "</tr>"
        for line in lines
    )
    style = f"narrow {kind}".strip()
    return f'<div class="scroll"><table class="{style}"><tr>{head}</tr>{rows}</table></div>'


def figure(title: str, note: str, drawn: str) -> str:
    """Return a figure with a heading and a note, which are plain text, above an SVG element.

    >>> figure("a", "b", "<svg></svg>")
    '<figure><figcaption><h2>a</h2><p>b</p></figcaption><svg></svg></figure>'
    """
    title, note = html.escape(title), html.escape(note)
    return f"<figure><figcaption><h2>{title}</h2><p>{note}</p></figcaption>{drawn}</figure>"
