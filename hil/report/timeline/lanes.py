"""The rollout timeline as data: what happened on which board and link, and when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hil.evidence.events import (
    BenchUp,
    BoardBooted,
    BoardPower,
    ConsoleStage,
    FaultHealed,
    FaultInjected,
    RolloutStep,
    TestEnded,
    WatchClaim,
    WatchSummary,
)
from hil.evidence.model import Verdict
from hil.evidence.readback import RunRecord
from hil.report.timeline.bars import Bar, Mark
from hil.report.timeline.interruptions import Interruptions
from hil.report.timeline.link_lanes import LinkLane, chosen, link_lanes, route_marks

_CATEGORIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("upload", ("upload",)),
    ("relay", ("relay",)),
    ("fan-out", ("fan", "distribute", "pull", "transfer")),
    ("install", ("install",)),
    ("configure", ("config", "prepare", "commit", "epoch", "claim")),
    ("confirm", ("confirm", "health", "mark")),
    ("roll back", ("roll", "revert", "fall")),
    ("boot", ("boot", "activate", "canary", "restart", "power")),
    ("inference", ("infer", "job", "tile")),
)

CATEGORIES = (*(name for name, _ in _CATEGORIES), "other")
"""Kinds of bars, in the order of the legend."""

FEW_BOARDS = 12
"""So many boards are always shown; of more, those that the campaign used."""


@dataclass
class Lane:
    """One board."""

    name: str
    group: str
    bars: list[Bar] = field(default_factory=list)
    off: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    claims: list[Bar] = field(default_factory=list)

    restarted: bool = False  # after the bench had come up

    @property
    def used(self) -> bool:
        """Whether anything happened to it during the campaign; its boot with the bench is nothing."""
        return bool(self.bars or self.off or self.claims or self.restarted)


@dataclass(frozen=True)
class Lanes:
    """The whole picture."""

    start_s: float
    end_s: float
    tests: tuple[Bar, ...]  # category is the verdict, label the number of the test
    links: tuple[LinkLane, ...]
    boards: tuple[Lane, ...]
    faults: tuple[Mark, ...]
    routes: tuple[Mark, ...] = ()

    def busy(self, start_s: float, end_s: float) -> bool:
        """Whether anything happened on a board or a link in this interval."""
        bars = (b for lane in self.boards for b in (*lane.bars, *lane.off))
        links = (link.busy(start_s, end_s) for link in self.links)
        return any(b.within(start_s, end_s) for b in bars) or any(links)

    @property
    def shown(self) -> Lanes:
        """Without what the page folds: boards of a large lab that nobody touched, and links that do not matter."""
        boards = tuple(lane for lane in self.boards if lane.used or len(self.boards) <= FEW_BOARDS)
        return replace(self, links=chosen(self.links), boards=boards)

    @property
    def folded(self) -> Lanes:
        """What :attr:`shown` leaves out."""
        links = tuple(lane for lane in self.links if lane not in self.shown.links)
        boards = tuple(lane for lane in self.boards if lane not in self.shown.boards)
        return replace(self, links=links, boards=boards, routes=(), faults=())


def category_of(step: str) -> str:
    """Return the kind of bar of a rollout step's name."""
    kinds = (kind for kind, parts in _CATEGORIES if any(part in step.lower() for part in parts))
    return next(kinds, "other")


def lanes_of(run: RunRecord) -> Lanes:
    """Collect the timeline from the events of a run."""
    end_s = max(run.duration_s, 1.0)
    boards: dict[str, Lane] = {
        name: Lane(name, str(facts.get("spacecraft", ""))) for name, facts in (run.meta.get("boards") or {}).items()
    }
    steps, power, boots = run.of(RolloutStep), run.of(BoardPower), run.of(BoardBooted)
    bench_up_s = max((e.t_s for e in run.of(BenchUp)), default=0.0)
    links = link_lanes(run, end_s, participants_of(run))
    interruptions = Interruptions(run, links)
    for name in {*(e.board for e in steps), *(e.board for e in power)} - {""}:
        boards.setdefault(name, Lane(name, ""))
    for lane in boards.values():
        mine = [e for e in boots if e.board == lane.name]
        lane.off = _off([e for e in power if e.board == lane.name], end_s)
        lane.restarted = any(e.t_s > bench_up_s for e in mine)
        own_steps = [e for e in steps if e.board == lane.name]
        lane.bars = _bars(own_steps, lane.off, [e.t_s for e in run.of(TestEnded)], end_s, interruptions)
        lane.marks = [Mark(e.t_s, "boot", e.slot, f"booted {e.os_version} from slot {e.slot}") for e in mine]
        for seen in (e for e in run.of(ConsoleStage) if e.board == lane.name):
            groups = f" ({', '.join(seen.groups)})" if seen.groups else ""
            kind = "trouble" if seen.bad else "stage"
            lane.marks.append(Mark(seen.t_s, kind, "", f"console: {seen.stage}{groups}"))
    for name, claims in _claims(run).items():
        if name in boards:
            boards[name].claims = claims
    tests = tuple(
        Bar(o.start_s, o.start_s + o.duration_s, o.verdict.value, str(n), f"{o.title}: {o.verdict}")
        for n, o in enumerate(run.outcomes, start=1)
        if o.start_s is not None and o.verdict is not Verdict.NOT_RUN
    )
    struck = [Mark(e.t_s, "fault", e.what, e.target) for e in run.of(FaultInjected)]
    healed = [Mark(e.t_s, "fault", f"{e.what}: healed", e.target) for e in run.of(FaultHealed)]
    faults = tuple(sorted([*struck, *healed], key=lambda mark: mark.t_s))
    return Lanes(0.0, end_s, tests, links, tuple(boards.values()), faults, route_marks(run))


