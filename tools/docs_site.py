"""Hooks of the documentation site (`mkdocs.yml`): pages of the root folder, and no page that needs a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT_PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files of the repository's root that are pages of the site, and the pages' names."""

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):(?=<code>)")
CELL = re.compile(r"<td.*?</td>", re.S)
FOREIGN = re.compile(
    r"<(?:script|img|iframe)[^>]+src=\"https?:[^>]*>|<link[^>]+stylesheet[^>]+\"https?:[^>]*>"
)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie in the repository's root."""
    root = Path(config.config_file_path).parent
    for source, page in ROOT_PAGES.items():
        content = (root / source).read_text("utf-8").replace("](docs/", "](")
        for other, other_page in ROOT_PAGES.items():
            content = content.replace(f"]({other}", f"]({other_page}")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links to files of the repository's root at the pages that hold them."""
    for source, page in ROOT_PAGES.items():
        markdown = markdown.replace(f"](../{source}", f"]({page}")
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    """Remove the roles (``:class:``) of docstrings, and the backslash before a ``|`` in the code of a table's cell."""
    return CELL.sub(lambda cell: cell[0].replace(r"\|", "|"), ROLE.sub("", html))


def on_post_build(config: Any) -> None:
    """Raise PluginError when a page loads a script, a style or an image from a network."""
    foreign = [
        f"{path.name}: {match[0]}"
        for path in sorted(Path(config.site_dir).rglob("*.html"))
        for match in FOREIGN.finditer(path.read_text("utf-8"))
    ]
    if foreign:
        raise PluginError("pages that need a network:\n" + "\n".join(foreign))
