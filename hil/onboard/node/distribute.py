"""Board-to-board distribution: a stream that follows an artefact as it grows, and the puller at its other end.

Wire format of ``GET /artefacts/<id>/data?offset=N&follow=1``: frames of a 4-byte big-endian length and that many
bytes.  Length 0 is a heartbeat (nothing new yet, the path is alive), ``END`` the end of the artefact.  Because of
the heartbeats a puller can tell a dead path from a source that itself waits, within ``STALL_S``, at any link rate.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from hil.onboard.files import read_object, write_json
from hil.onboard.node.artefact import Artefact, Superseded
from hil.onboard.node.client import Connect, Peer, connect, split
from hil.onboard.node.errors import ApiError
from hil.onboard.node.manifest import Manifest
from hil.onboard.node.state import set_aside
from hil.onboard.node.store import Store

HEARTBEAT_S = 0.2
STALL_S = 0.8
"""No byte for so long means the path is dead: reconnect, resume at the byte."""
CONNECT_S = 0.4
BACK_OFF_S = (0.02, 0.05, 0.1, 0.2)
REFUSED_S = 1.0
"""Pause after bad data or a full disk, which a quick retry would not cure."""
MAX_FRAME = 1 << 20
RECEIVE_BYTES = 256 << 10
SEND_BYTES = 64 << 10
"""Encrypted at once."""
END = 0xFFFFFFFF
MAX_SOURCES = 16
MAX_ORDERS = 16
"""Artefacts that a board pulls at the same time."""
_LENGTH = struct.Struct("!I")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def send_following(sock: socket.socket, artefact: Artefact, offset: int, peer: str) -> None:
    """Send frames from ``offset`` until the end of the artefact, waiting for what is still to come.

    OSError when the peer is gone; ApiError when the artefact is.
    """
    position, sent = offset, 0
    size = artefact.manifest.size
    sock.settimeout(3.0)
    try:
        while position < size and artefact.readable(position, wait_s=HEARTBEAT_S) <= position:
            sock.sendall(_LENGTH.pack(0))  # perhaps there is not even a file yet
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(artefact.path.open("rb")) if position < size else None
            while file is not None and position < size:
                length = min(artefact.readable(position, wait_s=HEARTBEAT_S) - position, MAX_FRAME)
                if length <= 0:
                    sock.sendall(_LENGTH.pack(0))
                    continue
                try:
                    _send_part(sock, file, position, length, _LENGTH.pack(length))
                finally:
                    sent += max(file.tell() - position, 0)
                position += length
        sock.sendall(_LENGTH.pack(END))
    finally:
        artefact.count_sent(peer, sent)


def send_plain(sock: socket.socket, artefact: Artefact, offset: int, end: int, peer: str) -> None:
    """Send the bytes from ``offset`` to ``end``, which are all here."""
    sock.settimeout(10.0)
    with artefact.path.open("rb") as file:
        try:
            _send_part(sock, file, offset, end - offset)
        finally:
            artefact.count_sent(peer, max(file.tell() - offset, 0))


def _send_part(sock: socket.socket, file: BinaryIO, position: int, length: int, head: bytes = b"") -> None:
    """Send part of a file after ``head``; by the kernel alone where nothing has to be encrypted.

    The file is then as far as what was sent.
    """
    if not isinstance(sock, ssl.SSLSocket):
        if head:
            sock.sendall(head, socket.MSG_MORE)
        sock.sendfile(file, position, length)
        return
    file.seek(position)
    while length > 0:
        part = file.read(min(length, SEND_BYTES))
        if not part:
            return
        try:
            sock.sendall(head + part if head else part)
        except OSError:
            file.seek(-len(part), os.SEEK_CUR)  # how much of it went is not known
            raise
        head, length = b"", length - len(part)


class Puller:
    """Fetches one artefact from the first source that has it, for ever, resuming at its byte.

    The order of ``sources`` is a preference: the next one is tried when one cannot be reached or falls silent.
    """

    def __init__(
        self,
        store: Store,
        artefact_id: str,
        sources: list[str],
        name_of: Callable[[str], str],
        connector: Connect,
        manifest: str = "",
    ) -> None:
        """``manifest``: digest of the manifest that is meant; empty: whatever the source says."""
        self._store = store
        self._id = artefact_id
        self.sources = sources
        self._name_of = name_of
        self._connector = connector
        self.manifest = manifest
        self._stop = threading.Event()
        self.last_error = ""
        self._thread = threading.Thread(target=self._run, name=f"pull-{artefact_id[:8]}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end; it does within ``STALL_S``."""
        self._stop.set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            source = self.sources[failures % len(self.sources)]
            before = self._have()
            try:
                artefact = self._announced(source)
                if artefact.status()["complete"]:
                    break
                self._stream(artefact, source)
            except Superseded:
                return  # a newer order or an upload from the ground has taken over
            except (OSError, ApiError, http.client.HTTPException) as exc:
                self.last_error = f"{source}: {exc}"
                failures = 0 if self._have() > before else failures + 1
                refused = isinstance(exc, ApiError) and exc.status != 404
                self._stop.wait(REFUSED_S if refused else BACK_OFF_S[min(failures, len(BACK_OFF_S) - 1)])
        if not self._stop.is_set():
            self._store.order(self._id).unlink(missing_ok=True)

    def _have(self) -> int:
        artefact = self._store.find(self._id)
        return 0 if artefact is None else int(artefact.status()["have_bytes"])

    def _announced(self, source: str) -> Artefact:
        """Return the artefact here, with its manifest fetched from the source when it is new."""
        artefact = self._store.find(self._id)
        if artefact is not None and self.manifest and artefact.manifest.digest == self.manifest:
            return artefact
        if artefact is not None and not artefact.untouched and not self.manifest:
            return artefact  # until then the source knows better than whoever announced it here
        with contextlib.closing(Peer(source, timeout_s=STALL_S, connector=self._connector)) as peer:
            document = peer.json("GET", f"/artefacts/{self._id}/manifest")
        if self.manifest and Manifest.parse(document).digest != self.manifest:
            raise ApiError(422, "the source's manifest is not the one that was ordered")
        return self._store.put(self._id, document)

    def _stream(self, artefact: Artefact, source: str) -> None:
        host, port = split(source)
        name = self._name_of(host)
        with self._connector(host, port, CONNECT_S) as sock:
            sock.settimeout(STALL_S)
            token = artefact.begin(None, name)
            offset = int(artefact.status()["have_bytes"])
            path = f"/artefacts/{self._id}/data?offset={offset}&follow=1"
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            response = http.client.HTTPResponse(sock)
            response.begin()
            if response.status != 200:
                raise ApiError(response.status, "the source refused the stream")
            buffer = memoryview(bytearray(SEND_BYTES))
            while not self._stop.is_set():
                head = response.read(_LENGTH.size)
                if len(head) < _LENGTH.size:
                    raise ConnectionError("the source closed the stream")
                (length,) = _LENGTH.unpack(head)
                if length == END:
                    return
                if length > MAX_FRAME:
                    raise ConnectionError(f"frame of {length} bytes")
                while length:
                    # TLS comes in records of 16 KB: several of them at once cost less
                    encrypted = isinstance(sock, ssl.SSLSocket)
                    got = response.readinto(buffer[: min(length, SEND_BYTES)]) if encrypted else 0
                    part = buffer[:got] if encrypted else memoryview(response.read1(min(length, RECEIVE_BYTES)))
                    if not part:
                        raise ConnectionError("the source closed the stream")
                    artefact.append(token, part, name)
                    length -= len(part)


