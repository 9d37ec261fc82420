"""Real packets across a link, timed at both ends.

Both ends are namespaces of one machine and share its clock, so one-way delay is measured directly: the sender
writes the time into the packet, the kernel stamps it when it arrives.  One thread sends and afterwards reads what
lies in the receivers, so the receiving side costs nothing while the sending side is timed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Self

from hil.core import netns
from hil.core.wait import poll_until
from hil.errors import BenchError
from hil.links.engines.agent import clock_offset
from hil.links.link_box import Direction, End, LinkStatus
from hil.links.state import ETHERNET_HEADER_B

HEADERS_B = ETHERNET_HEADER_B + 20 + 8
"""Ethernet, IPv4 and UDP around a probe's payload."""

_PROBE = struct.Struct("<8sQI")  # nonce, sent ns, sequence
_SMALL_B = 64 - 8
SMALL_FRAME_B = _SMALL_B + HEADERS_B
"""A probe as the link counts it, when nothing else is asked for."""
_UDP_SEGMENT = 103
_BURST_B = 60_000
_CATCH_UP_S = 0.002
_BLAST_AHEAD = 1.1
_BLAST_LEAD_S = 0.012  # every link's queue holds 20 ms
_BLAST_QUIET_S = 0.05  # frames follow one another until the last has come
_SIOCGIFADDR = 0x8915
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_TCP_BUFFER_B = 32 * 1024 * 1024
_RECEIVE_BUFFER_B = 64 * 1024 * 1024
_TIMESPEC = struct.Struct("qq")


@dataclass(frozen=True)
class Arrival:
    """One probe that arrived; times on this machine's CLOCK_MONOTONIC."""

    sequence: int
    sent_ns: int
    arrived_ns: int

    @property
    def delay_ns(self) -> int:
        return self.arrived_ns - self.sent_ns


class Probe:
    """Probes in one direction of one link. A context manager; BenchError when an end has no address.

    ``source``: an address from which they seem to come, one of a tenant's board; by default the link end's own.
    """

    def __init__(self, link: LinkStatus, direction: Direction, *, source: str = "") -> None:
        self.link = link.name
        self.direction = direction
        near, target = (link.a, link.b) if direction == "a_to_b" else (link.b, link.a)
        self.delay_s = getattr(link, direction).commanded.delay_us / 1e6
        self._target = target.namespace, address_of(target)
        self._source = near.namespace, source or address_of(near)
        self._nonce = os.urandom(8)
        self._sequence = 0
        with ExitStack() as undo:
            self._sender = undo.enter_context(netns.udp(*self._source, device=near.ifname, foreign=bool(source)))
            self._receiver = undo.enter_context(netns.udp(*self._target, device=target.ifname))
            self._receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER_B)
            self._receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._receiver.setblocking(False)
            self._sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _RECEIVE_BUFFER_B)
            self._sender.setblocking(False)
            self._sender.connect(self._receiver.getsockname())
            self._exits = undo.pop_all()

    @property
    def name(self) -> tuple[str, Direction]:
        return self.link, self.direction

    def restart(self) -> None:
        """Forget what is on its way: numbering starts again, and stragglers are not counted."""
        self._nonce = os.urandom(8)
        self._sequence = 0
        self.arrivals()

    def send(self, payload_b: int = _SMALL_B, count: int = 1) -> int:
        """Send ``count`` probes (at most 40) with one system call; how many the sender's queue took.

        The kernel cuts one large write into packets (UDP_SEGMENT), in software, before the NIC: a system call per
        packet would measure this process rather than the link.
        """
        filling = bytes(payload_b - _PROBE.size)
        now_ns, numbers = time.monotonic_ns(), range(self._sequence, self._sequence + count)
        data = b"".join(_PROBE.pack(self._nonce, now_ns, number) + filling for number in numbers)
        segment = [(socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", payload_b))] if count > 1 else []
        try:
            self._sender.sendmsg([data], segment)
        except BlockingIOError:
            return 0
        except OSError as exc:
            if exc.errno != errno.EHOSTUNREACH:  # nobody answers there: the link is down, the probe is lost
                what = f"link {self.link} {self.direction}: cannot send a probe: {exc.strerror}"
                raise BenchError(what) from exc
        self._sequence += count
        return count

    def arrivals(self) -> list[Arrival]:
        """Return what has arrived since the last call, in order of arrival."""
        offset_ns = clock_offset(time.monotonic_ns, time.time_ns).offset_ns  # the kernel stamps the time of day
        arrived: list[Arrival] = []
        while True:
            try:
                data, ancillary, _, _ = self._receiver.recvmsg(2048, 64)
            except BlockingIOError:
                return arrived
            if len(data) < _PROBE.size:
                continue
            nonce, sent_ns, sequence = _PROBE.unpack_from(data)
            if nonce != self._nonce:
                continue
            for _, kind, value in ancillary:
                if kind == _SO_TIMESTAMPNS:
                    seconds, nanoseconds = _TIMESPEC.unpack(value[: _TIMESPEC.size])
                    arrived.append(Arrival(sequence, sent_ns, seconds * 1_000_000_000 + nanoseconds + offset_ns))

    def tcp_pair(self) -> tuple[socket.socket, socket.socket]:
        """Connect a TCP pair along the same way, with buffers of 32 MB: (sender, receiver)."""
        namespace, address = self._target
        with netns.inside(namespace):
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with listener:
            listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _TCP_BUFFER_B)
            listener.bind((address, 0))
            listener.listen(1)
            listener.settimeout(5 + 4 * self.delay_s)
            sender = netns.connect(self._source[0], listener.getsockname(), timeout_s=5 + 4 * self.delay_s)
            sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _TCP_BUFFER_B)
            try:
                receiver, _ = listener.accept()
            except OSError:
                sender.close()
                raise
        return sender, receiver

    def close(self) -> None:
        self._exits.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def address_of(end: End) -> str:
    """Return the IPv4 address of a link end's NIC; BenchError when it has none."""
    with netns.inside(end.namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFADDR, struct.pack("16s24x", end.ifname.encode()))
        except OSError as exc:
            raise BenchError(
                f"{end.ifname} in {end.namespace} has no IPv4 address: {exc.strerror}",
                remedy="give the link ends their addresses before they are probed",
            ) from exc
    return socket.inet_ntoa(answer[20:24])


