"""Hooks of the documentation site (`mkdocs.yml`): pages of the root folder, and no page that needs a network."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT_PAGES = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
"""Files of the repository's root that are pages of the site, and the pages' names."""

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?!\w+:)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):(?=<code>)")
CELL = re.compile(r"<td.*?</td>", re.S)
FOREIGN = re.compile(r"<(?:script|img|iframe)[^>]+src=\"https?:[^>]*>|<link[^>]+stylesheet[^>]+\"https?:[^>]*>")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie in the repository's root."""
    root = Path(config.config_file_path).parent
    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(root / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to other files of the repository at their pages; of a file that has none the name remains."""
    uri = page.file.src_uri
    folder = "" if uri in ROOT_PAGES.values() else posixpath.dirname(f"docs/{uri}")

    def here(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match["path"]))
        place = ROOT_PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else "")
        if not place:
            return match["text"]
        return f"[{match['text']}]({posixpath.relpath(place, posixpath.dirname(uri) or '.')}{match['anchor'] or ''})"

    return LINK.sub(here, markdown)


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
