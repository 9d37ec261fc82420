"""One frame of `hil bench watch`: the state of a bench, cut to the size of a terminal.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hil.cli.bench.heat_history import HeatHistory
from hil.cli.output import delay, rate
from hil.evidence.twin import TwinSample
from hil.leases.rules import span
from hil.monitor.bench_health import BoardHealth, Health, LeaseHealth, LinkHealth
from hil.text import clean

T = TypeVar("T")

GAP = 2
LEAST_ROWS = 3
"""Rows of a section that are shown at least, however low the terminal is."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column; those with a higher ``rank`` go first when the terminal is narrow, 0 never."""

    title: str
    rank: int
    cell: Callable[[T], Text | str]
    right: bool = False


def frame(
    health: Health,
    *,
    width: int,
    height: int | None = None,
    before: Health | None = None,
    history: HeatHistory | None = None,
) -> RenderableType:
    """Return the frame, ``width`` columns wide and at most ``height`` rows high (None: as high as needed).

    ``before`` is the sample before, for the traffic between both.  Boards and links that need attention come first
    when not everything fits; the ``history`` of heat and power takes the rows that are left.
    """
    top = [
        _title(health),
        *_campaign(health),
        *map(_heat, health.heat),
        *(Text(f"! {p}", style="red") for p in health.problems),
    ]
    leases = [_lease(lease, health) for lease in health.leases]
    boards, links = list(health.boards), list(health.links)
    wants = [len(boards), len(links), len(leases)]
    # Every section has a row of titles and a blank row before it, the leases only the blank row.
    room = wants if height is None else share(height - len(top) - 5, wants)
    parts: list[RenderableType] = [*top, Text("")]
    shown, rest = _first(boards, room[0], [b.wants_attention for b in boards])
    columns = (*BOARD_COLUMNS, NOTE) if any(map(_note, shown)) else BOARD_COLUMNS
    parts += [fitting(columns, shown, width), *rest, Text("")]
    if links:
        shown_links, rest = _first(links, room[1], [link.cut or not link.agrees for link in links])
        parts += [fitting(_link_columns(health, before), shown_links, width), *rest]
    if leases:
        shown_leases, rest = _first(leases, room[2], [False] * len(leases))
        parts += [Text(""), *shown_leases, *rest]
    if history is not None and height is not None:
        left = height - len(top) - 6 - sum(wants)
        parts += [Text(""), *lines] if (lines := history.lines(width=width, room=left)) else []
    for part in parts:
        if isinstance(part, Text):
            part.no_wrap, part.overflow = True, "ellipsis"
    return Group(*parts)


def share(room: int, wants: Sequence[int]) -> list[int]:
    """Divide ``room`` rows: a section that wants little gets it all, the others divide the rest evenly."""
    granted = [0] * len(wants)
    left, waiting = room, sorted(range(len(wants)), key=lambda i: wants[i])
    for done, index in enumerate(waiting):
        fair = max(LEAST_ROWS, left // (len(waiting) - done))
        granted[index] = min(wants[index], fair)
        left -= granted[index]
    return granted


def fitting(columns: Sequence[Column[T]], rows: Sequence[T], width: int) -> Table:
    """Return a table of the columns that fit, by rank; a cell that is still too wide ends with an ellipsis."""
    cells = {c.title: [Text(v) if isinstance(v := c.cell(row), str) else v for row in rows] for c in columns}
    widths = {title: max([len(title), *(text.cell_len for text in cells[title])]) for title in cells}
    kept = list(columns)
    while sum(widths[c.title] + GAP for c in kept) - GAP > width and any(c.rank for c in kept):
        kept.remove(max(kept, key=lambda column: column.rank))
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in kept:
        side: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, justify=side, no_wrap=True, overflow="ellipsis")
    for row in zip(*(cells[column.title] for column in kept), strict=True):
        table.add_row(*row)
    return table


def _first(items: list[T], room: int, urgent: list[bool]) -> tuple[list[T], list[Text]]:
    """Return the items that fit, urgent ones before the others, and a line about the rest."""
    if len(items) <= room:
        return items, []
    ranked = sorted(range(len(items)), key=lambda i: (not urgent[i], i))
    chosen = sorted(ranked[: max(1, room - 1)])
    return [items[i] for i in chosen], [Text(f"… and {len(items) - len(chosen)} more", style="dim")]


def _title(health: Health) -> Text:
    now = datetime.fromtimestamp(health.taken_at, UTC)
    title = Text.assemble((f"bench {health.bench}", "bold"), f"  lab {health.lab}")
    if health.started_utc:
        title.append(f"  up {span((now - datetime.fromisoformat(health.started_utc)).total_seconds())}")
    title.append(f"  {now:%H:%M:%S} UTC")
    if health.mission_time:
        title.append(f"  mission {health.mission_time:%Y-%m-%d %H:%M:%S}", style="cyan")
    title.append(f"  links by {health.engine.get('kind', '?')}", style="dim")
    return title


def _heat(sample: TwinSample) -> Text:
    """Return the heat of one spacecraft: sun, battery, radiator, each board's junction and what holds it back."""
    line = Text.assemble((sample.spacecraft, "bold"), f"  {'eclipse' if sample.sunlit < 0.5 else 'sun'}")
    line.append(f"  battery {sample.charge:.0%}  radiator {sample.radiator_c:.0f} °C", style="dim")
    for name, board in sample.boards.items():
        style = "red" if board.binding == "heat" else "yellow" if board.binding == "power" else ""
        state = f"{board.junction_c:.0f} °C {board.power_w:.0f} W {board.busy:.0%}" if board.on else "off"
        line.append(f"  {name} {state}" + (f" {board.binding}" if style else ""), style=style)
    return line


