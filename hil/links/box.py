"""The link box: every shaped link of a bench, behind one object.

The process that calls :meth:`LinkBox.up` owns the engine and serves it on a unix socket; any other process drives
the same links with :meth:`LinkBox.attach`.  What was commanded lies in a file beside the socket, changed under a
lock, so all of them agree; what the kernel does is always read back from the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hil.errors import BenchError, ConfigurationError
from hil.evidence.sink import NullSink, Sink
from hil.links import netem, rtnl, wiring
from hil.links.agent import Agent, AgentServer, KernelAgent, RemoteAgent
from hil.links.engine import EngineKind, detect
from hil.links.record import BoxRecord, LinkRecord, Store
from hil.links.state import LinkState, limit_packets
from hil.links.sysctl import big_socket_buffers
from hil.links.uml import UmlAgent
from hil.links.wiring import Profile

Direction = Literal["a_to_b", "b_to_a"]
DIRECTIONS: tuple[Direction, Direction] = ("a_to_b", "b_to_a")


@dataclass(frozen=True)
class End:
    """One end of a wire: a NIC that the link box makes in a namespace that exists already."""

    namespace: str
    ifname: str


@dataclass(frozen=True)
class Wire:
    """One link to build."""

    name: str
    a: End
    b: End
    a_to_b: LinkState
    b_to_a: LinkState


@dataclass(frozen=True)
class DirectionStatus:
    """One direction: what was asked for, what the kernel says it does, what it counted."""

    commanded: LinkState
    kernel: LinkState | None  # decoded from the engine's dump; None when there is no netem
    kernel_delay_ns: int  # the commanded delay less the compensation, as the kernel reports it
    compensation_ns: int  # the engine's own delay, measured by calibrate()
    limit_packets: int
    sent_packets: int
    sent_bytes: int
    dropped_packets: int  # by the loss model, by a cut, or for want of queue
    queued_packets: int  # in flight and waiting

    @property
    def agrees(self) -> bool:
        """The kernel does what is commanded, the compensated delay taken into account."""
        if self.kernel is None:
            return False
        delay_ns = max(0, self.commanded.delay_us * 1000 - self.compensation_ns)
        wanted = replace(self.commanded, delay_us=self.kernel.delay_us)
        if not wanted.up:  # a direction that is down is told of no loss model
            wanted = replace(wanted, loss_ppm=0, gemodel=None)
        return self.kernel_delay_ns == delay_ns and self.kernel == wanted


@dataclass(frozen=True)
class LinkStatus:
    """One link as it is now."""

    name: str
    a: End
    b: End
    a_to_b: DirectionStatus
    b_to_a: DirectionStatus

    @property
    def up(self) -> bool:
        return self.a_to_b.commanded.up and self.b_to_a.commanded.up


class LinkBox:
    """All links of a bench. Made by :meth:`up` or :meth:`attach`; a context manager that closes itself."""

    def __init__(self, agent: Agent, store: Store, record: BoxRecord, sink: Sink | None) -> None:
        self.agent = agent
        self.engine: EngineKind = record.engine
        self.engine_reason = record.engine_reason
        self.kernel_release = agent.kernel_release
        self.profile: Profile = record.profile
        self.links = tuple(link.name for link in record.links)
        self._store = store
        self._seed = record.seed
        self._sink = sink or NullSink()
        self._exits = ExitStack()

    @classmethod
    def up(
        cls,
        box_namespace: str,
        wires: Sequence[Wire],
        *,
        socket_path: Path,
        engine: EngineKind | None = None,
        profile: Profile = "exact",
        sink: Sink | None = None,
        seed: int | None = None,
    ) -> LinkBox:
        """Build and shape the links; the namespaces exist already, the end NICs get their addresses later.

        ``engine`` None: this kernel's netem where it exists, else User-Mode Linux.  ``seed`` repeats random loss
        where the kernel can (from about 6.6).  Raises ConfigurationError for wires that make no sense, BenchError
        when no engine is there or something fails; nothing is left behind then.
        """
        _check_wires(wires, profile)
        with ExitStack() as undo:
            choice = detect(engine)
            cables = [
                wiring.Cable(f"l{index}{side}", end.namespace, end.ifname, wire.a_to_b.mtu)
                for index, wire in enumerate(wires)
                for side, end in (("a", wire.a), ("b", wire.b))
            ]
            wiring.lay(box_namespace, cables, profile=profile)
            undo.callback(wiring.remove, box_namespace, cables)
            nics = [cable.nic for cable in cables]
            agent: Agent
            if choice.kind == "uml":
                mtu = max(cable.mtu for cable in cables)
                agent = UmlAgent(box_namespace, nics, mtu=mtu, profile=profile)
                nics = [f"vec{index}" for index in range(len(nics))]
            else:
                agent = KernelAgent(box_namespace)
            undo.callback(agent.close)
            indexes = rtnl.interfaces(agent)
            if missing := [nic for nic in nics if nic not in indexes]:
                raise BenchError(f"the {choice.kind} link engine has no NIC {', '.join(missing)}")
            record = BoxRecord(
                engine=choice.kind,
                engine_reason=choice.reason,
                profile=profile,
                seed=seed,
                links=tuple(
                    LinkRecord(
                        name=wire.name,
                        a=(wire.a.namespace, wire.a.ifname),
                        b=(wire.b.namespace, wire.b.ifname),
                        egress={"a_to_b": indexes[nics[2 * i + 1]], "b_to_a": indexes[nics[2 * i]]},
                        commanded={"a_to_b": wire.a_to_b, "b_to_a": wire.b_to_a},
                    )
                    for i, wire in enumerate(wires)
                ),
            )
            with big_socket_buffers() if choice.kind == "uml" else nullcontext():
                rtnl.transact(agent, [("a NIC up", rtnl.nic_up(indexes[nic])) for nic in nics])
            agent.nics_are_up()
            rtnl.transact(agent, [step for link in record.links for step in _wire_up(link, seed)])
            server = AgentServer(agent, socket_path)
            undo.callback(server.close)
            store = Store.beside(socket_path)
            undo.callback(store.remove)
            store.create(record)
            box = cls(agent, store, record, sink)
            box._exits = undo.pop_all()
            return box

    @classmethod
    def attach(cls, socket_path: Path, *, sink: Sink | None = None) -> LinkBox:
        """Drive the links of another process's link box; BenchError when none is served there."""
        agent = RemoteAgent(socket_path)
        store = Store.beside(socket_path)
        box = cls(agent, store, store.load(), sink)
        box._exits.callback(agent.close)
        return box

    def show(self) -> list[LinkStatus]:
        """Every link: commanded, read back from the kernel, counted."""
        record = self._store.load()
        (reply,) = rtnl.transact(self.agent, [("reading the links back", netem.dump_request())])
        kernel: dict[int, netem.Netem] = {}
        mtus = {link.egress[d]: link.commanded[d].mtu for link in record.links for d in DIRECTIONS}
        for message in reply.messages:
            if found := netem.decode(message, mtus=mtus):
                kernel[found[0]] = found[1]
        return [
            LinkStatus(
                link.name,
                End(*link.a),
                End(*link.b),
                _direction_status(link, "a_to_b", kernel),
                _direction_status(link, "b_to_a", kernel),
            )
            for link in record.links
        ]

    def commanded(self, link: str, direction: Direction) -> LinkState:
        """What was asked for, without asking the kernel."""
        return self._store.load().link(link).commanded[direction]

    def bytes_sent(self, link: str) -> int:
        """Bytes that went into a link, both directions, Ethernet headers included."""
        self._store.load().link(link)  # ConfigurationError for an unknown one
        status = next(each for each in self.show() if each.name == link)
        return status.a_to_b.sent_bytes + status.b_to_a.sent_bytes

    def set(self, link: str, *, a_to_b: LinkState | None = None, b_to_a: LinkState | None = None) -> None:
        """Command a direction, or both at once; a direction not given stays as it is.

        Raises ConfigurationError for an unknown link, another MTU than the NICs have, or loss in profile bulk.
        """
        given: dict[str, LinkState] = {}
        if a_to_b is not None:
            given["a_to_b"] = a_to_b
        if b_to_a is not None:
            given["b_to_a"] = b_to_a
        for state in given.values():
            check_profile(link, state, self.profile)
        record = self._command(link, lambda old: replace(old, commanded={**old.commanded, **given}))
        fields = {direction: state.to_json() for direction, state in given.items()}
        self._sink.event("link.set", link=record.name, **fields)

    def cut(self, link: str, *, why: str = "") -> None:
        """Both directions down: what is sent from now on is lost, what is in flight still arrives."""
        self._command(link, lambda old: old.with_up(False))
        self._sink.event("link.cut", link=link, why=why)

    def restore(self, link: str, *, why: str = "") -> None:
        """Both directions up again, as they were commanded."""
        self._command(link, lambda old: old.with_up(True))
        self._sink.event("link.restore", link=link, why=why)

    def compensate(self, link: str, direction: Direction, compensation_ns: int) -> None:
        """Note the engine's own delay, which is subtracted from the commanded one (never below 0)."""
        self._command(
            link,
            lambda old: replace(old, compensation_ns={**old.compensation_ns, direction: compensation_ns}),
        )

    def reapply(self) -> None:
        """Command everything once more, whether or not the kernel has it already (restarts loss models)."""
        record = self._store.load()
        steps = [shape_step(link, d, self._seed) for link in record.links for d in DIRECTIONS]
        rtnl.transact(self.agent, steps)

    def close(self) -> None:
        """The owner's: engine, NICs, socket and state file go. An attached one's: only its connection."""
        self._exits.close()

    def __enter__(self) -> LinkBox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _command(self, link: str, change: Callable[[LinkRecord], LinkRecord]) -> LinkRecord:
        with self._store.changing() as draft:
            old = draft.record.link(link)
            new = change(old)
            for direction in DIRECTIONS:
                if new.commanded[direction].mtu != old.commanded[direction].mtu:
                    raise ConfigurationError(
                        f"link {link!r} was built for MTU {old.commanded[direction].mtu}",
                        remedy="the MTU is set when the bench comes up; bring it up again to change it",
                    )
            # a message restarts the loss model, so a direction that does not change gets none
            changed: list[Direction] = [d for d in DIRECTIONS if new.shape(d) != old.shape(d)]
            if changed:
                rtnl.transact(self.agent, [shape_step(new, d, self._seed) for d in changed])
            draft.record = draft.record.with_link(new)
        return new


