"""Do bytes arrive as they were sent? A link that mangles them would be blamed on the device under test.

Checksums do not tell: packets between namespaces of one machine carry a promise instead of a checksum, and a kernel
in the middle that loses payload passes the promise on.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from hil.core.wait import poll_until
from hil.links.calibration.probe import Probe

_BLOCK_B = 1 << 17


@dataclass(frozen=True)
class Delivery:
    """One TCP transfer: bytes sent, arrived, and among those that arrived, different."""

    sent: int
    arrived: int
    mangled: int
    error: str = ""  # why no connection could be made


def deliver(
    probes: Sequence[Probe], sizes_b: Mapping[Probe, int], *, deadline_s: float = 5.0
) -> list[Delivery]:
    """Send random bytes over TCP along every probe's way, all at once, and compare.

    What has not arrived after ``deadline_s`` is not waited for; a connection that cannot be made is told of in
    its :class:`Delivery`.
    """
    with ExitStack() as stack:
        flows: dict[Probe, _Flow] = {}
        errors: dict[Probe, str] = {}
        for probe in probes:
            try:
                flows[probe] = _Flow(stack, probe, sizes_b[probe])
            except OSError as exc:
                errors[probe] = str(exc)
        for _ in poll_until(deadline_s, every_s=0.001):
            while any([flow.step() for flow in flows.values()]):
                continue
            if all(flow.finished for flow in flows.values()):
                break
        return [
            flows[probe].result() if probe in flows else Delivery(sizes_b[probe], 0, 0, errors[probe])
            for probe in probes
        ]


class _Flow:
    def __init__(self, stack: ExitStack, probe: Probe, size_b: int) -> None:
        self._sender, self._receiver = (stack.enter_context(sock) for sock in probe.tcp_pair())
        self._sender.setblocking(False)
        self._receiver.setblocking(False)
        self._data = random.Random(size_b).randbytes(size_b)
        self._sent = 0
        self._got = bytearray()

    @property
    def finished(self) -> bool:
        return len(self._got) >= len(self._data)

    def step(self) -> bool:
        """Send and receive what is possible now; whether anything was."""
        before = self._sent + len(self._got)
        with suppress(BlockingIOError):
            while self._sent < len(self._data):
                self._sent += self._sender.send(self._data[self._sent : self._sent + _BLOCK_B])
        with suppress(BlockingIOError):
            while block := self._receiver.recv(_BLOCK_B, socket.MSG_DONTWAIT):
                self._got += block
        return self._sent + len(self._got) > before

    def result(self) -> Delivery:
        differing = sum(1 for sent, got in zip(self._data, self._got, strict=False) if sent != got)
        return Delivery(len(self._data), len(self._got), differing)