def _campaign(health: Health) -> list[Text]:
    step = health.step
    if step is None:
        return []
    line = Text.assemble((f"campaign {step.plan}", "bold"), f"  {step.step}: {step.title}")
    if step.started_utc:
        since_s = health.taken_at - datetime.fromisoformat(step.started_utc).timestamp()
        line.append(f"  {span(since_s)}", style="cyan")
    if step.attempt > 1:
        line.append(f"  attempt {step.attempt}", style="yellow")
    line.append(f"  run {step.run_id}", style="dim")
    return [line]


def _number(value: float | None, pattern: str = "{:.1f}") -> Text:
    return Text("-", style="dim") if value is None else Text(pattern.format(value))


def _gpu_percent(board: BoardHealth) -> Text:
    load = board.sensors.gpu_load if board.sensors else None
    return _number(None if load is None else 100 * load, "{:.0f}")


BOARD_COLUMNS: Sequence[Column[BoardHealth]] = (
    Column("board", 0, lambda b: b.name),
    Column("craft", 7, lambda b: b.spacecraft),
    Column("state", 0, lambda b: _state(b)),
    Column("slot", 0, lambda b: _slot(b)),
    Column("OS", 5, lambda b: b.os_version or "-"),
    Column("°C", 1, lambda b: _number(b.sensors.hottest_c if b.sensors else None), right=True),
    Column("W", 2, lambda b: _number(b.sensors.board_w if b.sensors else None), right=True),
    Column("GPU %", 3, _gpu_percent, right=True),
    Column("epoch", 4, lambda b: _number(b.node.claimed_epoch if b.node else None, "{}"), right=True),
    Column("kind", 9, lambda b: Text(b.fidelity, style="dim")),
)
NOTE: Column[BoardHealth] = Column("note", 0, lambda b: Text(_note(b), style="yellow"))


def _state(board: BoardHealth) -> Text:
    if board.power is None:
        return Text("?", style="bold red")
    if board.power == "off":
        return Text("off", style="dim")
    if not board.reachable:
        return Text("silent", style="yellow")
    if board.node is not None and not board.node.healthy:
        return Text("ill", style="bold red")
    return Text("up", style="green")


def _slot(board: BoardHealth) -> Text:
    running = board.slot
    text = Text("-", style="dim") if running is None else Text(running)
    if board.confirmed is False:
        text.append(" trial", style="yellow")
    following = next((name for name, slot in board.slots.items() if slot.next), None)
    if following not in (None, running):
        text.append(f" → {following}", style="yellow")
    return text


def _note(board: BoardHealth) -> str:
    problems = board.node.problems if board.node else ()
    return clean("; ".join((*problems, *board.problems)))


def _link_columns(health: Health, before: Health | None) -> list[Column[LinkHealth]]:
    return [
        Column("link", 0, lambda x: x.name),
        Column("between", 4, lambda x: f"{x.directions['a_to_b'].source} – {x.directions['a_to_b'].target}"),
        Column("state", 0, _link_state),
        Column("phase", 1, _phase),
        Column("one way", 2, lambda x: _both(delay(d.delay_s * 1e6) for d in x.directions.values()), right=True),
        Column("rate", 5, lambda x: _both(rate(d.rate_bps) for d in x.directions.values()), right=True),
        Column("now", 3, lambda x: _traffic(x, health, before), right=True),
        Column("dropped", 6, lambda x: f"{sum(d.dropped_packets for d in x.directions.values())} pkt", right=True),
    ]


def _both(texts: Iterable[str]) -> str:
    """Return one figure when both directions have the same, else there / back."""
    return " / ".join(dict.fromkeys(texts))


def _link_state(link: LinkHealth) -> Text:
    if link.cut:
        text = Text("cut", style="bold red")
    else:
        text = Text("up", style="green") if link.up else Text("down", style="yellow")
    if not link.agrees:
        text.append(" (kernel differs)", style="bold red")
    return text


def _phase(link: LinkHealth) -> Text:
    if link.phase is None:
        return Text("fixed", style="dim")
    left = f" {span(link.phase_left_s)}" if link.phase_left_s is not None else ""
    return Text(f"{link.phase}{left}", style="" if link.phase == "track" else "yellow")


def _traffic(link: LinkHealth, health: Health, before: Health | None) -> Text:
    """Return the traffic into the link since the sample before, bit/s there / back."""
    old = next((each for each in before.links if each.name == link.name), None) if before else None
    if before is None or old is None or (seconds := health.taken_at - before.taken_at) <= 0:
        return Text("-", style="dim")
    bps = [max(0, d.sent_bytes - old.directions[n].sent_bytes) * 8 / seconds for n, d in link.directions.items()]
    return Text(" / ".join(rate(round(float(f"{b:.3g}"))) if b >= 1 else "0" for b in bps))


def _lease(lease: LeaseHealth, health: Health) -> Text:
    boards = "all boards" if len(lease.boards) == len(health.boards) else ", ".join(lease.boards)
    who = f"{boards}: {lease.holder} on {lease.host}"
    if lease.position:
        line = Text(f"queue {lease.position}  {who} waits", style="yellow")
    elif lease.expires and lease.by_person:
        line = Text(f"lease {lease.id}  {who}, until {lease.expires:%H:%M:%S} UTC")
    else:
        line = Text(f"lease {lease.id}  {who}, while it runs")
    return line.append(f"  ({lease.purpose})" if lease.purpose else "", style="dim")
