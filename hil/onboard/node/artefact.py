"""One artefact on disk: an append-only file whose prefix is always verified.

Nothing but the data file and its manifest is state: how far the file is good is found again by hashing it, so a
kill or a power cut at any moment can only shorten it.  Bytes are offered to others as soon as their chunk is
verified, long before the file is complete (cut-through).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hil.onboard.files import read_object, write_durably
from hil.onboard.node import answers
from hil.onboard.node.errors import ApiError
from hil.onboard.node.manifest import Manifest

SYNC_EVERY_BYTES = 8 << 20
"""How much a power cut may cost; smaller values make flash and receivers wait more often."""

BEFORE_RESTART = "(before a restart)"
"""The peer under which bytes are counted whose sender a kill made us forget."""

TAKE_OVER_S = 3.0
"""An upload that brought no byte for so long may be taken over by another controller."""

SignatureCheck = Callable[[Path, bytes], None]
"""Raises ApiError 422 when the detached signature does not fit the file."""


class Superseded(Exception):
    """Another writer has taken over; this one's connection is stale."""


@dataclass(frozen=True)
class _Counters:
    """What was counted by peer, in ``counters.json``: bytes, and connections."""

    received: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    connections: dict[str, int] = field(default_factory=dict)


def _counters(path: Path) -> _Counters:
    try:
        return answers.read(_Counters, read_object(path), path.name)
    except answers.ContractError:
        return _Counters()  # they are evidence, not state