def participants_of(run: RunRecord) -> tuple[str, ...]:
    """Return the spacecraft that take part: of ``run.json``, else those of boards that a rollout touched."""
    named = (run.meta.get("participants") or {}).get("spacecraft")
    if isinstance(named, tuple):
        return named
    boards = run.meta.get("boards") or {}
    touched = {e.board for e in run.of(RolloutStep)}
    return tuple(dict.fromkeys(str(f.get("spacecraft", "")) for name, f in boards.items() if name in touched))


def _bars(
    steps: list[RolloutStep], off: list[Bar], test_ends: list[float], end_s: float, interruptions: Interruptions
) -> list[Bar]:
    """Return a bar per step; a step without an end is drawn to the power cut or the test's end."""
    open_steps: dict[str, RolloutStep] = {}
    bars: list[Bar] = []

    def close(start: RolloutStep, end_s: float, end: RolloutStep | None = None) -> None:
        """Add the bar of a step; without ``end`` it did not end."""
        # The harness may learn late that the board lost its power; the step ended there.
        cuts = [o.start_s for o in off] if end else [*(o.start_s for o in off), *test_ends]
        end_s = min([end_s, *(t for t in cuts if t > start.t_s)])
        category = category_of(start.step)
        gaps = interruptions.of(start.board, category, end.source if end else "", (start.t_s, end_s))
        ok = end is not None and end.ok is not False
        detail = end.detail if end else "did not end"
        if end and not ok:
            detail = f"failed: {detail}".removesuffix(": ")
        resumed_at = end.resumed_at if end else ()
        bars.append(Bar(start.t_s, end_s, category, start.step or "step", detail, ok, gaps, resumed_at))

    for event in steps:
        step = event.step
        if step == "serving":  # serving is drawn from the watcher's claims
            continue
        if event.phase == "start":
            if earlier := open_steps.get(step):
                close(earlier, event.t_s)
            open_steps[step] = event
        elif step in open_steps:
            close(open_steps.pop(step), event.t_s, event)
    for start in open_steps.values():
        close(start, end_s)
    return sorted(bars, key=lambda b: b.start_s)


def _off(switched: list[BoardPower], end_s: float) -> list[Bar]:
    """Return the intervals without power."""
    bars: list[Bar] = []
    since: BoardPower | None = None
    for event in switched:
        action = event.action
        if action in ("cut", "off") and since is None:
            since = event
        elif action == "on" and since is not None:
            bars.append(Bar(since.t_s, event.t_s, "off", f"power {since.action}"))
            since = None
        elif action == "reset":
            bars.append(Bar(event.t_s, event.t_s + 0.05, "off", "reset"))
    if since is not None:
        bars.append(Bar(since.t_s, end_s, "off", f"power {since.action}", ended=False))
    return bars


def _claims(run: RunRecord) -> dict[str, list[Bar]]:
    """When each board claimed to serve, by the watcher: certain intervals from its summary (times since it
    started); in a run that was killed before that, what its ``watch.claim`` events say."""
    claims: dict[str, list[Bar]] = {}
    summaries = run.of(WatchSummary)
    for summary in summaries:
        started, begin = summary.started_mono_s, float(run.meta.get("mono_start_s", 0.0))
        zero = summary.t_s - (summary.duration_s or summary.t_s) if started is None else started - begin
        for board, spans in summary.claims.items():
            claims[board] = [_claim(zero + start, zero + end, epoch) for start, end, epoch in spans]
    if summaries:
        return claims
    since: dict[str, tuple[float, int]] = {}
    for event in run.of(WatchClaim):
        board = event.board
        if board in since:
            start_s, before = since.pop(board)
            claims.setdefault(board, []).append(_claim(start_s, event.t_s, before))
        if event.epoch is not None:
            since[board] = (event.t_s, event.epoch)
    for board, (start_s, epoch) in since.items():
        claims.setdefault(board, []).append(_claim(start_s, run.duration_s, epoch))
    return claims


def _claim(start_s: float, end_s: float, epoch: int) -> Bar:
    return Bar(start_s, end_s, f"epoch-{epoch % 4}", f"epoch {epoch}")
