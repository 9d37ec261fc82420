"""Small files that must survive a power cut."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file so that after a power cut it has the old or the new content, and the new one on return."""
    part = path.with_name(path.name + ".part")
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    part.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make names that were created, renamed or removed in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_json(path: Path, document: Any) -> None:
    """:func:`write_durably` of a JSON document."""
    write_durably(path, json.dumps(document, sort_keys=True).encode())


def read_json(path: Path) -> Any:
    """The document, or None when the file is not there or was never completely written."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
