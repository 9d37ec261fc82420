"""The link box: every shaped link of a bench, behind one object.

The process that calls :meth:`LinkBox.up` owns the engine and serves it on a unix socket; any other process drives
the same links with :meth:`LinkBox.attach`.  What was commanded lies in a file beside the socket, changed under a
lock, so all of them agree; what the kernel does is always read back from the kernel.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hil.core.processes import current
from hil.errors import ConfigurationError
from hil.evidence.events import LinkCommanded, LinkCut, LinkRestored
from hil.evidence.sink import NullSink, Sink
from hil.links.commanded import BoxRecord, Command, LinkRecord, Override, RecordFile
from hil.links.engines import htb, netem, police, rtnl
from hil.links.engines.agent import Agent
from hil.links.engines.agent_server import AgentClient, AgentServer
from hil.links.engines.kinds import Site, choose
from hil.links.joining import join, records_of
from hil.links.schedule.windows import Windows, scheduled_state
from hil.links.shape import DIRECTIONS, Direction, police_steps, shape_of, shape_step, share_steps, slot
from hil.links.state import LinkState
from hil.links.status import DirectionStatus, LinkStatus, direction_status
from hil.links.wires import End, Profile, ShaperHost, Wire, check_profile, check_wires
from hil.text import one_line

_log = logging.getLogger(__name__)

__all__ = ["DIRECTIONS", "Direction", "DirectionStatus", "End", "LinkBox", "LinkStatus", "Wire"]
ANSWER_S = 20.0
_KERNEL_LAG_NS = 150_000_000
"""A row of the schedule that was due so long ago may still be on its way to the kernel."""


class Undo(AbstractContextManager[None]):
    """What a link was before a change: put back at the end of a ``with`` block, and left alone without one."""

    def __init__(self, box: LinkBox, link: str, why: str = "") -> None:
        self._box = box
        self._before = box.store.load().link(link)
        self._why = why

    def __exit__(self, *exc: object) -> None:
        self._box.put_back(self._before, why=self._why)


class LinkBox:
    """All links of a bench. Made by :meth:`up` or :meth:`attach`; a context manager that closes itself.

    With a ``tenant`` it commands that tenant's own traffic only: a cut loses the tenant's packets and nobody else's,
    and what would change a link for others is refused.
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        store: RecordFile,
        record: BoxRecord,
        sink: Sink | None,
        *,
        now_ns: Callable[[], int] = time.monotonic_ns,
        tenant: str = "",
    ) -> None:
        self.tenant = tenant
        self.agents = tuple(agents)
        self.engine = record.engine
        self.engine_reason = record.engine_reason
        self.kernel_release = self.agents[0].kernel_release
        self.profile: Profile = record.profile
        self.links = tuple(link.name for link in record.links)
        self.store = store
        self._seed = record.seed
        self._sink = sink or NullSink()
        self.now_ns = now_ns
        self._windows: tuple[tuple[int, int], Windows] | None = None
        self._exits = ExitStack()
        self._unsure: set[str] = set()
        """Links whose last command failed: the kernel may have it or not, so the next one is sent in any case."""

    @classmethod
    def up(
        cls,
        box_namespace: str,
        wires: Sequence[Wire],
        *,
        socket_path: Path,
        engine: str = "",
        profile: Profile = "exact",
        sink: Sink | None = None,
        seed: int | None = None,
        shaper_host: ShaperHost | None = None,
        kernels: int | None = None,
    ) -> LinkBox:
        """Build and shape the links; the namespaces exist already, the end NICs get their addresses later.

        With a ``shaper_host`` the ends' NICs exist too, and the links are shaped on that machine, to which they lead.

        ``engine`` is the name of an installed kind; empty: this kernel's netem where it exists, else User-Mode Linux.
        ``seed`` repeats random loss where the kernel can (from about 6.6).  ``kernels``: how many User-Mode Linuxes
        share the links; None for as many as this machine has cores for.  Raises ConfigurationError for wires that
        make no sense, BenchError when no engine is there or something fails; nothing is left behind then.
        """
        check_wires(wires, profile)
        with ExitStack() as undo:
            choice = choose(engine)
            started = choice.kind.start(Site(box_namespace, wires, profile, kernels, shaper_host), undo)
            agents, first = started.agents, started.agents[0]
            record = BoxRecord(
                engine=choice.name,
                engine_reason="; ".join(filter(None, (choice.reason, started.note))),
                profile=profile,
                seed=seed,
                links=records_of(started, wires, profile),
                clock=first.offset(time.monotonic_ns) if first.own_clock else None,
            )
            join(started, record.links, seed)
            server = AgentServer(agents, socket_path)
            undo.callback(server.close)
            store = RecordFile.beside(socket_path)
            undo.callback(store.remove)
            store.write(record)
            box = cls(agents, store, record, sink)
            box._exits = undo.pop_all()
            return box

    @classmethod
    def attach(
        cls, socket_path: Path, *, sink: Sink | None = None, timeout_s: float = ANSWER_S, tenant: str = ""
    ) -> LinkBox:
        """Drive the links of another process's link box; BenchError when none is served there.

        Its owner and the engine have ``timeout_s`` for each answer.  ``tenant``: on whose behalf.
        """
        store = RecordFile.beside(socket_path)
        with ExitStack() as undo:
            agents = [undo.enter_context(AgentClient(socket_path, timeout_s=timeout_s))]
            record = store.load()
            for number in range(1, 1 + max(link.kernel for link in record.links)):
                agents.append(undo.enter_context(AgentClient(socket_path, number, timeout_s=timeout_s)))
            box = cls(agents, store, record, sink, tenant=tenant)
            box._exits = undo.pop_all()
        return box

    def on_close(self, end: Callable[[], object]) -> None:
        """Call ``end`` first when the box is closed."""
        self._exits.callback(end)

    def cut_links(self) -> frozenset[str]:
        """Return the links that were cut by hand or by a fault and not restored; not those that a schedule has down."""

        def held_down(link: LinkRecord) -> bool:
            return all(link.held(d) and not link.by_hand(d).up for d in DIRECTIONS)

        links = self.store.load().links
        return frozenset(x.name for x in links if x.cut or held_down(x) or self.tenant in x.cut_for)

    def own_address(self, link: str) -> str:
        """Return an address of the tenant's, by which a packet on a link is counted as its; empty for nobody's."""
        shares = self.store.load().link(link).shares
        return next((share.addresses[0] for share in shares if share.tenant == self.tenant), "")

    def show(self) -> list[LinkStatus]:
        """Read every link back from the kernel: commanded, done, counted."""
        record = self.store.load()
        before_ns = self.now_ns()
        netems = [self._read_back(record, kernel) for kernel in range(len(self.agents))]
        after_ns = self.now_ns()

        def status(link: LinkRecord, direction: Direction) -> DirectionStatus:
            states = self._states(record, link, direction, before_ns - _KERNEL_LAG_NS, after_ns)
            reported = netems[link.kernel].get(link.egress[direction])
            scheduled = record.scheduled(link.name)
            statuses = [direction_status(link, direction, reported, state, scheduled) for state in reversed(states)]
            return next((each for each in statuses if each.agrees), statuses[0])

        return [
            LinkStatus(link.name, End(*link.a), End(*link.b), status(link, "a_to_b"), status(link, "b_to_a"))
            for link in record.links
        ]

    def _read_back(self, record: BoxRecord, kernel: int) -> dict[int, netem.Netem]:
        """Read what one kernel does, by the number of the NIC there."""
        own = [link for link in record.links if link.kernel == kernel]
        steps = [("reading the links back", netem.dump_request())]
        if any(link.policed for link in own):
            steps.append(("reading the policers back", police.dump_request()))
        shared = [link.egress[direction] for link in own if link.shares for direction in DIRECTIONS]
        steps += [("reading the shares back", htb.dump_request(nic)) for nic in shared]
        links, *others = rtnl.transact(self.agents[kernel], steps)
        policers, classes = others[: len(others) - len(shared)], others[len(others) - len(shared) :]
        mtus = {link.egress[d]: link.commanded[d].mtu for link in own for d in DIRECTIONS}
        netems = dict(each for message in links.messages if (each := netem.decode(message, mtus=mtus)))
        queues = {it[:2]: it[2] for message in links.messages if (it := htb.queue_of(message))}
        for message in (message for reply in policers for message in reply.messages):
            for nic, dropped in police.drops(message).items():
                if found := netems.get(nic):
                    netems[nic] = replace(found, dropped_packets=found.dropped_packets + dropped)
        for nic, reply in zip(shared, classes, strict=True):
            if found := netems.get(nic):
                decoded = [one for message in reply.messages if (one := htb.decode(message))]
                counts = {minor: replace(one, queue_bytes=queues.get((nic, minor))) for _, minor, one in decoded}
                netems[nic] = replace(found, classes=counts)
        return netems

    def commanded(self, link: str, direction: Direction, at_ns: int | None = None) -> LinkState:
        """Return what was asked for, by hand or by schedule, without asking the kernel; at a CLOCK_MONOTONIC ns or now.

        The schedule is known for the last ten minutes (else BenchError); what was held by hand only as long as it is.
        """
        record = self.store.load()
        at_ns = self.now_ns() if at_ns is None else at_ns
        state = self._states(record, record.link(link), direction, at_ns, at_ns)[-1]
        return replace(state, up=False) if self.tenant in record.link(link).cut_for else state

    def _states(
        self, record: BoxRecord, link: LinkRecord, direction: Direction, from_ns: int, to_ns: int
    ) -> list[LinkState]:
        """Return what is commanded at ``from_ns`` and until ``to_ns``, in time order."""
        held = link.held(direction)
        schedule = record.schedule
        if schedule is None or not record.scheduled(link.name) or (held and held.since_ns <= to_ns):
            return [link.by_hand(direction)]
        version = schedule.zero_ns, schedule.revision
        if self._windows is None or self._windows[0] != version:
            self._windows = version, Windows.beside(self.store.path, schedule.links)
        rows = self._windows[1].between(link.name, from_ns - schedule.zero_ns, to_ns - schedule.zero_ns)
        bulk = record.profile == "bulk"
        return [scheduled_state(link.commanded[direction], row, bulk=bulk) for row in rows]

    def bytes_sent(self, link: str) -> int:
        """Return the bytes that went into a link, both directions, Ethernet headers included."""
        self.store.load().link(link)  # ConfigurationError for an unknown one
        status = next(each for each in self.show() if each.name == link)
        return status.a_to_b.sent_bytes + status.b_to_a.sent_bytes

    def set(self, link: str, *, a_to_b: LinkState | None = None, b_to_a: LinkState | None = None) -> None:
        """Command a direction, or both at once; a direction not given stays as it is.

        Raises ConfigurationError for an unknown link, another MTU than the NICs have, or loss in profile bulk.
        """
        states = {d: state for d, state in (("a_to_b", a_to_b), ("b_to_a", b_to_a)) if state is not None}
        self._refuse_for_tenant(link, "set")
        for state in states.values():
            check_profile(link, state, self.profile)

        def change(old: LinkRecord, now: dict[str, LinkState], scheduled: bool) -> LinkRecord:
            still_cut = old.cut and not any(state.up for state in {**now, **states}.values())
            return replace(self._by_hand(old, states, scheduled), cut=still_cut)

        record = self._command(link, change, "set")
        _log.info("link %s: set %s", link, ", ".join(f"{d}: {state}" for d, state in states.items()))
        commanded = {direction: asdict(state) for direction, state in states.items()}
        self._sink.emit(LinkCommanded(record.name, **commanded))

    def cut(self, link: str, *, why: str = "") -> Undo:
        """Command both directions down: what is sent from now on is lost, what is in flight still arrives.

        A scheduled link stays down, whatever its schedule says, until :meth:`restore`.  As ``with links.cut(...):``
        the link is as before when the block ends.
        """
        undo = Undo(self, link)
        if self.tenant:
            self._cut_for_tenant(link, True, why)
            return undo

        def change(old: LinkRecord, now: dict[str, LinkState], scheduled: bool) -> LinkRecord:
            down = {direction: replace(state, up=False) for direction, state in now.items()}
            return replace(self._by_hand(old, down, scheduled), cut=True)

        self._command(link, change, "cut")
        _log.info("link %s: cut%s", link, why and f": {why}")
        self._sink.emit(LinkCut(link, why))
        return undo

    def shaped(self, link: str, *, direction: Direction | None = None, **changes: Any) -> Undo:
        """Change a link, both directions or one; as ``with links.shaped("isl-ab", loss_ppm=10_000):`` for a block.

        ``changes`` are fields of :class:`hil.links.state.LinkState`; what is not named stays.  Raises what
        :meth:`set` raises, and ConfigurationError for a field that there is not.
        """
        fields = LinkState.__dataclass_fields__
        if unknown := [name for name in changes if name not in fields]:
            raise ConfigurationError(f"a link has no {', '.join(unknown)}", remedy=f"it has {', '.join(fields)}")
        if "loss_ppm" in changes:
            changes.setdefault("gemodel", None)  # one loss model at a time
        undo = Undo(self, link)
        directions = DIRECTIONS if direction is None else (direction,)
        self.set(link, **{d: replace(self.commanded(link, d), **changes) for d in directions})
        return undo

    def remembered(self) -> tuple[LinkRecord, ...]:
        """Return what is commanded by hand of every link, for :meth:`put_back`."""
        return self.store.load().links

    def differences(self) -> dict[str, str]:
        """Return the links that are not as the lab file has them, with what differs, in words."""
        return {x.name: differs for x in self.store.load().links if (differs := self._own(x).differs())}

    def _own(self, record: LinkRecord) -> LinkRecord:
        """Return what concerns this box: of a tenant's box not what is cut for the others."""
        own = tuple(tenant for tenant in record.cut_for if self.tenant in ("", tenant))
        return replace(record, cut_for=own)

    def reset(self, link: str) -> bool:
        """Put a link back as the lab file has it; False when it is so."""
        record = self.store.load().link(link)
        if not self._own(record).differs():
            return False
        built = replace(record, commanded=record.built, override={}, impaired={}, cut=False, cut_for=())
        return self.put_back(built, why="as the lab file has it", tenants=True)

    def put_back(self, before: LinkRecord, *, why: str = "", tenants: bool = False) -> bool:
        """Command a link as it was when it was :meth:`remembered`; False when it is so.

        The cuts of tenants stay as they are now, unless ``tenants``: those are put back, too.
        """
        link = before.name
        now = self.store.load().link(link)
        if self.tenant:
            wanted = self.tenant in before.cut_for
            if wanted != (self.tenant in now.cut_for):
                self._cut_for_tenant(link, wanted, why)
                return True
            return False

        def change(old: LinkRecord, *_: object) -> LinkRecord:
            return old.like(before if tenants else replace(before, cut_for=old.cut_for))

        if change(now) == now and link not in self._unsure:
            return False
        record = self._command(link, change, "put back")
        _log.info("link %s: put back%s", link, why and f": {why}")
        if now.cut and not before.cut:
            self._sink.emit(LinkRestored(link, why))
        changed = {d: asdict(record.by_hand(d)) for d in DIRECTIONS if record.by_hand(d) != now.by_hand(d)}
        if before.cut and not now.cut:
            self._sink.emit(LinkCut(link, why))
        elif changed and not now.cut:
            self._sink.emit(LinkCommanded(link, **changed))
        return True

    def restore(self, link: str, *, why: str = "") -> None:
        """Command both directions up again, as they were; a scheduled link does what its schedule commands now.

        What :meth:`impair` holds ends, too.
        """
        if self.tenant:
            self._cut_for_tenant(link, False, why)
            return

        def change(old: LinkRecord, now: dict[str, LinkState], scheduled: bool) -> LinkRecord:
            restored = replace(old, override={}, impaired={}, cut=False)
            return restored if scheduled else restored.with_up(True)

        self._command(link, change, "restored")
        _log.info("link %s: restored%s", link, why and f": {why}")
        self._sink.emit(LinkRestored(link, why))

    def impair(self, link: str, states: Mapping[Direction, LinkState], *, fault: str) -> None:
        """Hold a direction, or both, in a state until :meth:`mend` of that ``fault``; what was commanded is remembered.

        So are other faults: the latest one counts.  What is commanded by hand meanwhile counts afterwards, a cut at
        once.  Raises what :meth:`set` raises.
        """
        self._refuse_for_tenant(link, "impair")
        for state in states.values():
            check_profile(link, state, self.profile)
        now_ns = self.now_ns()

        def change(old: LinkRecord, *_: object) -> LinkRecord:
            held: dict[str, Override] = {direction: Override(state, now_ns) for direction, state in states.items()}
            return replace(old, impaired={**old.impaired, fault: {**old.impaired.get(fault, {}), **held}})

        self._command(link, change, f"impaired ({fault})")
        _log.info("link %s: impaired (%s): %s", link, fault, ", ".join(f"{d}: {s}" for d, s in states.items()))
        commanded: dict[str, Any] = {direction: asdict(state) for direction, state in states.items()}
        self._sink.emit(LinkCommanded(link, **commanded))

    def mend(self, link: str, *, fault: str) -> None:
        """End what :meth:`impair` holds for ``fault``, if anything; a link that was cut by hand stays cut."""
        if fault not in self.store.load().link(link).impaired:
            return

        def change(old: LinkRecord, *_: object) -> LinkRecord:
            return replace(old, impaired={name: held for name, held in old.impaired.items() if name != fault})

        if self._command(link, change, "mended").cut:
            return
        _log.info("link %s: mended (%s)", link, fault)
        self._sink.emit(LinkRestored(link, "healed"))

    def compensate(self, link: str, direction: Direction, compensation_ns: int) -> None:
        """Note the engine's own delay, which is subtracted from the commanded one (never below 0)."""
        self._refuse_for_tenant(link, "calibrate")
        self._command(
            link,
            lambda old, *_: replace(old, compensation_ns={**old.compensation_ns, direction: compensation_ns}),
            "calibrated",
        )

    def reapply(self) -> None:
        """Command everything once more, whether or not the kernel has it already (restarts loss models)."""
        with self.store.changing() as draft:
            for position, link in enumerate(draft.record.links):
                agent = self.agents[link.kernel]
                for direction in DIRECTIONS:
                    if draft.record.scheduled(link.name) and not link.held(direction):
                        agent.shape(slot(position, direction), shape_of(link, direction, self._seed))
                    else:
                        rtnl.transact(agent, [shape_step(link, direction, self._seed)])
                rtnl.transact(agent, [*police_steps(link), *share_steps(link)])

    def close(self) -> None:
        """End the engine, and remove NICs, socket and record; an attached box only ends its connection."""
        self._exits.close()

    def __enter__(self) -> LinkBox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _command(
        self, link: str, change: Callable[[LinkRecord, dict[str, LinkState], bool], LinkRecord], what: str
    ) -> LinkRecord:
        """Change a link's record, given what is commanded now, faults aside, and whether it is scheduled, and apply it.

        The record keeps ``what`` was done, and by whom.
        """
        with self.store.changing() as draft:
            old = draft.record.link(link)
            at_ns, sound = self.now_ns(), replace(old, impaired={})
            now: dict[str, LinkState] = {d: self._states(draft.record, sound, d, at_ns, at_ns)[-1] for d in DIRECTIONS}
            scheduled = draft.record.scheduled(link)
            new = change(old, now, scheduled)
            for direction in DIRECTIONS:
                if new.by_hand(direction).mtu != old.commanded[direction].mtu:
                    raise ConfigurationError(
                        f"link {link!r} was built for MTU {old.commanded[direction].mtu}",
                        remedy="the MTU is set when the bench comes up; bring it up again to change it",
                    )
            if scheduled:
                self._command_scheduled(draft.record.position(link), old, new)
            else:
                # a message restarts the loss model, so a direction that does not change gets none
                unsure = link in self._unsure
                before = None if unsure else old
                changed: list[Direction] = [d for d in DIRECTIONS if unsure or new.shape(d) != old.shape(d)]
                steps = police_steps(new, changed, before=before) + share_steps(new, before=before)
                steps += [shape_step(new, d, self._seed) for d in changed]
                if steps:
                    self._unsure.add(link)
                    rtnl.transact(self.agents[new.kernel], steps)
                    self._unsure.discard(link)
            program = one_line(" ".join([Path(sys.argv[0]).name, *sys.argv[1:]]), 120)
            command = Command(link, what, str(current()), program, at_ns, self.tenant)
            draft.record = draft.record.with_link(new).with_command(command)
        return new

    def _cut_for_tenant(self, link: str, cut: bool, why: str) -> None:
        """Lose, or no longer lose, all that this box's tenant sends over a link. ConfigurationError without a share."""
        if not self.own_address(link):
            raise ConfigurationError(
                f"tenant {self.tenant} has no share of link {link}: a cut there would hit others, too",
                remedy=f"give it one: `tenants`, {self.tenant}, `shares` in the lab file",
            )
        tenant = {self.tenant}

        def change(old: LinkRecord, *_: object) -> LinkRecord:
            return replace(old, cut_for=tuple(sorted({*old.cut_for} | tenant if cut else {*old.cut_for} - tenant)))

        self._command(link, change, "cut" if cut else "restored")
        why = f"for tenant {self.tenant}{why and f': {why}'}"
        _log.info("link %s: %s %s", link, "cut" if cut else "restored", why)
        self._sink.emit(LinkCut(link, why) if cut else LinkRestored(link, why))

    def _refuse_for_tenant(self, link: str, verb: str) -> None:
        if self.tenant:
            raise ConfigurationError(
                f"link {link}: {verb}: refused to tenant {self.tenant}, because others use the link, too",
                remedy="a tenant's run may cut and restore its own traffic; the rest is the operator's",
            )

    def _by_hand(self, old: LinkRecord, states: Mapping[str, LinkState], scheduled: bool) -> LinkRecord:
        if not scheduled:
            return replace(old, commanded={**old.commanded, **states})
        now_ns = self.now_ns()
        held = {direction: Override(state, now_ns) for direction, state in states.items()}
        return replace(old, override={**old.override, **held})

    def _command_scheduled(self, position: int, old: LinkRecord, new: LinkRecord) -> None:
        """Hold and release slots; the engine knows what is due even while it is held, so nothing comes in between."""
        agent = self.agents[new.kernel]
        was, now = ({d for d in DIRECTIONS if record.held(d)} for record in (old, new))
        for direction in DIRECTIONS:
            if new.compensation_ns.get(direction, 0) != old.compensation_ns.get(direction, 0):
                agent.shape(slot(position, direction), shape_of(new, direction, self._seed))
        if held := [slot(position, d) for d in DIRECTIONS if d in now - was]:
            agent.hold(held)
        steps = police_steps(new, before=old) + share_steps(new, before=old)
        steps += [
            shape_step(new, d, self._seed)
            for d in DIRECTIONS
            if d in now and (d not in was or new.shape(d) != old.shape(d))
        ]
        if steps:
            rtnl.transact(agent, steps)
        if freed := [slot(position, d) for d in DIRECTIONS if d in was - now]:
            agent.release(freed)
