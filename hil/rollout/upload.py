"""Ground to gateway: one stream that resumes at the byte after any cut."""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import ssl
import struct
import termios
import time
from dataclasses import dataclass
from typing import Any

from hil.core.activity import doing
from hil.core.wait import Clock
from hil.errors import BenchError, DeviceError
from hil.images.artefact import Artefact
from hil.onboard.node.answers import ArtefactStatus, json_object
from hil.onboard.node.client import read_answer, refusal
from hil.rollout.node_client import NodeClient, NodeRefused, NodeSilent

STALL_S = 0.7
"""No byte acknowledged for so long means the path is dead: connect again rather than wait for TCP's back-off."""
RETRY_S = 0.1
FINISH_S = 60.0
"""How long the board may take for its last sync and checks."""
ANSWER_S = 5.0
"""From the first byte of its answer to the last."""
SEND_BYTES = 1 << 20
ENCRYPTED_BYTES = 64 << 10
"""Given to TLS at once; more would be held back for what the other side says meanwhile."""
UNSENT_BYTES = 256 << 10
BUSY_S = 0.5
"""Between questions while another controller uploads the same."""
BUSY = 423
TRANSIENT = frozenset({409, BUSY, 500, 503})


CONTROLLER = f"{re.sub(r'[^A-Za-z0-9.-]', '-', socket.gethostname())[:32]}-{os.getpid()}"
"""Who uploads, for another controller that wants to upload the same."""


@dataclass(frozen=True)
class Uploaded:
    """How an upload went."""

    seconds: float
    connections: int
    resumed_at: tuple[int, ...]  # byte offsets of the connections after the first


def upload(
    client: NodeClient, artefact: Artefact, *, deadline_s: float, clock: Clock, manifest: dict[str, Any]
) -> Uploaded:
    """Bring an artefact to one board, resuming for as long as ``deadline_s``.

    While another controller uploads the same, its end is waited for, or its silence.
    DeviceError when the board refuses it (its digest, its signature, no space); BenchError at the deadline.
    """
    start = clock.monotonic()
    offsets: list[int] = []
    last: Exception | None = None
    while clock.monotonic() - start < deadline_s:
        try:
            status = client.artefact(artefact.sha256)
            if status is None or not status.path:
                status = client.ask(ArtefactStatus, "PUT", f"/artefacts/{artefact.sha256}/manifest", manifest)
            if status.complete:
                if status.error:
                    raise DeviceError(f"{client.board} refused {artefact.name}: {status.error}")
                return Uploaded(clock.monotonic() - start, len(offsets), tuple(offsets[1:]))
            if status.have_bytes > artefact.size_bytes:
                raise DeviceError(
                    f"{client.board} says that it has {status.have_bytes} bytes of {artefact.name}, which has "
                    f"{artefact.size_bytes}"
                )
            offsets.append(status.have_bytes)
            with client.dial() as sock:
                _send(sock, client, artefact, offsets[-1])
        except NodeRefused as exc:
            if exc.status not in TRANSIENT:
                raise DeviceError(f"{client.board} refused {artefact.name}: {exc.reason}") from exc
            last = exc
            if exc.status == BUSY and offsets:
                offsets.pop()  # that was no connection that carried anything
            clock.sleep(BUSY_S if exc.status == BUSY else RETRY_S)
        except (NodeSilent, OSError) as exc:
            last = exc
            clock.sleep(RETRY_S)
    raise BenchError(
        f"upload of {artefact.name} to {client.board} did not end within {deadline_s:g} s (last error: {last})",
        remedy="is the ground link up? see `hil link show`",
    ) from last


def _send(sock: socket.socket, client: NodeClient, artefact: Artefact, offset: int) -> None:
    """One PATCH from ``offset`` to the end. OSError or NodeSilent: the path died; NodeRefused: the board refuses it."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    head = (
        f"PATCH /artefacts/{artefact.sha256}?offset={offset}&by={CONTROLLER} HTTP/1.1\r\nHost: {client.ip}\r\n"
        f"Content-Length: {artefact.size_bytes - offset}\r\nConnection: close\r\n\r\n"
    )
    sock.sendall(head.encode())
    watch = _Progress(sock)
    what = f"{client.board}: upload of {artefact.name}"
    with artefact.path.open("rb") as file, doing(what, whole=artefact.size_bytes) as activity:
        while offset < artefact.size_bytes:
            if watch.wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
                break  # it answers before it has everything: a refusal
            try:
                if isinstance(sock, ssl.SSLSocket):  # the same bytes again until they are taken
                    offset += sock.send(os.pread(file.fileno(), ENCRYPTED_BYTES, offset))
                else:
                    offset += os.sendfile(sock.fileno(), file.fileno(), offset, SEND_BYTES)
                activity.done = offset
            except (BlockingIOError, ssl.SSLWantWriteError):
                continue
    watch.wait(select.POLLIN, patience_s=FINISH_S)
    with client.talking("PATCH", f"/artefacts/{artefact.sha256}"):
        response, content = read_answer(sock, "PATCH", silence_s=ANSWER_S, end=time.monotonic() + ANSWER_S)
        answer = json_object(content)
        if response.status != 200:
            raise refusal(response.status, answer)


class _Progress:
    """Waits for a socket, and tells a slow path (bytes are acknowledged) from a dead one (none are)."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._poll = select.poll()

    def wait(self, events: int, *, patience_s: float = STALL_S) -> int:
        """Return the events that are ready.

        TimeoutError when nothing was acknowledged for ``STALL_S`` while something is under way, or when all is
        acknowledged and ``patience_s`` passed.
        """
        self._poll.register(self._sock, events)
        waited, queued = 0.0, self._unacknowledged()
        while True:
            ready = self._poll.poll(STALL_S * 1000)
            if ready:
                return ready[0][1]
            waited += STALL_S
            now = self._unacknowledged()
            if now and now >= queued:
                raise TimeoutError(f"no byte was acknowledged for {STALL_S:g} s")
            if now < queued:
                waited = 0.0
            if waited >= patience_s:
                raise TimeoutError(f"no answer for {patience_s:g} s")
            queued = now

    def _unacknowledged(self) -> int:
        (size,) = struct.unpack("i", fcntl.ioctl(self._sock, termios.TIOCOUTQ, b"\0" * 4))
        return int(size)
