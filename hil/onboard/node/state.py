"""State files of the node with a digest over all of each: what was damaged is set aside, never used and never fatal."""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from hil.onboard.files import write_json
from hil.onboard.node.answers import ContractError, json_object

DIGEST = "state_sha256"
"""The field that a file has beside its document; a file of an older version lacks it."""


def save(path: Path, document: dict[str, Any]) -> None:
    """Write a document durably, with its digest."""
    write_json(path, {**document, DIGEST: _digest(document)})


def load(path: Path) -> dict[str, Any]:
    """Return the document of a file; empty when there is no file.  ContractError when it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise ContractError(f"it cannot be read: {exc.strerror}") from exc
    document = json_object(content, "the file")
    digest = document.pop(DIGEST, None)
    if digest is not None and digest != _digest(document):
        raise ContractError("its content does not fit its digest")
    return document


def set_aside(path: Path, why: object) -> str:
    """Rename a damaged file to ``<name>.damaged``; return a sentence, which the console gets as well."""
    with suppress(OSError):
        path.replace(path.with_name(f"{path.name}.damaged"))
    said = f"{path} was damaged and is forgotten: {why}"
    print(f"node service: {said}", file=sys.stderr, flush=True)
    return said


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
