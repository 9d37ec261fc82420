"""Do bytes arrive as they were sent? A link that mangles them would be blamed on the device under test.

Checksums do not tell: packets between namespaces of one machine carry a promise instead of a checksum, and a kernel
in the middle that loses payload passes the promise on.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from hil.links.calibration.probe import Probe

_BLOCK_B = 1 << 17


@dataclass(frozen=True)
class Delivery:
    """One TCP transfer: bytes sent, arrived, and among those that arrived, different."""

    sent: int
    arrived: int
    mangled: int
    error: str = ""  # why no connection could be made


def deliver(probes: Sequence[Probe], sizes_b: Mapping[Probe, int], *, deadline_s: float = 5.0) -> list[Delivery]:
    """Send random bytes over TCP along every probe's way, all at once, and compare.

    What has not arrived after ``deadline_s`` is not waited for; a connection that cannot be made is told of in
    its :class:`Delivery`.
    """
    sent = {probe: random.Random(sizes_b[probe]).randbytes(sizes_b[probe]) for probe in probes}
    receivers: dict[Probe, socket.socket] = {}
    errors: dict[Probe, str] = {}
    with ExitStack() as stack:
        for probe in probes:
            try:
                sender, receivers[probe] = (stack.enter_context(sock) for sock in probe.tcp_pair())
                sender.setblocking(False)
                sender.send(sent[probe])  # the buffer holds all of it
            except OSError as exc:
                errors[probe] = str(exc)
        until = time.monotonic() + deadline_s
        received = {probe: _received(sock, sizes_b[probe], until) for probe, sock in receivers.items()}
    deliveries = []
    for probe in probes:
        got = received.get(probe, b"")
        differing = sum(1 for before, after in zip(sent[probe], got, strict=False) if before != after)
        deliveries.append(Delivery(len(sent[probe]), len(got), differing, errors.get(probe, "")))
    return deliveries


def _received(sock: socket.socket, size_b: int, until: float) -> bytes:
    got = bytearray()
    with suppress(TimeoutError):
        while len(got) < size_b:
            sock.settimeout(max(0.001, until - time.monotonic()))  # what lies there is read in any case
            block = sock.recv(_BLOCK_B)
            if not block:
                break
            got += block
    return bytes(got)
