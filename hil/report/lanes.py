"""The rollout timeline as data: what happened on which board and link, and when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hil.evidence.model import Verdict
from hil.evidence.readback import Event, RunRecord

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


@dataclass(frozen=True)
class Bar:
    """Something that lasted, in seconds since the run started."""

    start_s: float
    end_s: float
    category: str
    label: str
    detail: str = ""
    ended: bool = True


@dataclass(frozen=True)
class Mark:
    """Something that happened at once."""

    t_s: float
    kind: str  # boot | fault
    label: str
    detail: str = ""


@dataclass
class Lane:
    """One board."""

    name: str
    group: str
    bars: list[Bar] = field(default_factory=list)
    off: list[Bar] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    claims: list[Bar] = field(default_factory=list)


@dataclass(frozen=True)
class Lanes:
    """The whole picture."""

    start_s: float
    end_s: float
    tests: tuple[Bar, ...]  # category is the verdict, label the number of the test
    links: Mapping[str, tuple[Bar, ...]]  # outages by link
    boards: tuple[Lane, ...]
    faults: tuple[Mark, ...]

    def busy(self, start_s: float, end_s: float) -> bool:
        """Whether anything happened on a board or a link in this interval."""
        bars = [b for lane in self.boards for b in (*lane.bars, *lane.off)]
        bars += [b for outages in self.links.values() for b in outages]
        return any(b.end_s > start_s and b.start_s < end_s for b in bars)


def category_of(step: str) -> str:
    """The kind of bar of a rollout step's name."""
    low = step.lower()
    for name, beginnings in _CATEGORIES:
        if any(part in low for part in beginnings):
            return name
    return "other"


def lanes_of(run: RunRecord) -> Lanes:
    """Collect the timeline from the events of a run."""
    end_s = max(run.duration_s, 1.0)
    boards: dict[str, Lane] = {
        name: Lane(name, str(facts.get("spacecraft", "")))
        for name, facts in (run.meta.get("boards") or {}).items()
    }
    events = run.events
    for name in {e.text("board") for e in events if e.kind in ("rollout.step", "board.power")} - {""}:
        boards.setdefault(name, Lane(name, ""))
    for lane in boards.values():
        mine = [e for e in events if e.fields.get("board") == lane.name]
        lane.off = _off(mine, end_s)
        lane.bars = _bars(mine, lane.off, _test_ends(run), end_s)
        lane.marks = [
            Mark(e.t_s, "boot", e.text("slot"), f"booted {e.text('os_version')} from slot {e.text('slot')}")
            for e in mine
            if e.kind == "board.boot"
        ]
    for name, claims in _claims(run).items():
        if name in boards:
            boards[name].claims = claims
    tests = tuple(
        Bar(o.start_s, o.start_s + o.duration_s, o.verdict.value, str(n), f"{o.title}: {o.verdict}")
        for n, o in enumerate(run.outcomes, start=1)
        if o.start_s is not None and o.verdict is not Verdict.NOT_RUN
    )
    faults = tuple(Mark(e.t_s, "fault", e.text("what"), e.text("target")) for e in run.of_kind("fault"))
    return Lanes(0.0, end_s, tests, _outages(run, end_s), tuple(boards.values()), faults)


def _test_ends(run: RunRecord) -> list[float]:
    return [e.t_s for e in run.of_kind("test.end")]


