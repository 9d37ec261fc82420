"""All artefacts of a board."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

from hil.onboard.files import sync
from hil.onboard.node import state
from hil.onboard.node.answers import ContractError
from hil.onboard.node.artefact import Artefact, SignatureCheck
from hil.onboard.node.errors import ApiError
from hil.onboard.node.manifest import Manifest
from hil.onboard.node.signature import verify

RESERVE_BYTES = 4 << 20
"""Space that no artefact may take: the updater's and the cluster's own state must always find room."""
MAX_ARTEFACTS = 256
MAX_ANNOUNCED = 32
"""So many artefacts of which nothing is here yet may one peer have announced; the next one takes the oldest's place."""
MANIFEST = "manifest.json"


def cms_check(keyring: Path) -> SignatureCheck:
    """Return a check of detached CMS signatures against the certificates in ``keyring``.

    Where it has a revocation list, too, a revoked certificate is refused.
    """

    def check(path: Path, signature: bytes) -> None:
        verify(path, signature, keyring)

    return check


class Store:
    """Artefacts under ``root``, one directory each: ``manifest.json``, ``data``, ``counters.json``."""

    def __init__(self, root: Path, check_signature: SignatureCheck) -> None:
        self.root = root
        self._check_signature = check_signature
        self._lock = threading.RLock()
        self._artefacts: dict[str, Artefact] = {}
        self._announcers: dict[str, str] = {}
        root.mkdir(parents=True, exist_ok=True)
        for directory in sorted(each for each in root.iterdir() if each.is_dir()):
            path = directory / MANIFEST
            try:
                if document := state.load(path):
                    manifest = Manifest.parse(document)
                    if manifest.id != directory.name:
                        raise ContractError(f"it is the manifest of {manifest.id}")
                    self._artefacts[manifest.id] = Artefact(directory, manifest, check_signature)
            except (ContractError, ApiError) as exc:
                state.set_aside(path, exc)  # the bytes stay: who announces the artefact again finds them here

    def put(self, artefact_id: str, document: Any, peer: str = "") -> Artefact:
        """Announce an artefact for a peer; the same manifest again changes nothing, a new signature replaces the old.

        An incomplete artefact that nobody uploads now gives way to another manifest, which may be the right one: the
        bytes that are here stay as far as they fit its digests.

        ApiError 400 for a wrong manifest, 409 when the id is known with another content, 422 when a complete artefact
        does not fit its new signature, 507 when there is no room for it.
        """
        manifest = Manifest.parse(document)
        if manifest.id != artefact_id:
            raise ApiError(400, "manifest: id must be the one in the address")
        with self._lock:
            known = self._artefacts.get(manifest.id)
            if known is not None and not known.manifest.same_content(manifest) and known.gives_way:
                self._artefacts.pop(manifest.id).close(deleted=True)
                known = None
            if known is None:
                self._make_place(peer)
                self._announcers[manifest.id] = peer
                return self._add(manifest)
            if not known.manifest.same_content(manifest):
                raise ApiError(409, "this artefact is known with another manifest")
            newly_signed = manifest.signature is not None and manifest.signature != known.manifest.signature
            if newly_signed:
                state.save(known.directory / MANIFEST, manifest.document())
        if newly_signed:
            known.replace_manifest(manifest)  # without the lock: it may check a large file
        return known

    def _make_place(self, peer: str) -> None:
        """Forget the oldest announcement when this peer, or all together, have made too many. ApiError 507."""
        idle = [a for i, a in self._artefacts.items() if not self.order(i).exists() and a.untouched]
        own = [a for a in idle if self._announcers.get(a.manifest.id) == peer]
        if len(own) >= MAX_ANNOUNCED:
            self.delete(own[0].manifest.id)
        elif len(self._artefacts) >= MAX_ARTEFACTS:
            if not idle:
                raise ApiError(507, f"there are {MAX_ARTEFACTS} artefacts already; delete some")
            self.delete(idle[0].manifest.id)

    def _add(self, manifest: Manifest) -> Artefact:
        free = shutil.disk_usage(self.root).free
        if free < manifest.size + RESERVE_BYTES:
            raise ApiError(507, f"artefact has {manifest.size} bytes, {free} are free", free_bytes=free)
        directory = self.root / manifest.id
        directory.mkdir(parents=True, exist_ok=True)
        sync(self.root)
        state.save(directory / MANIFEST, manifest.document())
        artefact = self._artefacts[manifest.id] = Artefact(directory, manifest, self._check_signature)
        return artefact

    def order(self, artefact_id: str) -> Path:
        """Return the file with the order to pull an artefact (it may be there before the manifest)."""
        return self.root / artefact_id / "pull.json"

    def find(self, artefact_id: str) -> Artefact | None:
        with self._lock:
            return self._artefacts.get(artefact_id)

    def get(self, artefact_id: str) -> Artefact:
        """ApiError 404 when it was never announced here."""
        artefact = self.find(artefact_id)
        if artefact is None:
            raise ApiError(404, "no such artefact here")
        return artefact

    def installed(self, artefact_id: str) -> Path | None:
        """Return the file of an artefact that is complete and, where it must be, signed; else None."""
        artefact = self.find(artefact_id)
        return artefact.path if artefact is not None and artefact.installed else None

    def all(self) -> list[Artefact]:
        with self._lock:
            return list(self._artefacts.values())

    def delete(self, artefact_id: str) -> None:
        """Forget an artefact and free its space. ApiError 404 when it is not here."""
        with self._lock:
            directory = self.root / artefact_id
            if artefact_id not in self._artefacts and not directory.is_dir():
                raise ApiError(404, "no such artefact here")
            self._announcers.pop(artefact_id, None)
            if artefact := self._artefacts.pop(artefact_id, None):
                artefact.close(deleted=True)
            shutil.rmtree(directory)  # there may be bytes without a manifest that can be read

    def close(self) -> None:
        for artefact in self.all():
            artefact.close()