def warm_up(probes: Sequence[Probe], *, deadline_s: float = 3.0) -> set[tuple[str, Direction]]:
    """Send until something has arrived in every direction (neighbour discovery done); those that stay silent."""
    silent = {probe.name for probe in probes}
    for _ in poll_until(deadline_s, every_s=0.01):
        silent -= {probe.name for probe in probes if probe.name in silent and probe.arrivals()}
        if not silent:
            break
        for probe in probes:
            probe.send()
    return silent


def pace(probes: Sequence[Probe], *, count: int, interval_s: float, spread: bool = False) -> None:
    """Send ``count`` probes in every direction, evenly, starting afresh.

    All directions send at the same moment or, with ``spread``, take turns within the interval.  A sender that was
    held up does not make up for it: a burst would overflow the link's queue and read as loss.
    """
    for probe in probes:
        probe.restart()
    with ahead_of_others():
        due = time.monotonic()
        for _ in range(count):
            for at, probe in enumerate(probes, 1):
                probe.send()
                if spread or at == len(probes):
                    due += interval_s / len(probes) if spread else interval_s
                    due = max(due, time.monotonic() - _CATCH_UP_S)
                    if (left := due - time.monotonic()) > 0:
                        time.sleep(left)


def collect(probe: Probe, *, expected: int, quiet_s: float = 0.15) -> list[Arrival]:
    """Wait for ``expected`` arrivals, or until nothing has come for ``quiet_s`` (plus the link's own delay)."""
    arrived: list[Arrival] = []
    quiet_s += probe.delay_s
    last = time.monotonic()
    while len(arrived) < expected and time.monotonic() - last < quiet_s:
        if new := probe.arrivals():
            arrived += new
            last = time.monotonic()
        elif len(arrived) < expected:
            time.sleep(0.002)
    return arrived


