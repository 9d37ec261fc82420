"""What an artefact is: its digest, its size, the digests of its chunks, perhaps a signature."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from hil.onboard.node.errors import ApiError

KINDS = ("os", "model", "scene")
MAX_SIZE = 64 << 30
MIN_CHUNK, MAX_CHUNK = 4 << 10, 16 << 20
MAX_SIGNATURE = 64 << 10
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}\Z")


@dataclass(frozen=True)
class Manifest:
    """Facts about an artefact. ``id`` is the sha256 of the whole file; sizes in bytes."""

    id: str
    name: str
    kind: str
    size: int
    chunk_size: int
    chunk_sha256: tuple[str, ...] = field(repr=False)
    signature: bytes | None = field(default=None, repr=False)  # detached CMS in DER

    @property
    def needs_signature(self) -> bool:
        """OS bundles carry their own signature, which the updater checks; models need a detached one."""
        return self.kind == "model"

    def chunk_end(self, position: int) -> int:
        """End of the chunk that ``position`` lies in."""
        return min((position // self.chunk_size + 1) * self.chunk_size, self.size)

    def same_content(self, other: Manifest) -> bool:
        """Return whether both describe the same bytes; the signature may differ."""
        return replace(self, signature=None) == replace(other, signature=None)

    @property
    def digest(self) -> str:
        """SHA-256 of all but the signature: an order to pull names it, so that a source cannot lie about it."""
        document = replace(self, signature=None).document()
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        out: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "size": self.size,
            "chunk_size": self.chunk_size,
            "chunk_sha256": list(self.chunk_sha256),
        }
        if self.signature is not None:
            out["signature"] = base64.b64encode(self.signature).decode()
        return out

    @classmethod
    def parse(cls, document: Any) -> Manifest:
        """From the JSON form; ApiError 400 names the field that is wrong and what is allowed."""
        if not isinstance(document, dict):
            raise ApiError(400, "manifest: must be a JSON object")
        unknown = set(document) - {"id", "name", "kind", "size", "chunk_size", "chunk_sha256", "signature"}
        if unknown:
            raise ApiError(400, f"manifest: unknown field {sorted(unknown)[0]!r}")
        size = _integer(document, "size", 1, MAX_SIZE)
        chunk_size = _integer(document, "chunk_size", MIN_CHUNK, MAX_CHUNK)
        chunks = document.get("chunk_sha256")
        wanted = -(-size // chunk_size)
        if not isinstance(chunks, list) or len(chunks) != wanted:
            raise ApiError(400, f"manifest: chunk_sha256 must be a list of {wanted} digests")
        for chunk in chunks:
            _text({"chunk_sha256": chunk}, "chunk_sha256", _DIGEST, "64 lower-case hexadecimal digits each")
        kind = document.get("kind")
        if kind not in KINDS:
            raise ApiError(400, f"manifest: kind must be one of {', '.join(KINDS)}")
        return cls(
            id=_text(document, "id", _DIGEST, "64 lower-case hexadecimal digits"),
            name=_text(document, "name", _NAME, "a plain file name of up to 128 characters"),
            kind=kind,
            size=size,
            chunk_size=chunk_size,
            chunk_sha256=tuple(chunks),
            signature=_signature(document.get("signature")),
        )


def _integer(document: dict[str, Any], key: str, low: int, high: int) -> int:
    value = document.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ApiError(400, f"manifest: {key} must be an integer from {low} to {high}")
    return value


def _text(document: dict[str, Any], key: str, pattern: re.Pattern[str], allowed: str) -> str:
    value = document.get(key)
    if not isinstance(value, str) or not pattern.match(value):
        raise ApiError(400, f"manifest: {key} must be {allowed}")
    return value


def _signature(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        raw = base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise ApiError(400, "manifest: signature must be base64") from None
    if not 0 < len(raw) <= MAX_SIGNATURE:
        raise ApiError(400, f"manifest: signature must have 1 to {MAX_SIGNATURE} bytes")
    return raw
