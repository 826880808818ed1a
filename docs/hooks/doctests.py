"""Shows the doctests of docstrings as Python sessions."""

import re

import griffe


def fenced(text: str) -> str:
    """Return a docstring with its doctests in fenced blocks.

    >>> print(fenced("One.\\n\\n>>> 1 + 1\\n2\\n\\nTwo."))
    One.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    <BLANKLINE>
    Two.
    """
    paragraphs = re.split(r"\n{2,}", text)
    kept: list[str] = []
    for paragraph in paragraphs:
        before, prompt, session = paragraph.partition(">>>")
        if not prompt or before.strip(" ").rstrip("\n") != before.rstrip("\n"):
            kept.append(paragraph)
            continue
        kept += [before.rstrip("\n")] if before else []
        kept.append(f"```pycon\n>>>{session}\n```")
    return "\n\n".join(kept)


class Doctests(griffe.Extension):
    """Fences the doctests of every docstring that griffe reads."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
