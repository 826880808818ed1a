"""Makes API pages from the public subpackages and the names that each exports."""

import ast
from pathlib import Path

import cryojax_seg

PACKAGE = Path(cryojax_seg.__file__).parent
PUBLIC = tuple(cryojax_seg._SUBPACKAGES)


def source(module: str) -> Path:
    """Return the file of a module, given its name below the package, such as `core`."""
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def names_of(module: str) -> Path:
    """Return the file that names what a module exports: its stub, if it loads names lazily."""
    stub = source(module).with_suffix(".pyi")
    return stub if stub.exists() else source(module)


def exported(module: str) -> dict[str, list[str]]:
    """Return the names that a subpackage exports, by the module that defines them.

    A subpackage exports a name by ``from MODULE import NAME as NAME``.
    """
    names: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(names_of(module).read_text())):
        if isinstance(node, ast.ImportFrom):
            parts = [f"cryojax_seg.{module}"] * node.level + [node.module] * bool(node.module)
            kept = [alias.name for alias in node.names if alias.asname == alias.name]
            names.setdefault(".".join(parts), []).extend(kept)
    return {name: kept for name, kept in names.items() if kept}


def page(module: str) -> str:
    """Return the Markdown of the API page of a subpackage or a module.

    Names stand under the module that defines them, whose docstring introduces them.
    """
    whole = f"cryojax_seg.{module}"
    parts = [f"# {whole}", _docstring(whole)]
    found = exported(module)
    if not found:
        return "\n\n".join([*parts, _directive(whole, 2, members=True)])
    for definer in sorted(found, key=lambda name: name == whole):  # submodules come last
        for name in found[definer] if definer == whole else []:
            parts += [f"## {_title(name)}", _directive(f"{whole}.{name}", 3, members=True)]
        if definer != whole:
            parts += [f"## {_title(definer)}", _docstring(definer)]
            parts += [_directive(f"{whole}.{name}", 3) for name in found[definer]]
    return "\n\n".join(parts)


def pages() -> dict[str, str]:
    """Return the API pages, as paths below the site with their Markdown."""
    return {f"api/{module}.md": page(module) for module in PUBLIC}


def _title(module: str) -> str:
    words = module.rpartition(".")[2].replace("_", " ")
    return words[0].upper() + words[1:]


def _docstring(module: str) -> str:
    text = source(module.partition(".")[2]).read_text()
    return ast.get_docstring(ast.parse(text)) or ""


def _directive(name: str, level: int, members: bool = False) -> str:
    lines = [f"::: {name}", "    options:", f"      heading_level: {level}"]
    if members:
        lines += ["      show_root_heading: false", "      show_root_toc_entry: false"]
    return "\n".join(lines)
