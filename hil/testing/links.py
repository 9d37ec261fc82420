"""Public test kit: an engine that only remembers, and a link box on it, without root, kernel or packets."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from hil.evidence.sink import Sink
from hil.links.commanded import BoxRecord, LinkRecord, Store
from hil.links.engines import wire_format
from hil.links.engines.agent import Agent
from hil.links.engines.relay import PROTOCOL_VERSION, Kind
from hil.links.engines.wire_format import Applied, PlanLog, PlanRow
from hil.links.link_box import LinkBox, Wire
from hil.links.wires import Profile

_HEADER = struct.Struct("=IHHII")
_ERROR, _DONE = 2, 3
_NEWQDISC, _GETQDISC = 36, 38
_LOG_PIECE = 184


class FakeAgent(Agent):
    """Acknowledges every netlink message, keeps the last qdisc of each NIC and dumps it back.

    ``batches`` has every batch it was given; ``refuse`` maps a message type to the errno to answer instead.
    It plays schedules as the relay does, whenever it is asked something: time is ``now_ns``, or what ``clock`` says.
    """

    def __init__(self, *, now_ns: int = 0, clock: Callable[[], int] | None = None) -> None:
        self.now_ns = now_ns
        self.clock_ns = clock or (lambda: self.now_ns)
        self._plan = _Plan()
        self.batches: list[bytes] = []
        self.refuse: dict[int, int] = {}
        self.closed = False
        self._qdiscs: dict[int, bytes] = {}
        self._greet()

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        if kind is Kind.HELLO:
            return struct.pack("<HH", PROTOCOL_VERSION, 0) + b"0.0.0-fake"
        now_ns = self.clock_ns()
        self._play(now_ns)
        if kind is Kind.CLOCK:
            return struct.pack("<Q", now_ns)
        if kind is Kind.NETLINK:
            self.batches.append(payload)
            return self._netlink(payload)
        if kind is Kind.PLAN_LOG:
            return wire_format.pack_log(self._plan.told(*struct.unpack("<Q", payload)))
        if kind is Kind.PLAN_ADD:
            self._plan.stage(payload)
            return struct.pack("<Ii", 0, 0)
        if kind is Kind.PLAN_COMMIT:
            self._plan.commit(*struct.unpack("<Q", payload))
        elif kind is Kind.PLAN_FORGET:
            self._plan = _Plan()
        elif kind is Kind.SHAPE:
            number, shape = wire_format.Shape.unpack(payload)
            self._plan.shapes[number] = shape
            self._apply(number)
        elif kind is Kind.HOLD:
            self._plan.held.update(wire_format.unpack_slots(payload))
        elif kind is Kind.RELEASE:
            for number in wire_format.unpack_slots(payload):
                self._plan.held.discard(number)
                self._apply(number)
        return struct.pack("<i", 0)

    @property
    def rows_to_come(self) -> int:
        """How much of a schedule it holds."""
        return len(self._plan.rows)

    def _play(self, now_ns: int) -> None:
        while self._plan.rows and self._plan.rows[0].at_ns <= now_ns:
            row = self._plan.rows.popleft()
            self._plan.due[row.slot] = row
            error = self._apply(row.slot)
            late_us = (now_ns - row.at_ns) // 1000
            held = row.slot in self._plan.held
            self._plan.log.append(Applied(row.slot, error, held, row.at_ns, late_us))

    def _apply(self, number: int) -> int:
        row = self._plan.due.get(number)
        if row is None or number in self._plan.held:
            return 0
        message = self._plan.shapes[number].message(row)
        self.batches.append(message)
        (error,) = struct.unpack_from("=i", self._netlink(message), _HEADER.size)
        return -int(error)

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


class _Plan:
    """The relay's memory of a schedule."""

    def __init__(self) -> None:
        self.shapes: dict[int, wire_format.Shape] = {}
        self.due: dict[int, PlanRow] = {}
        self.held: set[int] = set()
        self.rows: deque[PlanRow] = deque()
        self.staged: list[PlanRow] = []
        self.log: deque[Applied] = deque()
        self._seen = 0

    def stage(self, payload: bytes) -> None:
        self.staged = [*self.staged, *wire_format.unpack_rows(payload)] if payload else []

    def commit(self, from_ns: int) -> None:
        while self.rows and self.rows[-1].at_ns >= from_ns:
            self.rows.pop()
        self.rows += self.staged
        self.staged = []

    def told(self, seen: int) -> PlanLog:
        while self._seen < seen and self.log:
            self.log.popleft()
            self._seen += 1
        piece = list(islice(self.log, _LOG_PIECE))
        return PlanLog(self._seen + len(piece), 0, piece)


def fake_box(
    wires: Sequence[Wire],
    *,
    socket_path: Path,
    profile: Profile = "exact",
    sink: Sink | None = None,
    agent: FakeAgent | Sequence[FakeAgent] | None = None,
) -> LinkBox:
    """A link box whose verbs and records are real and whose kernels are each a :class:`FakeAgent`, which take turns."""
    agents = [agent] if isinstance(agent, FakeAgent) else list(agent or [FakeAgent(clock=time.monotonic_ns)])
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
                kernel=index % len(agents),
            )
            for index, wire in enumerate(wires)
        ),
    )
    store = Store.beside(socket_path)
    store.create(record)
    box = LinkBox(agents, store, record, sink, now_ns=agents[0].clock_ns)
    box.reapply()
    return box