class Distributor:
    """The pullers of a board.  Orders are kept on disk, so a board goes on pulling after a reboot."""

    def __init__(self, store: Store, *, name_of: Callable[[str], str], connector: Connect = connect) -> None:
        self._store = store
        self._name_of = name_of
        self._connector = connector
        self._lock = threading.Lock()
        self._pullers: dict[str, Puller] = {}

    def resume(self) -> None:
        """Start the pullers that were at work when the board went down."""
        for order in sorted(self._store.root.glob("*/pull.json")):
            try:
                known = read_object(order)
                self.pull(order.parent.name, known.get("from"), known.get("manifest_sha256", ""))
            except ApiError as exc:
                set_aside(order, exc)

    def pull(self, artefact_id: str, sources: Any, manifest: Any = "") -> None:
        """Fetch an artefact from these ``ip:port`` sources; replaces an earlier order for it.

        ``manifest``: digest of the manifest that is meant, if it matters.  ApiError 400 for a wrong list of sources or
        digest, 429 for too many orders.
        """
        if not isinstance(manifest, str) or (manifest and not _DIGEST.fullmatch(manifest)):
            raise ApiError(400, "manifest_sha256 must be 64 lower-case hexadecimal digits")
        if not isinstance(sources, list) or not 0 < len(sources) <= MAX_SOURCES:
            raise ApiError(400, f"from must be a list of 1 to {MAX_SOURCES} ip:port")
        for source in sources:
            if not isinstance(source, str):
                raise ApiError(400, "from must be a list of ip:port")
            split(source)
        artefact = self._store.find(artefact_id)
        if artefact is not None and artefact.status()["complete"]:
            return
        with self._lock:
            current = self._pullers.get(artefact_id)
            same = current is not None and (current.sources, current.manifest) == (sources, manifest)
            if current is not None and current.alive and same:
                return
            if (current is None or not current.alive) and sum(p.alive for p in self._pullers.values()) >= MAX_ORDERS:
                raise ApiError(429, f"{MAX_ORDERS} artefacts are being pulled already; delete one or wait")
            self._pullers = {i: p for i, p in self._pullers.items() if p.alive}
            order = self._store.order(artefact_id)
            order.parent.mkdir(parents=True, exist_ok=True)
            write_json(order, {"from": sources, "manifest_sha256": manifest})
            puller = Puller(self._store, artefact_id, sources, self._name_of, self._connector, manifest)
            self._pullers[artefact_id] = puller
            if current is not None:
                current.stop()
            puller.start()

    def describe(self, artefact_id: str) -> dict[str, Any] | None:
        """Return the order at work for an artefact, or None."""
        with self._lock:
            puller = self._pullers.get(artefact_id)
        if puller is None or not puller.alive:
            return None
        return {"from": puller.sources, "last_error": puller.last_error}

    def cancel(self, artefact_id: str) -> None:
        with self._lock:
            puller = self._pullers.pop(artefact_id, None)
        if puller is not None:
            puller.stop()
        self._store.order(artefact_id).unlink(missing_ok=True)

    def stop(self) -> None:
        """End all pullers; their orders stay on disk."""
        with self._lock:
            pullers, self._pullers = list(self._pullers.values()), {}
        for puller in pullers:
            puller.stop()
