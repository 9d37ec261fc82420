"""The page that somebody signs when a board is brought in; made from the JSON document beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hil.report.pages import render as render_page


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
    checks = document["checks"]
    return render_page("qualification.html.j2", d=document, passed=sum(check["outcome"] == "PASS" for check in checks))
