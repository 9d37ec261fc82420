"""Public test kit: an engine that only remembers, and a link box on it, without root, kernel or packets."""

from __future__ import annotations

import errno
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from hil.evidence.sink import Sink
from hil.links.commanded import BoxRecord, LinkRecord, RecordFile
from hil.links.engines import rtnl, wire_format
from hil.links.engines.agent import Agent
from hil.links.engines.relay import PROTOCOL_VERSION, Kind
from hil.links.engines.rtnl import U32_MAX
from hil.links.engines.wire_format import SLOTS_MAX, PlanRow
from hil.links.link_box import LinkBox, Wire
from hil.links.wires import Profile

_HEADER = struct.Struct("=IHHII")
_ERROR, _DONE = 2, 3
_NEWQDISC, _GETQDISC, _NEWTCLASS, _GETTCLASS, _GETACTION = 36, 38, 40, 42, 50
_PLAN_ROWS, _LOG_ROWS, _LOG_PIECE = (8 << 20) // wire_format.ROW.size, 65_536, 184  # as in plan.c


class FakeAgent(Agent):
    """Acknowledges every netlink message, keeps the last qdisc of each NIC and dumps it back.

    ``batches`` has every batch it was given; ``refuse`` maps a message type to the errno to answer instead.
    It plays schedules as the relay does, whenever it is asked something: time is ``now_ns``, or what ``clock`` says.
    One suite of tests holds it and the relay to the same behaviour (``tests/kits/agent_contract.py``).
    """

    def __init__(self, *, now_ns: int = 0, clock: Callable[[], int] | None = None) -> None:
        self.now_ns = now_ns
        self.clock_ns = clock or (lambda: self.now_ns)
        self._plan = _Plan()
        self.batches: list[bytes] = []
        self.refuse: dict[int, int] = {}
        self.closed = False
        self._qdiscs: dict[tuple[int, int], bytes] = {}  # by NIC and parent
        self._classes: dict[tuple[int, int], bytes] = {}  # by NIC and number
        self._greet()

    @property
    def rows_to_come(self) -> int:
        """Rows of the schedule that are not due yet."""
        return len(self._plan.rows)

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        if kind is Kind.HELLO:
            return struct.pack("<HH", PROTOCOL_VERSION, 0) + b"0.0.0-fake"
        now_ns = self.clock_ns()
        self._play(now_ns)
        match kind:
            case Kind.CLOCK:
                return struct.pack("<Q", now_ns)
            case Kind.NETLINK:
                return self._netlink(payload)
            case Kind.PLAN_LOG:
                return self._plan.log_after(*struct.unpack("<Q", payload))
            case Kind.PLAN_ADD:
                return bytes(4) + struct.pack("<i", self._plan.stage(payload))
            case Kind.PLAN_COMMIT:
                self._plan.commit(*struct.unpack("<Q", payload))
            case Kind.PLAN_FORGET:
                self._plan = _Plan()
            case Kind.SHAPE | Kind.HOLD | Kind.RELEASE:
                return struct.pack("<i", self._change(kind, payload))
        return bytes(4)

    def close(self) -> None:
        self.closed = True

    def _change(self, kind: Kind, payload: bytes) -> int:
        """Note a shape, a hold or a release, and apply what is due then; returns an errno."""
        numbers = struct.iter_unpack("<H", payload[:2] if kind is Kind.SHAPE else payload)
        slots = [number for (number,) in numbers]
        if any(slot >= SLOTS_MAX for slot in slots):
            return errno.EINVAL
        for slot in slots:
            if kind is Kind.SHAPE:
                self._plan.shapes[slot] = payload
            elif kind is Kind.HOLD:
                self._plan.held.add(slot)
            else:
                self._plan.held.discard(slot)
            if slot in self._plan.due and slot not in self._plan.held:
                self._apply(slot)
        return 0

    def _play(self, now_ns: int) -> None:
        plan = self._plan
        while plan.rows and plan.rows[0].at_ns <= now_ns:
            row = plan.rows.popleft()
            plan.due[row.slot] = row
            error = wire_format.HELD if row.slot in plan.held else self._apply(row.slot)
            late_us = min((now_ns - row.at_ns) // 1000, U32_MAX)
            plan.note(wire_format.APPLIED.pack(row.at_ns, late_us, row.slot, error))

    def _apply(self, slot: int) -> int:
        if slot not in self._plan.shapes:
            return errno.EBADSLT
        answer = self._netlink(message_of(self._plan.shapes[slot], self._plan.due[slot]))
        (error,) = struct.unpack_from("=i", answer, _HEADER.size)
        return -int(error)

    def _netlink(self, batch: bytes) -> bytes:
        self.batches.append(batch)
        answer = b""
        for message in rtnl.messages(batch):
            _, kind, _, sequence, _ = _HEADER.unpack_from(message)
            if kind in (_GETQDISC, _GETTCLASS, _GETACTION) and kind not in self.refuse:
                for dumped in self._dump(kind, message):
                    answer += dumped + bytes(-len(dumped) % 4)
                answer += _HEADER.pack(20, _DONE, 2, sequence, 0) + bytes(4)
                continue
            error = self.refuse.get(kind, 0)
            if kind in (_NEWQDISC, _NEWTCLASS) and not error:
                ifindex, handle, parent = struct.unpack_from("=iII", message, 20)
                if kind == _NEWQDISC:
                    self._qdiscs[ifindex, parent] = message
                else:
                    self._classes[ifindex, handle] = message
            answer += _HEADER.pack(36, _ERROR, 0, sequence, 0) + struct.pack("=i", -error) + message[:16]
        return answer

    def _dump(self, kind: int, request: bytes) -> list[bytes]:
        if kind == _GETQDISC:
            return list(self._qdiscs.values())
        (ifindex,) = struct.unpack_from("=i", request, 20)
        return [message for (nic, _), message in self._classes.items() if kind == _GETTCLASS and nic == ifindex]


class _Plan:
    """The relay's memory of a schedule (``engines/native/plan.c``)."""

    def __init__(self) -> None:
        self.shapes: dict[int, bytes] = {}  # slot to payload of its SHAPE frame
        self.due: dict[int, PlanRow] = {}
        self.held: set[int] = set()
        self.rows: deque[PlanRow] = deque()
        self._staged: list[PlanRow] = []
        self._log: deque[bytes] = deque()
        self._forgotten = self._lost = 0

    def stage(self, payload: bytes) -> int:
        rows = [PlanRow(*values) for values in wire_format.ROW.iter_unpack(payload)]
        if any(row.slot >= SLOTS_MAX for row in rows):
            return errno.EINVAL
        if len(self.rows) + len(self._staged) + len(rows) > _PLAN_ROWS:
            return errno.ENOSPC
        if not rows:
            self._staged.clear()
        self._staged += rows
        return 0

    def commit(self, from_ns: int) -> None:
        while self.rows and self.rows[-1].at_ns >= from_ns:
            self.rows.pop()
        self.rows += self._staged
        self._staged = []

    def note(self, applied: bytes) -> None:
        if len(self._log) == _LOG_ROWS:
            self._lost += 1
        else:
            self._log.append(applied)

    def log_after(self, seen: int) -> bytes:
        if seen <= self._forgotten + len(self._log):
            while self._forgotten < seen:
                self._log.popleft()
                self._forgotten += 1
        piece = list(islice(self._log, _LOG_PIECE))
        return wire_format.LOG.pack(self._forgotten + len(piece), self._lost) + b"".join(piece)


def message_of(shape: bytes, row: PlanRow) -> bytes:
    """Return the netlink message that a shape makes of a row; ``shape`` is the payload of its SHAPE frame."""
    _, options_at, down_at, up_at, down_length, up_length, own_ns = wire_format.SHAPE.unpack_from(shape)
    delay_ns = max(0, row.delay_us * 1000 - own_ns)
    begin = wire_format.SHAPE.size + (0 if row.up else up_length)
    message = bytearray(shape[begin : begin + (up_length if row.up else down_length)])
    struct.pack_into("=III", message, options_at, min(delay_ns >> 6, U32_MAX), row.limit, row.loss)
    struct.pack_into("=Q", message, up_at if row.up else down_at, delay_ns)
    return bytes(message)


def fake_box(
    wires: Sequence[Wire],
    *,
    socket_path: Path,
    profile: Profile = "exact",
    sink: Sink | None = None,
    agent: FakeAgent | Sequence[FakeAgent] | None = None,
) -> LinkBox:
    """Make a link box whose verbs and records are real and whose kernels are each a :class:`FakeAgent`, in turns."""
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
                built={"a_to_b": wire.a_to_b, "b_to_a": wire.b_to_a},
                kernel=index % len(agents),
                policed=profile == "exact" and not wire.shares,
                shares=wire.shares,
            )
            for index, wire in enumerate(wires)
        ),
    )
    store = RecordFile.beside(socket_path)
    store.write(record)
    box = LinkBox(agents, store, record, sink, now_ns=agents[0].clock_ns)
    box.reapply()
    return box