def shape_step(link: LinkRecord, direction: Direction, seed: int | None) -> tuple[str, bytes]:
    """The netlink step that makes the kernel do what is commanded in one direction."""
    state = link.commanded[direction]
    message = netem.encode(
        link.egress[direction],
        state,
        limit=limit_packets(state.rate_bps, state.delay_us, state.mtu),
        delay_ns=link.delay_ns(direction),
        seed=seed,
    )
    return f"netem on {link.name} {direction}", message


def check_profile(link: str, state: LinkState, profile: Profile) -> None:
    """ConfigurationError for random loss in profile bulk, where it would drop 64 KB at a time."""
    if profile == "bulk" and state.mean_loss_ppm:
        raise ConfigurationError(
            f"link {link!r}: random loss is not possible in profile bulk",
            remedy="use profile exact for loss models; bulk has outages only",
        )


def _wire_up(link: LinkRecord, seed: int | None) -> list[tuple[str, bytes]]:
    near_a, near_b = link.egress["b_to_a"], link.egress["a_to_b"]
    return [
        (f"ingress at {link.name} a", rtnl.ingress(near_a)),
        (f"ingress at {link.name} b", rtnl.ingress(near_b)),
        shape_step(link, "a_to_b", seed),
        shape_step(link, "b_to_a", seed),
        # redirection last: nothing passes before it is shaped
        (f"redirect {link.name} a to b", rtnl.redirect(near_a, near_b)),
        (f"redirect {link.name} b to a", rtnl.redirect(near_b, near_a)),
    ]