class Artefact:
    """Thread-safe.  One writer at a time; any number of readers."""

    def __init__(self, directory: Path, manifest: Manifest, check_signature: SignatureCheck) -> None:
        self.directory = directory
        self.path = directory / "data"
        self._manifest = manifest
        self._check_signature = check_signature
        self._changed = threading.Condition(threading.RLock())
        self._loaded = False
        self._deleted = False
        self._fd = -1
        self._have = self._verified = self._synced = 0
        self._chunk = hashlib.sha256()
        self._whole = hashlib.sha256()
        self._whole_at_boundary = hashlib.sha256()
        self._complete = self._installed = False
        self._error = ""
        self._writer: object | None = None
        self._writer_by = ""
        self._written_s = 0.0
        counters = _counters(directory / "counters.json")
        self._received, self._sent, self._connections = counters.received, counters.sent, counters.connections

    # --- facts -------------------------------------------------------------------------------------------------

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    @property
    def installed(self) -> bool:
        """Complete, its digest right, and its signature valid where it needs one."""
        with self._changed:
            self._load()
            return self._installed

    @property
    def untouched(self) -> bool:
        """Announced, and no byte of it is here or on its way."""
        with self._changed:
            here = self._have if self._loaded else self.path.exists() and self.path.stat().st_size
            return not here and self._writer is None

    @property
    def gives_way(self) -> bool:
        """Incomplete, and no upload makes progress: nothing has shown that its manifest is the right one."""
        with self._changed:
            if self._is_busy():
                return False
            self._load()
            return not self._complete

    def _is_busy(self) -> bool:
        return self._writer is not None and time.monotonic() - self._written_s < TAKE_OVER_S

    def status(self) -> dict[str, Any]:
        """Return what ``GET /artefacts/<id>`` says; sizes in bytes."""
        with self._changed:
            self._load()
            return {
                "id": self.manifest.id,
                "name": self.manifest.name,
                "kind": self.manifest.kind,
                "size": self.manifest.size,
                "have_bytes": self._have,
                "verified": self._verified,
                "complete": self._complete,
                "installed": self._installed,
                "error": self._error,
                "path": str(self.path),
                "received": dict(self._received),
                "sent": dict(self._sent),
                "connections": dict(self._connections),
            }

    # --- writing -----------------------------------------------------------------------------------------------

    def begin(self, offset: int | None, peer: str, by: str = "") -> object:
        """Become the writer; the token for :meth:`append`.  ``offset`` None means "wherever you are".

        ``by`` names the controller that uploads.  ApiError 423 while another controller's upload makes progress: two
        that took over from each other would never end.  ApiError 409 with ``have_bytes`` when nothing is missing, or
        the offset is not the end of what is here.  Whoever wrote before is superseded by a wrong offset too: a client
        that comes again has given up its old connection.
        """
        with self._changed:
            self._load()
            if self._is_busy() and by and self._writer_by not in ("", by):
                raise ApiError(423, f"busy: {self._writer_by} uploads it", have_bytes=self._have)
            if self._deleted:
                raise ApiError(404, "artefact was deleted")
            if self._have >= self.manifest.size:  # the writer of the last byte may still be syncing it
                raise ApiError(409, "artefact is complete", have_bytes=self._have)
            self._writer = None
            if offset is not None and offset != self._have:
                raise ApiError(409, f"offset must be {self._have}", have_bytes=self._have)
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._connections[peer] = self._connections.get(peer, 0) + 1
            self._writer = token = object()
            self._writer_by, self._written_s = by, time.monotonic()
            return token

    def leave(self, token: object) -> None:
        """Write no more: another controller need not wait."""
        with self._changed:
            if self._writer is token:
                self._writer = None

    def append(self, token: object, data: memoryview, peer: str) -> None:
        """Write, verify every chunk that becomes whole, sync now and then, and finish at the last byte.

        Superseded when another writer began; ApiError 422 on a digest or signature that is wrong (the file is cut
        back to the last good chunk), 413 on more bytes than the manifest announces, 507 when the disk is full, 500 when
        it fails.
        """
        while data:
            with self._changed:
                if self._writer is not token:
                    raise Superseded
                end = self.manifest.chunk_end(self._have)
                part = data[: end - self._have]
                if not part:
                    raise ApiError(413, f"artefact has only {self.manifest.size} bytes", have_bytes=self._have)
                done = self._write(part)
                self._received[peer] = self._received.get(peer, 0) + done
                data = data[done:]
                self._written_s = time.monotonic()
                if self._have == end:
                    self._end_of_chunk()
            self._sync_sometimes(token)

    def _write(self, part: memoryview) -> int:
        try:
            done = os.pwrite(self._fd, part, self._have)
        except OSError as exc:
            self._cut_back()
            raise self._storage_error(exc) from exc
        self._take(part[:done])
        return done

    def _storage_error(self, exc: OSError) -> ApiError:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "no space left for the artefact" if full else f"storage failed: {exc.strerror}"
        return ApiError(507 if full else 500, reason, have_bytes=self._have)

    def _take(self, data: memoryview | bytes) -> None:
        self._chunk.update(data)
        self._whole.update(data)
        self._have += len(data)

    def _end_of_chunk(self) -> None:
        """ApiError 422 when the chunk that ends here has a wrong digest; then it is cut off."""
        index = self._verified // self.manifest.chunk_size
        if self._chunk.hexdigest() != self.manifest.chunk_sha256[index]:
            self._cut_back()
            raise ApiError(422, f"chunk {index} has a wrong digest", have_bytes=self._have)
        self._verified = self._have
        self._chunk = hashlib.sha256()
        self._whole_at_boundary = self._whole.copy()
        self._changed.notify_all()

    def _cut_back(self) -> None:
        """Forget the unverified tail."""
        os.ftruncate(self._fd, self._verified)
        self._have = self._verified
        self._synced = min(self._synced, self._have)
        self._chunk = hashlib.sha256()
        self._whole = self._whole_at_boundary.copy()

    def _sync_sometimes(self, token: object) -> None:
        with self._changed:
            last = self._verified == self.manifest.size
            if self._writer is not token or not (last or self._have - self._synced >= SYNC_EVERY_BYTES):
                return
            have, fd = self._have, os.dup(self._fd)
        try:
            os.fdatasync(fd)  # outside the lock: readers go on meanwhile
        except OSError as exc:  # what of it is on disk is not known, and a second sync would not say
            with self._changed:
                if self._writer is token:
                    self._writer = None
                    os.close(self._fd)
                    self._fd = -1
                    self._start_over()
                raise self._storage_error(exc) from exc
        finally:
            os.close(fd)
        with self._changed:
            self._synced = max(self._synced, have)
            if last and self._writer is token:
                self._writer = None
                self._finish()
            self._save_counters()

    def _finish(self) -> None:
        """The last byte is here: the whole digest, then the signature."""
        if self._fd >= 0:
            os.close(self._fd)  # updaters refuse a bundle that someone holds open for writing
            self._fd = -1
        if self._whole.hexdigest() != self.manifest.id:
            self._start_over()
            raise ApiError(422, "the artefact's digest is not its id: all of it was dropped", have_bytes=0)
        self._complete = True
        try:
            self._accept_signature()
        finally:
            self._changed.notify_all()

    def _accept_signature(self) -> None:
        self._installed, self._error = False, ""
        if self.manifest.needs_signature:
            try:
                if self.manifest.signature is None:
                    raise ApiError(422, f"a {self.manifest.kind} artefact needs a signature")
                self._check_signature(self.path, self.manifest.signature)
            except ApiError as exc:
                self._error = exc.message
                raise
        self._installed = True

    def _start_over(self) -> None:
        self.path.unlink(missing_ok=True)
        self._have = self._verified = self._synced = 0
        self._chunk, self._whole, self._whole_at_boundary = (hashlib.sha256() for _ in range(3))
        self._complete = self._installed = False
        self._changed.notify_all()

    def replace_manifest(self, manifest: Manifest) -> None:
        """Take a manifest of the same content with another signature; checks it when the file is complete."""
        with self._changed:
            self._load()
            self._manifest = manifest
            if self._complete:
                self._accept_signature()

    # --- reading -----------------------------------------------------------------------------------------------

    def readable(self, position: int, *, wait_s: float) -> int:
        """Return the end of the verified prefix, after waiting up to ``wait_s`` for it to go beyond ``position``.

        ApiError 416 when the position is beyond the artefact or what is verified shrank below it, 404 when deleted.
        """
        deadline = time.monotonic() + wait_s
        with self._changed:
            self._load()
            if position > self.manifest.size:
                raise ApiError(416, f"artefact has {self.manifest.size} bytes")
            while self._verified <= position and not self._deleted:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            if self._deleted:
                raise ApiError(404, "artefact was deleted")
            return self._verified

    def count_sent(self, peer: str, size: int) -> None:
        """Add to the bytes sent to ``peer``."""
        with self._changed:
            self._sent[peer] = self._sent.get(peer, 0) + size
            self._save_counters()

    # --- life --------------------------------------------------------------------------------------------------

    def close(self, *, deleted: bool = False) -> None:
        """Stop writers and, when it was deleted, readers."""
        with self._changed:
            self._writer = None
            self._deleted = self._deleted or deleted
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._changed.notify_all()

    def _load(self) -> None:
        """Find out by hashing how much of the file is good; once, at the first use."""
        if self._loaded:
            return
        self._loaded = True
        if not self.path.exists():
            return
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            length = min(os.fstat(self._fd).st_size, self.manifest.size)
            with contextlib.suppress(ApiError):  # a wrong chunk: what is before it is good
                while self._have < length:
                    end = min(self.manifest.chunk_end(self._have), length)
                    data = os.pread(self._fd, end - self._have, self._have)
                    if not data:
                        break
                    self._take(data)
                    if self._have == self.manifest.chunk_end(self._verified):
                        self._end_of_chunk()
            os.ftruncate(self._fd, self._have)
            os.fdatasync(self._fd)
            self._synced = self._have
        finally:
            os.close(self._fd)
            self._fd = -1
        uncounted = self._have - sum(self._received.values())
        if uncounted > 0:  # a kill came between the bytes and the counters
            self._received[BEFORE_RESTART] = self._received.get(BEFORE_RESTART, 0) + uncounted
        if self._verified == self.manifest.size:
            try:
                self._finish()
            except ApiError as exc:
                self._error = exc.message

    def _save_counters(self) -> None:
        """Best effort: they are evidence, not state, so a power cut may lose the last of them."""
        if self._deleted:
            return
        counters = {"received": self._received, "sent": self._sent, "connections": self._connections}
        with contextlib.suppress(OSError):
            write_durably(self.directory / "counters.json", json.dumps(counters).encode(), durable=False)
