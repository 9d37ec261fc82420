"""`hil board`: what it prints of one board and of several, as a page and as JSON, without a bench."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.boards.jetson.modules import sku_of
from hil.boards.jetson.remote_files import BoardFiles
from hil.boards.jetson.sensors import Reading, SysfsSensors
from hil.boards.protocol import BootState, Completed, Identity, PowerState, SlotState
from hil.boards.ssh.transfer import Transferred
from hil.cli.app import run
from hil.cli.board.watch import BoardPage, SensorSample, SensorWatch, Spans, readable, remarks
from hil.errors import BenchError, DeviceError
from hil.monitor.watch_loop import Sample
from tests.kits.fake_bench import READINGS, FakeBoard, FakeShell, fake_bench
from tests.kits.jetson_files import AGX_JP6, LocalRemote, plant

WHO = Identity("NVIDIA Jetson AGX Orin Developer Kit", "1421", "boot-1", "A", "1.0.0", "4e8e")


class Shell(FakeShell):
    """Answers with its board's name; `false` fails, `gone` finds nobody."""

    def __init__(self, board: FakeBoard) -> None:
        super().__init__(board)
        self.name = board.name

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        if argv[0] == "gone" and self.name == "b1":
            raise DeviceError("b1 does not answer")
        code = 7 if argv[0] == "false" and self.name == "a2" else 0
        return Completed(tuple(argv), code, f"here is {self.name}\nand again\n", "no\n" if code else "")

    def stream(self, argv: Sequence[str], *, out: Any, err: Any, **_: Any) -> int:
        done = self.run(argv)
        out(done.stdout.encode())
        err(done.stderr.encode())
        return done.returncode

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass
class OneBoard(FakeBoard):
    """A board with all its parts."""

    verbs: list[str] = field(default_factory=list)
    active: Any = "A"

    @property
    def console(self) -> Any:
        return SimpleNamespace(url="/dev/pts/7", log=Path("/logs/a1.console.log"))

    @property
    def boot(self) -> Any:
        return self.Boot(self)

    @dataclass
    class Boot:
        board: OneBoard

        def state(self) -> BootState:
            if self.board.power is PowerState.OFF:
                raise BenchError("a board that is off tells no slots")
            slots = (SlotState("A", True, 3, True), SlotState("B", False, 0, False))
            return BootState("A", self.board.active, slots)

        def set_active(self, slot: Any) -> None:
            self.board.active = slot

    def shell(self, via: Any = None) -> FakeShell:
        self.shells.append(Shell(self))
        return self.shells[-1]

    def identity(self) -> Identity:
        return WHO

    def sensors(self) -> dict[str, float]:
        if isinstance(self.readings, Exception):
            raise self.readings
        return self.readings

    def reset(self) -> None:
        self.verbs.append("reset")

    def on(self) -> None:
        self.verbs.append("on")
        self.power = PowerState.ON

    def wait_booted(self) -> Identity:
        self.verbs.append("wait")
        return WHO


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, OneBoard]]:
    """The boards of a bench that commands take for the one that is up."""
    monkeypatch.setenv("HIL_BENCH", "six")
    with fake_bench(tmp_path) as bench:
        made = {name: OneBoard(name, one.spacecraft) for name, one in bench.boards.items()}
        bench.boards = dict(made)
        monkeypatch.setattr("hil.bench.bench.Bench.attach", lambda name: bench)
        yield made