def blast(probe: Probe, *, rate_bps: int, frame_b: int, frames: int) -> tuple[list[Arrival], float]:
    """Send ``frames`` frames at 1.1 times ``rate_bps``; arrivals, and the rate that was really offered.

    Too much is offered on purpose, and some of it at once: the link's queue then does not run empty when the
    sender is held up for a moment, and frames leave it exactly at the link's rate.
    """
    probe.restart()
    payload_b = frame_b - HEADERS_B
    gap_s = frame_b * 8 / (rate_bps * _BLAST_AHEAD)
    most = min(40, _BURST_B // payload_b)
    at_once = max(1, int(_BLAST_LEAD_S / gap_s))
    sent, skipped = 0, 0.0  # what a sender that was held up does not make up for, in frames
    with ahead_of_others():
        start = time.monotonic()
        while sent < frames:
            due = (time.monotonic() - start) / gap_s + at_once - skipped
            skipped += max(0.0, due - sent - at_once)
            due = min(frames, due, sent + at_once)
            while sent < int(due):
                sent += probe.send(payload_b, min(most, int(due) - sent))
            time.sleep(min(0.001, gap_s))
        took = time.monotonic() - start
    return collect(probe, expected=frames, quiet_s=_BLAST_QUIET_S), sent * frame_b * 8 / took


def sustain(probe: Probe, *, offered_bps: int, frame_b: int, seconds: float) -> tuple[list[Arrival], float]:
    """Send frames for ``seconds``, evenly; arrivals, and the rate that was really offered.

    What arrives is read meanwhile, so no buffer has to hold it.  A sender that was held up catches up by as much as
    every link's queue holds.
    """
    probe.restart()
    payload_b, gap_s = frame_b - HEADERS_B, frame_b * 8 / offered_bps
    most, at_once = min(40, _BURST_B // payload_b), max(1, int(_BLAST_LEAD_S / gap_s))
    sent, skipped = 0, 0.0
    arrived: list[Arrival] = []
    with ahead_of_others():
        start = time.monotonic()
        while (took := time.monotonic() - start) < seconds:
            due = took / gap_s + at_once - skipped
            skipped += max(0.0, due - sent - at_once)
            due = min(due, sent + at_once)
            while sent < int(due) and (taken := probe.send(payload_b, min(most, int(due) - sent))):
                sent += taken
            arrived += probe.arrivals()
            time.sleep(min(0.001, gap_s))
    arrived += collect(probe, expected=sent - len(arrived), quiet_s=_BLAST_QUIET_S)
    return arrived, sent * frame_b * 8 / took


@contextmanager
def ahead_of_others() -> Iterator[None]:
    """Run this thread before all ordinary ones, where that is allowed: it must not be what is measured."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        with suppress(PermissionError):
            os.sched_setscheduler(0, policy, priority)


def tcp_rate_bps(probe: Probe, mtu: int, *, seconds: float = 1.0) -> float | None:
    """Measure one TCP flow over the second half of ``seconds``, as frames on the link (headers included), bit/s.

    For profile bulk, where the link carries packets of up to 64 KB and only TCP makes those.
    """
    try:
        sender, receiver = probe.tcp_pair()
    except OSError:
        return None
    stop = time.monotonic() + seconds + 20 * probe.delay_s

    def pump() -> None:
        block = bytes(256 * 1024)
        with suppress(OSError):
            while time.monotonic() < stop:
                sender.sendall(block)

    with sender, receiver:
        receiver.settimeout(2.0)
        pumping = threading.Thread(target=pump, name="tcp-probe", daemon=True)
        pumping.start()
        half = stop - seconds / 2
        received, begun, last = 0, 0.0, 0.0
        buffer = bytearray(1 << 20)
        with suppress(OSError):
            while time.monotonic() < stop and (got := receiver.recv_into(buffer)):
                last = time.monotonic()
                if begun:
                    received += got
                elif last >= half:
                    begun = last
        sender.shutdown(socket.SHUT_RDWR)
        pumping.join(timeout=5)
    if last <= begun or not begun:
        return None
    segment_b = mtu - 52  # IPv4 and TCP with timestamps
    return received * 8 / (last - begun) * (mtu + ETHERNET_HEADER_B) / segment_b
