"""The page that somebody signs when a board is brought in; made from the JSON document beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hil.core import paths

TEMPLATES = paths.PACKAGE / "report" / "templates"


def write_qualification(document: Mapping[str, Any], directory: Path) -> Path:
    """Write ``<board>-<time>.json`` and ``.html``; the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    stamp = str(document["started_utc"])[:19].replace(":", "").replace("-", "")
    stem = directory / f"{document['board']}-{stamp}Z"
    stem.with_suffix(".json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    page = stem.with_suffix(".html")
    page.write_text(render(document), "utf-8")
    return page


def render(document: Mapping[str, Any]) -> str:
    """Return one self-contained page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    checks = document["checks"]
    return environment.get_template("qualification.html.j2").render(
        d=document,
        passed=sum(check["outcome"] == "PASS" for check in checks),
        tones={
            "PASS": "tone-pass",
            "FAIL": "tone-fail",
            "INCONCLUSIVE": "tone-inconclusive",
            "SKIPPED": "tone-inconclusive",
        },
    )
