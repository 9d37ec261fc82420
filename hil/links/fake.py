"""Public test kit: an engine that only remembers, and a link box on it, without root, kernel or packets."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from hil.evidence.sink import Sink
from hil.links.agent import Agent
from hil.links.box import LinkBox, Wire
from hil.links.record import BoxRecord, LinkRecord, Store
from hil.links.relay import PROTOCOL_VERSION, Kind
from hil.links.wiring import Profile

_HEADER = struct.Struct("=IHHII")
_ERROR, _DONE = 2, 3
_NEWQDISC, _GETQDISC = 36, 38


class FakeAgent(Agent):
    """Acknowledges every netlink message, keeps the last qdisc of each NIC and dumps it back.

    ``batches`` has every batch it was given; ``refuse`` maps a message type to the errno to answer instead.
    """

    def __init__(self, *, now_ns: int = 0) -> None:
        self.now_ns = now_ns
        self.batches: list[bytes] = []
        self.refuse: dict[int, int] = {}
        self.closed = False
        self._qdiscs: dict[int, bytes] = {}
        self._greet()

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        if kind is Kind.HELLO:
            return struct.pack("<HH", PROTOCOL_VERSION, 0) + b"0.0.0-fake"
        if kind is Kind.CLOCK:
            return struct.pack("<Q", self.now_ns)
        if kind is Kind.NETLINK:
            self.batches.append(payload)
            return self._netlink(payload)
        return struct.pack("<i", 0)

    def close(self) -> None:
        self.closed = True

    def _netlink(self, batch: bytes) -> bytes:
        answer, at = b"", 0
        while at < len(batch):
            length, kind, _, sequence, _ = _HEADER.unpack_from(batch, at)
            message = batch[at : at + length]
            at += -(-length // 4) * 4
            if error := self.refuse.get(kind):
                answer += _HEADER.pack(36, _ERROR, 0, sequence, 0) + struct.pack("=i", -error) + message[:16]
            elif kind == _GETQDISC:
                for qdisc in self._qdiscs.values():
                    answer += qdisc + bytes(-len(qdisc) % 4)
                answer += _HEADER.pack(20, _DONE, 2, sequence, 0) + bytes(4)
            else:
                if kind == _NEWQDISC:
                    (ifindex,) = struct.unpack_from("=i", message, 20)
                    self._qdiscs[ifindex] = message
                answer += _HEADER.pack(36, _ERROR, 0, sequence, 0) + bytes(4) + message[:16]
        return answer


def fake_box(
    wires: Sequence[Wire],
    *,
    socket_path: Path,
    profile: Profile = "exact",
    sink: Sink | None = None,
    agent: FakeAgent | None = None,
) -> LinkBox:
    """A link box whose verbs and records are real and whose engine is a :class:`FakeAgent`."""
    record = BoxRecord(
        engine="kernel",
        engine_reason="a fake for tests",
        profile=profile,
        seed=None,
        links=tuple(
            LinkRecord(
                name=wire.name,
                a=(wire.a.namespace, wire.a.ifname),
                b=(wire.b.namespace, wire.b.ifname),
                egress={"a_to_b": 2 * index + 3, "b_to_a": 2 * index + 2},
                commanded={"a_to_b": wire.a_to_b, "b_to_a": wire.b_to_a},
            )
            for index, wire in enumerate(wires)
        ),
    )
    store = Store.beside(socket_path)
    store.create(record)
    box = LinkBox(agent or FakeAgent(), store, record, sink)
    box.reapply()
    return box
