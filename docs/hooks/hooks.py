"""Gives MkDocs the pages that are made from code, results, notebooks and files of the project.

An entry of `nav` that ends in ``/`` stands for all pages that are made in that folder.
"""

import re
from pathlib import Path

import commands
import pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace each folder in `nav` by its pages."""
    config.nav = pages.expanded(config.nav or [], list(pages.made()))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that are made from other files."""
    for path, content in pages.made().items():
        if isinstance(content, Path):
            files.append(File.generated(config, path, abs_src_path=str(content)))
        else:
            files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Append the ``--help`` of a command to its page."""
    folder, _, name = page.file.src_uri.removesuffix(".md").rpartition("/")
    if folder == "commands" and name in commands.COMMANDS:
        return f"{markdown}\n\n{commands.markdown(name)}"
    return markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Mark options such as ``--tilt-range``, which the stylesheet keeps on one line."""
    return re.sub(
        r"<code>(--?[a-z][\w-]*(?: [\w.]+)?)</code>", r'<code class="option">\1</code>', html
    )
