"""Pages made from notebooks and the outputs that they were saved with. Nothing is executed."""

import base64
import json
from pathlib import Path


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return the Markdown of a notebook, and its pictures by their names beside the page."""
    notebook = json.loads(path.read_text())
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        text = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(text)
        elif text:
            parts.append(f"```python\n{text}\n```")
            for output in cell["outputs"]:
                parts.append(_output(output, path.stem, pictures))
    return "\n\n".join(filter(None, parts)), pictures


def _output(output: dict, stem: str, pictures: dict[str, bytes]) -> str:
    data = output.get("data", {})
    if picture := data.get("image/png"):
        name = f"{stem}-{len(pictures) + 1}.png"
        pictures[name] = base64.b64decode("".join(picture))
        return f"![A figure that the cell above draws]({name})"
    text = "".join(output.get("text") or data.get("text/plain") or "").rstrip()
    return f"```text\n{text}\n```" if text else ""
