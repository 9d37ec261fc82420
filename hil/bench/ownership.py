"""Whose a bench is: what changes it is refused while somebody else holds the lease of a board concerned.

The rules go by the innermost lease of each board.  A bench that is kept up belongs to the person who brought it up;
a run on it, or a bench that a run brought up, belongs to that run's process and to what that process starts; a
person's lease belongs to the person.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hil.bench.journal import Journal
from hil.bench.state import BenchState, lease_keys, read_state
from hil.core.processes import ProcessId, ancestors
from hil.errors import ConfigurationError, HilError
from hil.lab.model import Lab
from hil.leases.lease import LEASE_ENV
from hil.leases.leases import LeaseEntry, Leases, LeaseTaken, default_holder
from hil.leases.rules import Origin, sentence, span, utc

NOTED_BY_EVENTS = ("power", "link")
"""What the bench itself writes into the journal when it is done."""


_USUAL = re.compile(r"usually done after (\d{1,7}) s")

FOR_THE_SAME_PERSON = ("shell", "run")
"""Who runs a campaign may look at its boards from another terminal, which needs a shell."""


@dataclass(frozen=True)
class Me:
    """Who wants to change something: person, processes above this one, and the lease within which it works."""

    holder: str
    processes: frozenset[str]
    """This process and those from which it descends, each a ``ProcessId`` as text."""
    lease: str
    origin: Origin

    @classmethod
    def now(cls) -> Me:
        return cls(default_holder(), frozenset(map(str, ancestors())), os.environ.get(LEASE_ENV, ""), Origin.here())


def others(
    entries: Iterable[LeaseEntry], boards: frozenset[str], state: BenchState, me: Me, *, by_name: bool = False
) -> list[LeaseEntry]:
    """Return the leases of ``boards`` that are not ``me``'s: of each board only the innermost one counts. Pure.

    ``by_name``: also a lease of another process of the same person is one's own.
    """
    holding = [entry for entry in entries if entry.holds and not boards.isdisjoint(entry.boards)]
    innermost = [e for e in holding if not any(o.within == e.id and o.boards & e.boards & boards for o in holding)]
    return [e for e in innermost if not (_is_mine(e, state, me) or (by_name and e.holder == me.holder))]


def _is_mine(entry: LeaseEntry, state: BenchState, me: Me) -> bool:
    if me.lease in (entry.name, str(entry.id)):
        return True
    of_bench = state.lease in (entry.name, str(entry.id))
    if entry.by_person or (of_bench and not state.tied):
        return entry.holder == me.holder
    if not me.origin.sees_processes_of(entry.origin):
        return False
    # A run's own bench is leased by its keeper, which is a child of the run.
    holders = {str(ProcessId(entry.pid, entry.start_ticks)), state.owner if of_bench else ""}
    return not holders.isdisjoint(me.processes)


def may_change(
    state: BenchState, lab: Lab, boards: Iterable[str], what: str, *, force: bool, verb: str = "bench", about: str = ""
) -> None:
    """Raise LeaseTaken, with the holders, when a board of a bench is somebody else's; with ``force`` it is noted.

    ``what`` is what is to be done, in words; ``verb`` and ``about`` are what the journal calls it.
    """
    keys = dict(zip((board.name for board in lab.boards), lease_keys(lab, state.name), strict=True))
    wanted = frozenset(keys[name] for name in boards)
    _refuse(state, wanted, what, force=force, verb=verb, about=about, leases=Leases())


def _refuse(
    state: BenchState, wanted: frozenset[str], what: str, *, force: bool, verb: str, about: str, leases: Leases
) -> None:
    found = others(leases.list(), wanted, state, Me.now(), by_name=verb in FOR_THE_SAME_PERSON)
    if not found:
        if verb not in NOTED_BY_EVENTS:
            Journal(state.name).note(verb, about, what)
        return
    held = "; ".join(sentence(entry, wanted, leases.here) for entry in found)
    if not force:
        holders = ", ".join(dict.fromkeys(entry.holder for entry in found))
        raise LeaseTaken(
            f"{what}: refused, bench {state.name} is in use\n  {held}",
            remedy=f"ask {holders}, or do it all the same with --force: it is noted, and a run learns of it",
            blockers=found,
        )
    Journal(state.name).note(verb, about, what, forced=held)


def usually_done(seconds: float) -> str:
    """Return how the purpose of a run's lease says how long such runs take; :func:`what_is_free` reads it."""
    return f"usually done after {seconds:.0f} s"


