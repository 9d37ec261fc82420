"""Files to distribute, and their manifests."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from hil.core.files import sha256_of
from hil.errors import ConfigurationError
from hil.onboard.node.manifest import Manifest

CHUNK_BYTES = 256 << 10
"""What is verified, forwarded and, after a power cut at worst, sent again as one piece: 21 ms at 100 Mbit/s."""


@dataclass(frozen=True)
class BundleFacts:
    """The facts about a signed OS image that a rollout needs."""

    path: Path
    version: str  # VERSION_ID in the OS's /etc/os-release
    sha256: str  # of the bundle file
    size_bytes: int
    image_sha256: str  # of the root image inside, as the updater and the running OS report it
    manifest_version: str = field(default="", kw_only=True)
    """Version in the bundle's signed manifest, as the updater reports it; empty: the same as ``version``."""

    @classmethod
    def of_file(cls, path: Path, *, version: str, image_sha256: str) -> BundleFacts:
        """Measure a bundle that this project did not build. ConfigurationError when it cannot be read."""
        try:
            return cls(path, version, sha256_of(path), path.stat().st_size, image_sha256)
        except OSError as exc:
            raise ConfigurationError(f"bundle {path}: {exc.strerror}", remedy="check the path of the bundle") from exc


@dataclass(frozen=True)
class Artefact:
    """A file to distribute: an OS bundle, an AI model, a scene."""

    path: Path
    name: str
    kind: str  # "os" | "model" | "scene"
    sha256: str
    size_bytes: int
    signature: bytes | None = field(default=None, repr=False)  # detached CMS, DER; models need one

    @classmethod
    def of_file(cls, path: Path, kind: str, *, name: str | None = None, signature: bytes | None = None) -> Artefact:
        """Hash a file. ConfigurationError when it is not there or empty."""
        try:
            digest, size = sha256_of(path), path.stat().st_size
        except OSError as exc:
            raise ConfigurationError(f"artefact {path}: {exc.strerror}", remedy="run `hil setup`") from exc
        if not size:
            raise ConfigurationError(f"artefact {path} is empty")
        return cls(path, name or path.name, kind, digest, size, signature)

    @classmethod
    def of_bundle(cls, bundle: BundleFacts) -> Artefact:
        """Return the bundle as an artefact; its digest is taken as given and checked by the boards."""
        return cls(bundle.path, bundle.path.name, "os", bundle.sha256, bundle.size_bytes)

    @property
    def manifest_sha256(self) -> str:
        """Digest of the manifest, which an order to pull names."""
        return Manifest.parse(self.manifest()).digest

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, which a node needs before the first byte."""
        document: dict[str, Any] = {
            "id": self.sha256,
            "name": self.name,
            "kind": self.kind,
            "size": self.size_bytes,
            "chunk_size": CHUNK_BYTES,
            "chunk_sha256": list(_chunks(self.path, self.sha256)),
        }
        if self.signature is not None:
            document["signature"] = base64.b64encode(self.signature).decode()
        return document


@lru_cache(maxsize=16)
def _chunks(path: Path, sha256: str) -> tuple[str, ...]:
    """Return the digests of a file's chunks; it is read once, for its content is known by its own digest."""
    chunks = []
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            chunks.append(hashlib.sha256(block).hexdigest())
    return tuple(chunks)