def _bars(mine: list[Event], off: list[Bar], test_ends: list[float], end_s: float) -> list[Bar]:
    """Pairs of start and end by step; a step without an end is drawn to the power cut or the test's end."""
    open_steps: dict[str, Event] = {}
    bars: list[Bar] = []

    def close(step: str, start: Event, end_s: float, *, ended: bool, detail: str = "") -> None:
        # Whoever commanded the step may learn late that the board lost its power; the step ended there.
        end_s = min([end_s, *(o.start_s for o in off if o.start_s > start.t_s)])
        bars.append(Bar(start.t_s, end_s, category_of(step), step, detail, ended))

    for event in mine:
        step = event.text("step", "step")
        if event.kind != "rollout.step" or step == "serving":  # serving is drawn from the watcher's claims
            continue
        if event.text("phase") == "start":
            if step in open_steps:
                earlier = open_steps[step]
                cut = _cut_short(earlier, off, test_ends, event.t_s)
                close(step, earlier, cut, ended=False, detail="did not end")
            open_steps[step] = event
        elif step in open_steps:
            ok = event.fields.get("ok", True) is not False
            said = event.text("detail")
            detail = said if ok else f"failed: {said}".removesuffix(": ")
            close(step, open_steps.pop(step), event.t_s, ended=ok, detail=detail)
    for step, start in open_steps.items():
        close(step, start, _cut_short(start, off, test_ends, end_s), ended=False, detail="did not end")
    return sorted(bars, key=lambda b: b.start_s)


def _cut_short(start: Event, off: list[Bar], test_ends: list[float], latest: float) -> float:
    after = [t for t in (*(o.start_s for o in off), *test_ends) if t > start.t_s]
    return min([*after, latest])


def _off(mine: list[Event], end_s: float) -> list[Bar]:
    """Intervals without power."""
    bars: list[Bar] = []
    since: Event | None = None
    for event in mine:
        if event.kind != "board.power":
            continue
        action = event.text("action")
        if action in ("cut", "off") and since is None:
            since = event
        elif action == "on" and since is not None:
            bars.append(Bar(since.t_s, event.t_s, "off", f"power {since.text('action')}"))
            since = None
        elif action == "reset":
            bars.append(Bar(event.t_s, event.t_s + 0.05, "off", "reset"))
    if since is not None:
        bars.append(Bar(since.t_s, end_s, "off", f"power {since.text('action')}", ended=False))
    return bars


def _outages(run: RunRecord, end_s: float) -> dict[str, tuple[Bar, ...]]:
    names: Iterable[str] = run.meta.get("links") or {}
    found: dict[str, list[Bar]] = {name: [] for name in names}
    down: dict[str, float] = {}
    for event in run.of_kind("link.cut", "link.restore"):
        link = event.text("link")
        if event.kind == "link.cut":
            down.setdefault(link, event.t_s)
        elif link in down:
            start = down.pop(link)
            found.setdefault(link, []).append(Bar(start, event.t_s, "outage", f"{link} lost"))
    for link, start in down.items():
        found.setdefault(link, []).append(Bar(start, end_s, "outage", f"{link} lost", ended=False))
    return {link: tuple(bars) for link, bars in found.items()}


def _claims(run: RunRecord) -> dict[str, list[Bar]]:
    """When each board claimed to serve, by the watcher: certain intervals from its summary (times since it
    started); in a run that was killed before that, what its ``watch.claim`` events say."""
    claims: dict[str, list[Bar]] = {}
    summaries = run.of_kind("watch.summary")
    for event in summaries:
        started = event.number("started_mono_s")
        begin = float(run.meta.get("mono_start_s", 0.0))
        zero = (
            started - begin if started is not None else event.t_s - (event.number("duration_s") or event.t_s)
        )
        for board, spans in (event.fields.get("claims") or {}).items():
            claims[board] = [_claim(zero + start, zero + end, epoch) for start, end, epoch in spans]
    if summaries:
        return claims
    since: dict[str, tuple[float, int]] = {}
    for event in run.of_kind("watch.claim"):
        board, epoch = event.text("board"), event.number("epoch")
        if board in since:
            start_s, before = since.pop(board)
            claims.setdefault(board, []).append(_claim(start_s, event.t_s, before))
        if epoch is not None:
            since[board] = (event.t_s, int(epoch))
    for board, (start_s, epoch) in since.items():
        claims.setdefault(board, []).append(_claim(start_s, run.duration_s, epoch))
    return claims


def _claim(start_s: float, end_s: float, epoch: int) -> Bar:
    return Bar(start_s, end_s, f"epoch-{epoch % 4}", f"epoch {epoch}")
