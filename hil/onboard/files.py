"""Small files that must survive a power cut."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_durably(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace a file so that after a power cut it has the old or the new content, and the new one on return.

    Not ``durable``: without waiting for the disk.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    part.replace(path)
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Have a directory's names, or the content of a file or a device, on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, document: Any) -> None:
    """:func:`write_durably` of a JSON document."""
    write_durably(path, json.dumps(document, sort_keys=True).encode())


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object; an empty one when the file is not there, was never completely written, or is another."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
