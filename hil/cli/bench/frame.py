"""One frame of `hil bench watch`: a picture of a bench that fits the terminal it is drawn on.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hil.cli.output import delay, rate
from hil.leases.rules import span
from hil.monitor.health import BoardHealth, Health, LinkHealth

T = TypeVar("T")

GAP = 2
LEAST_ROWS = 3
"""So many rows of a section are shown at least, however low the terminal is."""


@dataclass(frozen=True)
class Column:
    """One column; those with a higher ``rank`` go first when the terminal is narrow, 0 never."""

    title: str
    cells: list[Text]
    rank: int
    right: bool = False

    @property
    def width(self) -> int:
        return max(len(self.title), *(cell.cell_len for cell in self.cells))


def frame(
    health: Health, *, width: int, height: int | None = None, before: Health | None = None
) -> RenderableType:
    """The picture, ``width`` columns wide and at most ``height`` rows high (None: as high as it takes).

    ``before`` is the look before, from which the traffic of now follows.  What wants attention comes first when
    not everything fits.
    """
    top = [_title(health), *_campaign(health), *(Text(f"! {p}", style="red") for p in health.problems)]
    leases = _leases(health)
    boards, links = list(health.boards), list(health.links)
    wants = [len(boards), len(links), len(leases)]
    # Every section has a row of titles and a blank row before it, the leases only the blank row.
    room = wants if height is None else share(height - len(top) - 5, wants)
    parts: list[RenderableType] = [*top, Text("")]
    shown, rest = _first(boards, room[0], [b.wants_attention for b in boards])
    parts += [fitting(_board_columns(shown), width), *rest, Text("")]
    if links:
        shown_links, rest = _first(links, room[1], [link.cut or not link.agrees for link in links])
        parts += [fitting(_link_columns(shown_links, health, before), width), *rest]
    if leases:
        shown_leases, rest = _first(leases, room[2], [False] * len(leases))
        parts += [Text(""), *shown_leases, *rest]
    for part in parts:
        if isinstance(part, Text):
            part.no_wrap, part.overflow = True, "ellipsis"
    return Group(*parts)


def share(room: int, wants: Sequence[int]) -> list[int]:
    """Divide ``room`` rows: whoever wants little gets it all, the others divide the rest evenly."""
    given = [0] * len(wants)
    left, waiting = room, sorted(range(len(wants)), key=lambda i: wants[i])
    for done, index in enumerate(waiting):
        fair = max(LEAST_ROWS, left // (len(waiting) - done))
        given[index] = min(wants[index], fair)
        left -= given[index]
    return given


def fitting(columns: Sequence[Column], width: int) -> Table:
    """As many columns as fit, the least important ones left out; what is still too wide is cut with an ellipsis."""
    kept = list(columns)
    while sum(c.width + GAP for c in kept) - GAP > width and any(c.rank for c in kept):
        kept.remove(max(kept, key=lambda column: column.rank))
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in kept:
        table.add_column(
            column.title, justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis"
        )
    for row in zip(*(column.cells for column in kept), strict=True):
        table.add_row(*row)
    return table


def _first(items: list[T], room: int, urgent: list[bool]) -> tuple[list[T], list[Text]]:
    """The items that fit, those that want attention before the others, and a line about the rest."""
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


def _board_columns(boards: Sequence[BoardHealth]) -> list[Column]:
    def number(value: float | None, pattern: str) -> Text:
        return Text("-" if value is None else pattern.format(value), style="dim" if value is None else "")

    readings = [board.sensors for board in boards]
    notes = [_note(board) for board in boards]
    columns = [
        Column("board", [Text(b.name) for b in boards], 0),
        Column("craft", [Text(b.spacecraft) for b in boards], 7),
        Column("state", [_state(b) for b in boards], 0),
        Column("slot", [_slot(b) for b in boards], 0),
        Column("OS", [Text(b.os_version or "-") for b in boards], 5),
        Column("°C", [number(s.hottest_c if s else None, "{:.1f}") for s in readings], 1, True),
        Column("W", [number(s.board_w if s else None, "{:.1f}") for s in readings], 2, True),
        Column(
            "GPU %",
            [number(None if not s or s.gpu_load is None else 100 * s.gpu_load, "{:.0f}") for s in readings],
            3,
            True,
        ),
        Column("epoch", [number(b.node.claimed_epoch if b.node else None, "{}") for b in boards], 4, True),
        Column("kind", [Text(b.fidelity, style="dim") for b in boards], 9),
    ]
    if any(notes):
        columns.append(Column("note", notes, 0))
    return columns


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


def _note(board: BoardHealth) -> Text:
    ill = board.node.problems if board.node else ()
    return Text("; ".join((*ill, *board.problems)), style="yellow")


def _link_columns(links: Sequence[LinkHealth], health: Health, before: Health | None) -> list[Column]:
    there = [link.directions["a_to_b"] for link in links]
    traffic = [_traffic(link, health, before) for link in links]
    dropped = [sum(d.dropped_packets for d in link.directions.values()) for link in links]
    return [
        Column("link", [Text(link.name) for link in links], 0),
        Column("between", [Text(f"{d.source} – {d.target}") for d in there], 4),
        Column("state", [_link_state(link) for link in links], 0),
        Column("phase", [_phase(link) for link in links], 1),
        Column("one way", [_per_direction(link, "delay_s") for link in links], 2, True),
        Column("rate", [_per_direction(link, "rate_bps") for link in links], 5, True),
        Column("now", traffic, 3, True),
        Column("dropped", [Text(f"{count} pkt") for count in dropped], 6, True),
    ]


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


def _per_direction(link: LinkHealth, figure: str) -> Text:
    """One figure when both directions have the same, else there / back."""
    values = [getattr(direction, figure) for direction in link.directions.values()]
    texts = [delay(v * 1e6) if figure == "delay_s" else rate(v) for v in values]
    return Text(texts[0] if texts[0] == texts[1] else " / ".join(texts))


def _traffic(link: LinkHealth, health: Health, before: Health | None) -> Text:
    """What went into the link since the look before, bit/s there / back."""
    old = next((each for each in before.links if each.name == link.name), None) if before else None
    if before is None or old is None or (seconds := health.taken_at - before.taken_at) <= 0:
        return Text("-", style="dim")
    bps = [
        max(0, d.sent_bytes - old.directions[n].sent_bytes) * 8 / seconds for n, d in link.directions.items()
    ]
    return Text(" / ".join(rate(_three_digits(b)) if b >= 1 else "0" for b in bps))


def _three_digits(value: float) -> int:
    return round(float(f"{value:.3g}"))


def _leases(health: Health) -> list[Text]:
    lines = []
    for lease in health.leases:
        boards = "all boards" if len(lease.boards) == len(health.boards) else ", ".join(lease.boards)
        if lease.position:
            line = Text(
                f"queue {lease.position}  {boards}: {lease.holder} on {lease.host} waits", style="yellow"
            )
        else:
            until = (
                f"until {lease.expires:%H:%M:%S} UTC"
                if lease.expires and lease.by_person
                else "while it runs"
            )
            line = Text(f"lease {lease.id}  {boards}: {lease.holder} on {lease.host}, {until}")
        if lease.purpose:
            line.append(f"  ({lease.purpose})", style="dim")
        lines.append(line)
    return lines