def _direction_status(link: LinkRecord, direction: Direction, kernel: dict[int, Any]) -> DirectionStatus:
    found: netem.Netem | None = kernel.get(link.egress[direction])
    return DirectionStatus(
        commanded=link.commanded[direction],
        kernel=found.state if found else None,
        kernel_delay_ns=found.delay_ns if found else 0,
        compensation_ns=link.compensation_ns.get(direction, 0),
        limit_packets=found.limit_packets if found else 0,
        sent_packets=found.sent_packets if found else 0,
        sent_bytes=found.sent_bytes if found else 0,
        dropped_packets=found.dropped_packets if found else 0,
        queued_packets=found.queued_packets if found else 0,
    )


def _check_wires(wires: Sequence[Wire], profile: Profile) -> None:
    if not wires:
        raise ConfigurationError("a link box without links", remedy="give at least one wire")
    names = [wire.name for wire in wires]
    ends = [end for wire in wires for end in (wire.a, wire.b)]
    for kind, values in (("link name", names), ("link end", ends)):
        if twice := {str(value) for value in values if values.count(value) > 1}:  # type: ignore[arg-type]
            raise ConfigurationError(
                f"{kind} used twice: {', '.join(sorted(twice))}", remedy="make them unique"
            )
    for wire in wires:
        if wire.a_to_b.mtu != wire.b_to_a.mtu:
            raise ConfigurationError(
                f"link {wire.name!r} has two MTUs: {wire.a_to_b.mtu} and {wire.b_to_a.mtu}",
                remedy="a link has one MTU",
            )
        for end in (wire.a, wire.b):
            if not 0 < len(end.ifname) < 16 or any(c in end.ifname for c in "/ \t\n:"):
                raise ConfigurationError(
                    f"link {wire.name!r}: {end.ifname!r} is no NIC name",
                    remedy="1 to 15 characters, no space, / or :",
                )
        for state in (wire.a_to_b, wire.b_to_a):
            check_profile(wire.name, state, profile)
