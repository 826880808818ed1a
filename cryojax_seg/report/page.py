"""Builds the parts of a page, which is one HTML file that opens offline."""

import html
from collections.abc import Sequence
from importlib import resources


def resource(name: str) -> str:
    """Return the text of a file that lies beside this module."""
    return resources.files("cryojax_seg.report").joinpath(name).read_text("utf-8")


def page(title: str, header: str, body: str) -> str:
    """Return a page in the style of the reports.

    Args:
        title: of the page, plain text; it is its heading too.
        header: HTML below the heading.
        body: HTML of the main part.

    >>> "<title>a&lt;b</title>" in page("a<b", "", "")
    True
    """
    title = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{resource('report.css')}</style></head>\n"
        f"<body><header><h1>{title}</h1>{header}</header><main>{body}</main></body></html>\n"
    )


def section(title: str, content: str, note: str = "") -> str:
    """Return a section with a heading and a note, which are plain text, around HTML.

    >>> section("A & B", "<p>text</p>", "note")
    '<section><h2>A &amp; B</h2><p>note</p><p>text</p></section>'
    """
    note = f"<p>{html.escape(note)}</p>" if note else ""
    return f"<section><h2>{html.escape(title)}</h2>{note}{content}</section>"


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table of plain text that scrolls where it is too wide.

    >>> table(["a"], [["<"]])
    '<div class="scroll"><table><tr><th scope="col">a</th></tr><tr><td>&lt;</td></tr></table></div>'
    """
    head = "".join(f'<th scope="col">{html.escape(c)}</th>' for c in columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>"
        for line in lines
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def figure(title: str, note: str, drawn: str) -> str:
    """Return a figure with a heading and a note, which are plain text, above an SVG element.

    >>> figure("a", "b", "<svg></svg>")
    '<figure><figcaption><h2>a</h2><p>b</p></figcaption><svg></svg></figure>'
    """
    title, note = html.escape(title), html.escape(note)
    return f"<figure><figcaption><h2>{title}</h2><p>{note}</p></figcaption>{drawn}</figure>"
