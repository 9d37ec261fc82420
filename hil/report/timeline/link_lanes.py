"""Links over the run as data: phases by plan, cuts by hand, and where no chain of links joined two ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hil.evidence.events import LinkCommanded, LinkCut, LinkRestored, LinkTimeline, RoutesChanged
from hil.evidence.readback import LinkFacts, RunRecord
from hil.report import units
from hil.report.timeline.bars import Bar, Mark, Span, clipped, merged

PHASES = {
    "track": "tracking, traffic flows",
    "fade": "short fade",
    "slew": "turning to the other end",
    "acquire": "finding the other end",
    "lost": "lost while tracking",
    "reacquire": "finding it again",
    "idle": "in sight, no terminal points there",
    "blocked": "out of sight or range",
}
"""Phases of a link in the order of the legend, with what they mean."""

CARRIES = frozenset({"track", "fade"})
"""Phases in which routes use a link: they do not follow fades."""

FEW = 8
"""So many links are always shown; of more, those that matter."""
MOST = 16


@dataclass(frozen=True)
class LinkLane:
    """One link: what its plan says, if the run has one, and when it was cut by hand."""

    name: str
    kind: str  # crosslink | ground | "" when evidence does not say
    ends: tuple[str, ...]
    phases: tuple[Bar, ...] = ()  # category is the phase, detail why
    cuts: tuple[Bar, ...] = ()
    commands: tuple[Mark, ...] = ()
    direct: bool = False  # between participants, or from the ground to one that was in sight

    @property
    def _planned_down(self) -> list[Span]:
        return merged((b.start_s, b.end_s) for b in self.phases if b.category not in CARRIES)

    @property
    def down(self) -> list[Span]:
        """When nothing could be sent: phases that do not carry traffic, and cuts."""
        return merged([*self._planned_down, *((b.start_s, b.end_s) for b in self.cuts)])

    @property
    def changes(self) -> bool:
        """Whether its phase changed during the run, fades aside, or somebody cut it."""
        return bool(self.cuts) or len(self.steady) > 1

    @property
    def closed(self) -> list[Span]:
        """When a crosslink between participants was down by plan; empty for one that was down all the time."""
        if not self.direct or self.kind == "ground" or not any(b.category in CARRIES for b in self.phases):
            return []
        return self._planned_down

    @property
    def story(self) -> str:
        """Its states in words, e.g. ``track 0 to 34.2 s, blocked 34.2 to 54.0 s``; fades are counted."""
        fades = sum(b.category == "fade" for b in self.phases)
        states = [f"{b.label} {b.start_s:.1f} to {b.end_s:.1f} s" for b in (*self.steady, *self.cuts)]
        return ", ".join([*states, *([f"{fades} fade{'s' * (fades != 1)}"] if fades else [])])

    @property
    def steady(self) -> tuple[Bar, ...]:
        """Its phases with fades taken for tracking: what routes follow."""
        out: list[Bar] = []
        for bar in self.phases:
            seen = replace(bar, category="track", label="track", detail="") if bar.category == "fade" else bar
            if out and out[-1].category == seen.category and seen.category in CARRIES:
                out[-1] = replace(out[-1], end_s=seen.end_s, detail=out[-1].detail or seen.detail)
            else:
                out.append(seen)
        return tuple(out)

    def busy(self, start_s: float, end_s: float) -> bool:
        """Whether it changed or was cut between these moments."""
        cut = any(b.within(start_s, end_s) for b in self.cuts)
        return cut or any(start_s < b.start_s < end_s for b in self.steady)


def link_lanes(run: RunRecord, end_s: float, participants: Collection[str]) -> tuple[LinkLane, ...]:
    """Return every link of the lab and of the evidence; those that matter first, else as in the lab file."""
    facts: Mapping[str, LinkFacts] = run.meta.get("links") or {}
    planned = {e.link: e for e in run.of(LinkTimeline)}  # the last one counts
    chosen_way = (run.meta.get("participants") or {}).get("way") or ()
    cuts = _cuts(run, end_s)
    lanes = []
    for name in dict.fromkeys([*facts, *planned, *cuts]):
        event = planned.get(name)
        fact = facts.get(name) or LinkFacts()
        lane = LinkLane(
            name,
            fact.kind or (event.link_kind if event else ""),
            fact.between or (event.between if event else ()),
            phases=_phases(event, end_s) if event else (),
            cuts=cuts.get(name, ()),
            commands=tuple(_command(e) for e in run.of(LinkCommanded) if e.link == name),
        )
        lanes.append(replace(lane, direct=name in chosen_way or _direct(lane, participants)))
    return tuple(sorted(lanes, key=lambda x: 0 if x.direct else 1 if x.cuts else 2 if x.changes else 3))


def chosen(lanes: Sequence[LinkLane]) -> tuple[LinkLane, ...]:
    """Return the links to show: of many, those that changed or carry traffic."""
    if len(lanes) <= FEW:
        return tuple(lanes)
    return tuple([lane for lane in lanes if lane.direct or lane.changes][:MOST])


def route_marks(run: RunRecord) -> tuple[Mark, ...]:
    """Return when routes were changed, and why."""
    marks = []
    for event in run.of(RoutesChanged):
        count = "" if event.changed is None else f"{event.changed} route{'s' * (event.changed != 1)} changed"
        marks.append(Mark(event.t_s, "route", count or "routes changed", event.why))
    return tuple(marks)


def apart(lanes: Iterable[LinkLane], near: Collection[str], far: str, window: Span) -> list[Span]:
    """Return when no chain of usable links joined ``far`` to any node of ``near``, within ``window``.

    Fades count as usable.  Empty when the evidence does not say what the links join.
    """
    joined = [(lane.ends, lane.down) for lane in lanes if len(lane.ends) == 2]
    if far in near or not any(far in ends for ends, _ in joined):
        return []
    start_s, end_s = window
    edges = {start_s, end_s}
    for _, down in joined:
        edges.update(t for span in down for t in span if start_s < t < end_s)
    moments = sorted(edges)
    alone = []
    for begin, end in pairwise(moments):
        middle = (begin + end) / 2
        usable = [ends for ends, down in joined if not any(a <= middle < b for a, b in down)]
        if far not in _reached(usable, near):
            alone.append((begin, end))
    return merged(alone)


def _reached(pairs: Collection[tuple[str, ...]], near: Collection[str]) -> set[str]:
    reached, frontier = set(near), list(near)
    while frontier:
        here = frontier.pop()
        for pair in pairs:
            if here in pair:
                new = set(pair) - reached
                reached |= new
                frontier += new
    return reached


def _direct(lane: LinkLane, participants: Collection[str]) -> bool:
    """Whether it lies between two participants; from the ground only where it carried at some time in the run."""
    if lane.kind == "ground":
        carried = not lane.phases or any(b.category in CARRIES for b in lane.phases)
        return carried and any(end in participants for end in lane.ends)
    return len(lane.ends) == 2 and all(end in participants for end in lane.ends)


def _phases(timeline: LinkTimeline, end_s: float) -> tuple[Bar, ...]:
    """Return the intervals that touch the run; one of an unknown phase or without its times is left out."""
    bars = []
    for interval in timeline.intervals:
        phase = interval.phase.lower()
        if phase in PHASES:  # a time that is missing is NaN, which touches nothing
            for start_s, stop_s in clipped([(interval.start_s, interval.end_s)], 0.0, end_s):
                bars.append(Bar(start_s, stop_s, phase, phase, interval.why))
    return tuple(sorted(bars, key=lambda b: b.start_s))


def _command(commanded: LinkCommanded) -> Mark:
    """Return the mark of a change of state by hand, in words."""
    directions = (("a to b", commanded.a_to_b), ("b to a", commanded.b_to_a))
    text = "; ".join(f"{name}: {_state(state)}" for name, state in directions if state)
    return Mark(commanded.t_s, "command", "", f"{commanded.link} set by hand, {text}")


def _state(state: Mapping[str, object]) -> str:
    if state.get("up") is False:
        return "down"
    shown = (("delay_us", "us"), ("rate_bps", "bit/s"), ("loss_ppm", "ppm"))
    return ", ".join(units.quantity(state[name], unit) for name, unit in shown if state.get(name))


def _cuts(run: RunRecord, end_s: float) -> dict[str, tuple[Bar, ...]]:
    cuts: dict[str, list[Bar]] = {}
    down: dict[str, LinkCut] = {}
    for event in run.events:
        if isinstance(event, LinkCut):
            down.setdefault(event.link, event)
        elif isinstance(event, LinkRestored) and event.link in down:
            cuts.setdefault(event.link, []).append(_cut(down.pop(event.link), event.t_s))
    for link, start in down.items():
        cuts.setdefault(link, []).append(_cut(start, end_s, ended=False))
    return {link: tuple(bars) for link, bars in cuts.items()}


def _cut(start: LinkCut, end_s: float, *, ended: bool = True) -> Bar:
    return Bar(start.t_s, end_s, "cut", f"{start.link} cut", start.why, ended)