def what_is_free(lab: Lab, state: BenchState, leases: Leases, now: datetime | None = None) -> list[str]:
    """Return for each tenant of a bench, in words, whether it is free now or when it will be; those free come first.

    A run's end is estimated from how long runs of its plan usually take, a person's lease ends with its term.
    """
    now = now or datetime.now(UTC)
    keys = dict(zip((board.name for board in lab.boards), lease_keys(lab, state.name), strict=True))
    within = [e for e in leases.list() if state.lease not in (e.name, str(e.id))]
    free, taken = [], []
    for tenant in lab.tenants:
        wanted = frozenset(keys[board] for board in tenant.boards)
        name = f"tenant {tenant.name} ({', '.join(tenant.boards)})"
        holding = [entry for entry in within if not wanted.isdisjoint(entry.boards)]
        waiting = sum(not wanted.isdisjoint(entry.boards) for entry in leases.queue())
        if not holding:
            free.append(f"{name}: free now")
            continue
        ahead = f"; {waiting} wait for it" if waiting else ""
        taken.append(f"{name}: {_latest([_when_free(entry, now) for entry in holding])}{ahead}")
    return free + taken


def _latest(ends: list[tuple[float, str]]) -> str:
    return max(ends)[1]


def _when_free(entry: LeaseEntry, now: datetime) -> tuple[float, str]:
    """Return in how many seconds a lease ends (infinite: nobody knows), and that in words."""
    if entry.by_person:
        return entry.left_s, f"free at {utc(entry.expires)} at the latest, in {span(entry.left_s)}"
    usual = _USUAL.search(entry.purpose)
    if usual is None or entry.taken is None:
        return math.inf, "in use; when it will be free is not known: no run like that has passed here yet"
    end = entry.taken + timedelta(seconds=float(usual[1]))
    left_s = (end - now).total_seconds()
    if left_s <= 0:
        return math.inf, f"in use, {span(-left_s)} longer than such a run usually takes"
    return left_s, f"free at about {utc(end)}, in {span(left_s)}, if its run takes as long as usual"


def may_take_down(bench: str, *, force: bool) -> None:
    """Raise LeaseTaken when a bench is somebody else's, or a run uses it; with ``force`` it is noted."""
    state = read_state(bench)
    if state is None:
        return
    leases = Leases()
    keeper = next((e for e in leases.list() if state.lease in (e.name, str(e.id))), None)
    if keeper is not None:
        _refuse(
            state, keeper.boards, f"bench {bench}: take it down", force=force, verb="bench", about="", leases=leases
        )


def up_already(name: str) -> ConfigurationError:
    """Return the error of who wants to bring up a bench that is up: whose it is, and what may be done."""
    state = read_state(name)
    owner = whose(state) if state else ""
    if owner and state and not is_mine(state):
        return ConfigurationError(
            f"bench {name} is up already: {owner} brought it up",
            remedy=f"choose another name with --name, or ask for it; --bench {name} uses it when nobody else does",
        )
    return ConfigurationError(
        f"bench {name} is up already" + (f": {owner} brought it up" if owner else ""),
        remedy=f"use it with --bench {name}, or end it with `hil bench down {name}`",
    )


def whose(state: BenchState) -> str:
    """Return who brought a bench up, since when and for what, in words; empty when that is not known."""
    try:
        leases = Leases()
        entry = next((e for e in leases.list() if state.lease in (e.name, str(e.id))), None)
    except HilError:
        return ""
    if entry is None:
        return ""
    since = f" since {entry.taken:%Y-%m-%d %H:%M:%S} UTC" if entry.taken else ""
    return f"{entry.holder} on {entry.origin.host}{since}, process {entry.pid}"


def is_mine(state: BenchState) -> bool:
    """Return whether this person, or the process above this one, brought the bench up."""
    entries = [e for e in Leases().list() if state.lease in (e.name, str(e.id))]
    return all(_is_mine(entry, state, Me.now()) for entry in entries)
