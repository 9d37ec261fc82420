"""The live view: it fits every terminal, shows what matters first, and ends when it should."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hil.bench.state import Step
from hil.cli.app import run
from hil.cli.bench.heat_history import HeatHistory
from hil.cli.bench.watch import BenchPage
from hil.cli.bench.watch_columns import LEAST_ROWS, _heat, frame, share
from hil.cli.live import show
from hil.evidence.twin import BoardHeat, TwinSample
from hil.monitor.bench_health import Health, LeaseHealth
from hil.monitor.watch_loop import Sample
from tests.kits.fake_bench import board_health, health, link_health, pretend_up

BOARDS = tuple(board_health(f"b{n:02d}", spacecraft=f"sc-{n // 4}") for n in range(40))
LINKS = tuple(link_health(f"isl-{n:02d}", phase="track", phase_left_s=300.0 + n) for n in range(18))
LEASE = LeaseHealth(3, ("b00", "b01"), "anna", "lab", "thermal run", 0, datetime(2026, 3, 1, 12, tzinfo=UTC), True)
STEP = Step("r1", "six-gpu", "upload", "the upload arrives", 2, "2023-11-14T22:12:00+00:00")
LARGE = health(boards=BOARDS, links=LINKS, leases=(LEASE,), step=STEP, problems=("the lease store: busy",))


def drawn(found: Health, width: int = 200, height: int | None = None, before: Health | None = None) -> str:
    paper = io.StringIO()
    console = Console(file=paper, width=width, height=height or 500, color_system=None)
    console.print(frame(found, width=width, height=height, before=before))
    return paper.getvalue()


@pytest.mark.parametrize(("width", "height"), [(200, 80), (120, 40), (80, 24), (46, 20), (30, 24)])
def test_a_large_bench_fits_the_terminal(width: int, height: int) -> None:
    lines = drawn(LARGE, width, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "b00" in "".join(lines) and "isl-00" in "".join(lines)


def test_without_a_limit_everything_is_there() -> None:
    text = drawn(LARGE)
    assert all(board.name in text for board in BOARDS) and all(link.name in text for link in LINKS)
    for words in (
        "bench six  lab virtual  up 13 min 20 s  22:13:20 UTC",
        "campaign six-gpu  upload: the upload arrives  1 min 20 s  attempt 2  run r1",
        "! the lease store: busy",
        "lease 3  b00, b01: anna on lab, until 12:00:00 UTC  (thermal run)",
        "track 5 min 17 s",
        "14.386 ms",
        "200 Mbit/s",
    ):
        assert words in text


def test_what_wants_attention_is_shown_first_when_not_everything_fits() -> None:
    sick = board_health("b39", reachable=False, node=None, sensors=None, problems=("the sensors: no answer",))
    cut = link_health("isl-17", cut=True, up=False)
    text = drawn(replace(LARGE, boards=(*BOARDS[:-1], sick), links=(*LINKS[:-1], cut)), 120, 24)
    assert re.search(r"b39 .* silent .*the sensors: no answer", text)
    assert re.search(r"isl-17 .* cut ", text)
    assert len(re.findall(r"… and \d+ more", text)) == 2


def test_a_narrow_terminal_loses_columns_and_keeps_names_and_states() -> None:
    wide, narrow = drawn(health(), 120), drawn(health(), 34)
    assert "GPU %" in wide and "between" in wide
    assert "GPU %" not in narrow and "between" not in narrow
    assert re.search(r"^a1 +up +A", narrow, re.MULTILINE)
    assert re.search(r"^isl-ab +up ", narrow, re.MULTILINE)


def test_states_of_boards_and_slots_are_told_apart() -> None:
    trial = {
        "A": replace(BOARDS[0].slots["A"], running=False),
        "B": replace(BOARDS[0].slots["B"], running=True, confirmed=False),
    }
    text = drawn(
        health(
            boards=(
                board_health("p0", power=None, reachable=False, node=None, slots={}),
                board_health("p1", power="off", reachable=False, node=None, sensors=None),
                board_health("p2", reachable=False, node=None),
                board_health("p3", node=None, slots=trial),
            )
        )
    )
    for name, state, slot in (("p0", "?", "-"), ("p1", "off", "A"), ("p2", "silent", "A"), ("p3", "up", "B trial → A")):
        assert re.search(rf"^{name} +sc-a +{re.escape(state)} +{slot}", text, re.MULTILINE), text


def test_a_kernel_that_does_not_do_what_is_commanded_is_seen() -> None:
    assert "kernel differs" in drawn(health(links=(link_health("x", both={"agrees": False}),)))


def test_traffic_is_what_went_into_a_link_since_the_look_before() -> None:
    before = health(links=(link_health("x", both={"sent_bytes": 1_000_000}),))
    after = health(links=(link_health("x", both={"sent_bytes": 3_500_000}),), taken_at=before.taken_at + 2)
    assert "10 Mbit/s / 10 Mbit/s" in drawn(after, before=before)
    assert "0 / 0" in drawn(replace(before, taken_at=after.taken_at), before=before)


def test_text_from_outside_is_not_taken_for_markup() -> None:
    assert "[bold]x[/nonsense]" in drawn(health(problems=("[bold]x[/nonsense]",)))


@given(st.integers(-5, 200), st.lists(st.integers(0, 60), min_size=1, max_size=5))
def test_rows_are_divided_so_that_small_sections_are_whole(room: int, wants: list[int]) -> None:
    given_ = share(room, wants)
    assert all(
        least <= got <= want
        for least, got, want in zip((min(want, LEAST_ROWS) for want in wants), given_, wants, strict=True)
    )
    if sum(wants) <= room:
        assert given_ == wants
    elif room >= LEAST_ROWS * len(wants):
        assert sum(given_) <= room


class Keyboard:
    """Keys that come one by one; time does not pass."""

    def __init__(self, *typed: str) -> None:
        self.typed = list(typed)
        self.asked = 0

    def __call__(self, timeout_s: float) -> str:
        self.asked += 1
        assert self.asked < 1000, "it never ended"
        return self.typed.pop(0) if self.typed else ""


class Screen:
    """A terminal, and what was written on it."""

    def __init__(self) -> None:
        self.paper = io.StringIO()
        self.console = Console(file=self.paper, force_terminal=True, width=100, height=30)

    @property
    def text(self) -> str:
        return self.paper.getvalue()


def test_q_ends_the_live_view_and_the_terminal_is_as_before() -> None:
    screen = Screen()
    assert (
        show(lambda: Sample(1, 0.0, health()), BenchPage(screen.console), screen.console, Keyboard("", "x", "q"))
        is False
    )
    assert screen.text.count("\x1b[?1049h") == screen.text.count("\x1b[?1049l") == 1
    assert "\x1b[2J" not in screen.text, "clearing the screen between frames flickers"


def test_a_look_is_drawn_once_however_often_keys_are_asked_for() -> None:
    screen = Screen()
    show(lambda: Sample(1, 0.0, health()), BenchPage(screen.console), screen.console, Keyboard(*[""] * 50, "q"))
    assert screen.text.count("isl-ab") == 1


def test_the_live_view_ends_when_the_bench_goes_down() -> None:
    samples = [None, Sample(1, 0.0, health()), Sample(2, 1.0, None)]
    console = Screen().console
    assert show(lambda: samples.pop(0) if samples[1:] else samples[0], BenchPage(console), console, Keyboard())


def test_a_look_that_failed_is_told_and_watched_on() -> None:
    screen = Screen()
    samples = [Sample(1, 0.0, None, "no way in"), Sample(2, 1.0, health())]
    keyboard = Keyboard(*[""] * 5, "q")
    page = BenchPage(screen.console)
    assert not show(lambda: samples.pop(0) if samples[1:] else samples[0], page, screen.console, keyboard)
    assert "no answer from the bench: no way in" in screen.text and "isl-ab" in screen.text


@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_RUN", str(tmp_path))
    bench = SimpleNamespace(close=lambda: None)
    monkeypatch.setattr("hil.bench.bench.Bench.attach", lambda name: bench)
    monkeypatch.setattr("hil.monitor.bench_watch.snapshot", lambda bench: LARGE)


def test_once_prints_one_plain_frame(up: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pretend_up("six"):
        assert run(["bench", "watch", "--once"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text and "b39" in text and "isl-17" in text
    assert all(line == line.rstrip() for line in text.splitlines())


def test_json_has_everything(up: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pretend_up("six"):
        assert run(["bench", "watch", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["boards"]) == 40 and document["step"]["plan"] == "six-gpu"


def test_the_live_view_needs_a_terminal_and_a_bench(up: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "watch", "six"]) == 2
    assert "no bench six is up" in capsys.readouterr().err
    with pretend_up("six"):
        assert run(["bench", "watch"]) == 2
        assert "--once" in capsys.readouterr().err
        assert run(["bench", "watch", "--every", "0.1s"]) == 2
        assert run(["bench", "watch", "--every", "soon"]) == 2


def test_heat_has_a_line_per_spacecraft() -> None:
    hot = BoardHeat(99.2, 25.0, 1.0, 0.9, "heat")
    off = BoardHeat(40.0, 0.0, 0.0, 1.0, "power", on=False)
    sample = TwinSample("sc-a", 60.0, 0.0, 45.0, 0.8, boards={"a1": hot, "a2": off})
    text = _heat(sample).plain
    assert text == "sc-a  eclipse  battery 80%  radiator 45 °C  a1 99 °C 25 W 100% heat  a2 off power"


def warm(second: int) -> Health:
    """Return a bench that warms up: eclipse from 20 s, the crosslink cut at 30 s, throttled from 40, b1 off from 50."""
    heat = "heat" if second >= 40 else "compute"
    a1 = BoardHeat(50.0 + second, 20.0, 0.98, 0.7 if second >= 40 else 1.0, heat)
    crafts = (
        TwinSample("sc-a", boards={"a1": a1}, sunlit=float(second < 20)),
        TwinSample("sc-b", boards={"b1": BoardHeat(40.0, on=second < 50)}),
    )
    links = (link_health("isl-ab", cut=second == 30),)
    return replace(health(links=links), heat=crafts, taken_at=1_700_000_000.0 + second)


def test_heat_power_load_eclipse_and_faults_are_on_one_time_axis() -> None:
    history = HeatHistory()
    for second in range(60):
        history.add(warm(second))
    lines = [line.plain for line in history.lines(width=92, room=11)]
    assert lines[0].startswith("the last 59 s; × a board without power")
    rising = "".join("▁▂▃▄▅▆▇█"[round(n / 59 * 7)] for n in range(60))
    assert lines[1] == f"{'sc-a':<7}{'°C':<7}{rising}  50 to 109"
    assert [line[:14].split() for line in lines[2:6]] == [["W"], ["%", "busy"], ["%", "clock"], []]
    assert lines[4].endswith("70 to 100")
    assert lines[5][14:] == 20 * " " + 10 * "▒" + "~" + 9 * "▒" + 20 * "!"
    assert lines[10][14:] == 30 * " " + "~" + 19 * " " + 10 * "×"
    assert history.lines(width=92, room=5) == [] and len(history.lines(width=92, room=9)) == 6
    for second in range(60, 400):
        history.add(warm(second))
    assert max(len(line.plain) for line in history.lines(width=92, room=11)[1:]) <= 92


def test_the_history_takes_only_the_rows_that_are_left() -> None:
    history = HeatHistory()
    for second in range(60):
        history.add(warm(second))
    for height in (12, 20, 24, 30, 40):
        paper = io.StringIO()
        console = Console(file=paper, width=100, height=height, color_system=None)
        console.print(frame(warm(59), width=100, height=height, history=history))
        lines = paper.getvalue().splitlines()
        assert len(lines) <= height and max(map(len, lines)) <= 100
        assert any("% clock" in line for line in lines) == (height >= 20)