def data(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert run(["board", *argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_show_has_everything_about_a_board(boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["board", "show", "a1"]) == 0
    page = capsys.readouterr().out
    for words in ("p3701-0005", "1421", "1.0.0 from slot A", "4e8e", "/dev/pts/7", "127.0.0.1", "41.5 °C"):
        assert words in page
    document = data(capsys, "show", "a1")
    assert document["identity"]["boot_id"] == "boot-1" and document["sensors"] == READINGS
    assert document["driver"] == "container" and document["console"]["log"] == "/logs/a1.console.log"
    assert [slot["slot"] for slot in document["slots"]] == ["A", "B"]


def test_a_board_that_is_off_is_shown_without_being_asked_what_it_cannot_tell(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str]
) -> None:
    boards["a1"].power = PowerState.OFF
    document = data(capsys, "show", "a1")
    assert (document["power"], document["identity"], document["sensors"]) == ("off", None, None)
    assert document["slots"] == [] and document["problems"] == []


def test_a_part_that_does_not_answer_is_a_note_and_the_rest_is_shown(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str]
) -> None:
    boards["a1"].readings = DeviceError("tegrastats is gone")
    assert run(["board", "show", "a1"]) == 0
    said = capsys.readouterr()
    assert "1.0.0 from slot A" in said.out and "tegrastats is gone" in said.err


def test_slots_are_shown_and_the_next_one_is_chosen(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["board", "slots", "a1"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1:] == [["A", "yes", "yes", "yes", "3", "yes"], ["B", "-", "-", "NO", "0", "-"]]
    document = data(capsys, "slots", "a1", "--next", "B")
    assert (document["running"], document["active"]) == ("A", "B")
    assert boards["a1"].active == "B" and boards["a2"].active == "A"


def test_reset_waits_for_the_os_when_told_to(boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str]) -> None:
    assert data(capsys, "power", "b1", "reset") == {"name": "b1", "power": "on"}
    assert data(capsys, "power", "b1", "reset", "--until-booted")["boot_id"] == "boot-1"
    assert boards["b1"].verbs == ["reset", "reset", "wait"]
    assert run(["board", "power", "b1", "on", "--until-booted"]) == 0
    assert capsys.readouterr().out == "b1: on\nb1: runs 1.0.0 from slot A\n"


def test_a_command_runs_on_all_boards_or_on_those_named(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["board", "run", "all", "--", "hostname"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"a1: here is a1", "a1: and again"} < {*lines} and len(lines) == 12
    assert run(["board", "run", "b2,a1,b2", "--", "hostname"]) == 0
    assert sorted(line[:2] for line in capsys.readouterr().out.splitlines()) == ["a1", "a1", "b2", "b2"]
    assert all(shell.closed for board in boards.values() for shell in board.shells)
    assert run(["board", "run", "a1,zz", "--", "hostname"]) == 2
    assert "a1, a2, a3, b1, b2, b3" in capsys.readouterr().err


def test_a_command_that_fails_on_one_board_is_1_and_a_board_that_is_not_reached_is_3(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["board", "run", "all", "--", "false"]) == 1
    said = capsys.readouterr()
    assert "a2: exit code 7" in said.err and "a2: no" in said.err and "a1: here is a1" in said.out
    assert run(["board", "run", "all", "--json", "--", "gone"]) == 3
    rows = {row["board"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["b1"]["problem"] == "b1 does not answer" and rows["b1"]["exit_code"] is None
    assert rows["a1"]["exit_code"] == 0


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("tj_c", 53.06, ("tj", "53.1 °C")),
        ("vdd_gpu_soc_mw", 3200.0, ("vdd gpu soc", "3.20 W")),
        ("gpu_load_percent", 84.3, ("gpu load", "84 %")),
        ("gpu_mhz", 1300.5, ("gpu clock", "1300 MHz")),
        ("ram_used_mb", 100.0, ("ram used", "100 MB")),
        ("fans", 2.0, ("fans", "2")),
    ],
)
def test_readings_are_written_with_their_unit(name: str, value: float, text: tuple[str, str]) -> None:
    assert readable(name, value) == text


def test_watch_looks_once_as_a_page_or_as_json(boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["board", "watch", "a1", "--once"]) == 0
    page = capsys.readouterr().out
    assert page.splitlines()[1].split() == ["tj", "41.5", "°C"] and "5.20 W" in page
    assert "throttled: unknown on this board" in page
    document = data(capsys, "watch", "a1", "--once")
    assert document["sensors"] == READINGS and document["throttled_by"] is None
    assert all(shell.closed for shell in boards["a1"].shells)


def test_watch_goes_on_line_by_line_through_a_board_that_does_not_answer(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        boards["a1"].readings = DeviceError("it reboots") if len(naps) == 1 else dict(READINGS)
        if len(naps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("hil.cli.board.watch.time.sleep", nap)
    assert run(["board", "watch", "a1", "--json", "--every", "2s"]) == 0
    said = capsys.readouterr()
    assert [json.loads(line)["sensors"]["tj_c"] for line in said.out.splitlines()] == [41.5, 41.5]
    assert "note: it reboots" in said.err and 1 < naps[0] <= 2
    assert len(boards["a1"].shells) == 3  # one session until it broke, another at once, and one more


def test_watch_refuses_to_look_so_often_that_it_would_see_itself(boards: dict[str, OneBoard]) -> None:
    assert run(["board", "watch", "a1", "--every", "0.1s"]) == 2


class Orin(OneBoard):
    """A board whose sysfs is a tree of files."""

    tree: Path
    breaks = 0

    def reading_over(self, shell: object) -> Reading:
        if self.breaks:
            self.breaks -= 1
            raise DeviceError("the connection broke") from OSError("gone")
        return SysfsSensors(BoardFiles(LocalRemote(), str(self.tree)), sku_of("p3701-0005")).read()


def test_a_jetson_tells_what_throttles_it_and_its_over_current_events_since_the_first_look(tmp_path: Path) -> None:
    board = Orin("b1")
    board.tree = plant(tmp_path, AGX_JP6)
    with SensorWatch(board) as eye:  # type: ignore[arg-type]  # the parts of a board that are looked at
        first = eye.sample()
        assert first.throttled_by == () and first.sensors["tj_c"] == 53.062
        assert remarks(first) == ["throttled: no", "without power: cv0"]
        (tmp_path / "sys/class/hwmon/hwmon5/oc3_event_cnt").write_text("32\n")
        (tmp_path / "sys/class/thermal/cooling_device2/cur_state").write_text("1\n")
        later = eye.sample()
    assert later.throttled_by == ("gpu-throttle-alert",)
    assert "over-current events since the first reading: oc3: 2" in remarks(later)
    assert len(board.shells) == 1 and board.shells[0].closed


def test_a_stand_in_whose_sysfs_is_another_machines_is_read_by_its_other_source(tmp_path: Path) -> None:
    board = Orin("b1")
    board.tree = tmp_path  # nothing there
    with SensorWatch(board) as eye:  # type: ignore[arg-type]  # the parts of a board that are looked at
        assert [eye.sample().sensors for _ in range(2)] == [READINGS, READINGS]


def test_a_first_look_whose_session_breaks_is_an_error_and_the_next_one_has_everything(tmp_path: Path) -> None:
    board = Orin("b1")
    board.tree = plant(tmp_path, AGX_JP6)
    board.breaks = 1
    with SensorWatch(board) as eye:  # type: ignore[arg-type]  # the parts of a board that are looked at
        with pytest.raises(DeviceError):
            eye.sample()
        assert eye.sample().throttled_by == ()


def test_the_picture_has_lowest_and_highest_and_keeps_what_is_silent_now() -> None:
    from rich.console import Console

    spans = Spans()
    looks = [
        SensorSample(0.0, {"tj_c": 40.0, "gpu_mhz": 900.0}),
        SensorSample(1.0, {"tj_c": 50.0}),
        SensorSample(2.0, {"tj_c": 45.0}),
    ]
    for look in looks:
        spans.take(look)
    assert spans.rows(looks[-1]) == [("tj", "45.0 °C", "40.0 °C", "50.0 °C"), ("gpu clock", "-", "900 MHz", "900 MHz")]
    console = Console(width=80, color_system=None)
    page = BoardPage("b1")
    with console.capture() as capture:
        console.print(page(Sample(1, 0.0, None, "no answer yet")))
    assert "! no answer yet" in capture.get()
    page(Sample(2, 1.0, replace(looks[-1], throttled_by=("cpu-alert",))))
    with console.capture() as capture:
        console.print(page(Sample(3, 2.0, None, "no answer")))
    text = capture.get()
    assert "throttled: cpu-alert" in text and "45.0 °C" in text
    assert "! no answer" in text and "q ends it" in text


TITLE = "\x1b]0;owned\x07"
"""What sets the title of a terminal's window."""


@pytest.mark.parametrize("target", ["a1", "all"])
def test_an_os_version_reaches_no_terminal_as_a_control_sequence(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    monkeypatch.setattr(OneBoard, "wait_booted", lambda _board: replace(WHO, os_version=f"1{TITLE}"))
    assert run(["board", "power", target, "reset", "--until-booted"]) == 0
    said = capsys.readouterr().out
    assert "a1: runs 1\ufffd]0;owned\ufffd from slot A" in said
    assert "\x1b" not in said


def test_a_name_of_a_sensor_reaches_no_terminal_as_a_control_sequence_or_as_markup() -> None:
    from rich.console import Console

    named = SensorSample(0.0, {f"{TITLE}_c": 40.0, f"[/x]{TITLE}": 1.0}, (TITLE,), {TITLE: 1}, (TITLE,), (TITLE,))
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(BoardPage("b1")(Sample(1, 0.0, named)))
    page = capture.get()
    assert "\x1b" not in page + "".join(remarks(named))
    assert "[/x]" in page and page.count("owned") == 6


def test_qualify_prints_the_page_or_the_whole_document(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = SimpleNamespace(outcome="FAIL", name="reset", said=f"it stayed down{TITLE}", remedy="look at its supply")
    found = SimpleNamespace(
        outcome="FAIL", checks=[failed], notes=["no TNSPEC"], document=lambda: {"board": "a1", "outcome": "FAIL"}
    )
    monkeypatch.setattr("hil.boards.qualification.qualify", lambda *_, **__: found)
    monkeypatch.setattr("hil.report.qualification.write_qualification", lambda *_: Path("/out/a1.html"))
    assert run(["board", "qualify", "a1", "--by", "A. Technician"]) == 1
    page = capsys.readouterr().out
    shown = TITLE.replace("\x1b", "\ufffd").replace("\x07", "\ufffd")
    assert f"FAIL: reset: it stayed down{shown}\n  remedy: look at its supply\nnote: no TNSPEC" in page
    assert "page to sign: /out/a1.html" in page
    assert run(["board", "qualify", "a1", "--by", "A. Technician", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"board": "a1", "outcome": "FAIL", "page": "/out/a1.html"}


def test_what_a_command_says_is_kept_for_json_up_to_a_bound_and_then_it_is_ended(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def flood(_shell: Shell, argv: object, *, out: Any, err: Any, stop: Callable[[], bool], **_more: Any) -> None:
        for _ in range(30):
            if not stop():
                out(b"y" * 2_000_000)
        err(b"interrupted")
        return None

    monkeypatch.setattr(Shell, "stream", flood)
    assert run(["board", "run", "a1", "--json", "--", "yes"]) == 3
    (row,) = json.loads(capsys.readouterr().out)
    assert (len(row["stdout"]), row["stderr"]) == (16 << 20, "")
    assert row["problem"] == "said 16 MiB and was ended"


def test_times_are_for_the_log_of_a_console(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["board", "console", "a1", "--stamps"]) == 2
    assert "hil board console a1 --follow --stamps" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("sc-b", ["b1", "b2", "b3"]),
        ("a*", ["a1", "a2", "a3"]),
        ("b2,a1,b*", ["a1", "b1", "b2", "b3"]),
        ("sc-?", ["a1", "a2", "a3", "b1", "b2", "b3"]),
        ("all", ["a1", "a2", "a3", "b1", "b2", "b3"]),
    ],
)
def test_a_command_takes_spacecraft_patterns_and_all(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str], target: str, meant: list[str]
) -> None:
    rows = data(capsys, "power", target, "reset", "--until-booted")
    assert [row["name"] for row in rows] == meant
    assert [name for name, one in boards.items() if one.verbs == ["reset", "wait"]] == meant
    assert [row["name"] for row in data(capsys, "slots", target)] == meant
    assert run(["board", "run", target, "--json", "--", "true"]) == 0
    assert [row["board"] for row in json.loads(capsys.readouterr().out)] == meant


def test_each_board_has_a_line_and_the_worst_exit_code_counts(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str]
) -> None:
    boards["b2"].power = DeviceError("the switch did not say what it did", remedy="look at it")
    assert run(["board", "power", "all", "state"]) == 1
    said = capsys.readouterr()
    assert sorted(said.out.splitlines()) == [f"{name}: on" for name in boards if name != "b2"]
    assert said.err.startswith("b2: error (device under test): the switch did not say what it did\n  remedy: look")
    boards["a1"].power = BenchError("no strip")
    assert run(["board", "power", "a1,b2,b3", "state", "--json"]) == 3
    rows = json.loads(capsys.readouterr().out)
    assert [row.get("error", {}).get("exit_code", 0) for row in rows] == [3, 1, 0]


def test_a_word_that_fits_no_board_is_refused(boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["board", "power", "a1,zz", "cut"]) == 2
    assert "no board 'zz'" in (said := capsys.readouterr().err) and "spacecraft: sc-a, sc-b" in said
    assert not any(one.verbs for one in boards.values())


def test_a_folder_goes_to_several_boards(
    boards: dict[str, OneBoard], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[tuple[str, Path, str]] = []

    def push(opener: Any, local: Path, remote: str, **_: Any) -> Transferred:
        copied.append((opener, local, remote))
        return Transferred(10, 10, 1)

    monkeypatch.setattr("hil.boards.ssh.transfer.opener_of", lambda board: board.name)
    monkeypatch.setattr("hil.boards.ssh.transfer.push", push)
    assert run(["board", "push", "sc-a", str(tmp_path), "/data/app"]) == 0
    assert sorted(copied) == [(name, tmp_path, "/data/app") for name in ("a1", "a2", "a3")]
    assert "a2: /data/app: 10 bytes, digest compared" in capsys.readouterr().out
