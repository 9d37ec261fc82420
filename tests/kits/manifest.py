"""Manifests of artefacts that tests upload."""

from __future__ import annotations

import hashlib
from typing import Any

CHUNK = 4096


def manifest_of(content: bytes, kind: str = "os", **changes: Any) -> dict[str, Any]:
    """Return the manifest of ``content`` in chunks of ``CHUNK`` bytes, with ``changes`` of its fields."""
    chunks = [hashlib.sha256(content[i : i + CHUNK]).hexdigest() for i in range(0, len(content), CHUNK)]
    document = {
        "id": hashlib.sha256(content).hexdigest(),
        "name": "bundle.raucb",
        "kind": kind,
        "size": len(content),
        "chunk_size": CHUNK,
        "chunk_sha256": chunks,
    }
    return {**document, **changes}
