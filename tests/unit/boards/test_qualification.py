"""Bringing a board in: what the page says, and whose fault keeps it from saying PASS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from hil.boards.capabilities import Feature, needs
from hil.boards.conformance import BoardConformance
from hil.boards.protocol import Board, Completed, Identity, PowerState
from hil.boards.qualification import CYCLES, Check, Cycle, Outcome, Qualification, qualify
from hil.cli.output import Progress
from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.report.qualification import render, write_qualification

WHO = Identity("NVIDIA Jetson AGX Orin Developer Kit", "142", "b" * 36, "A", "22.04", "")


class FakeShell:
    def __init__(self, lacks: bool) -> None:
        self.lacks = lacks

    def __enter__(self) -> FakeShell:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def run(self, argv: list[str], *, check: bool) -> Completed:
        return Completed(tuple(argv), int(self.lacks and argv[-1] == "/data"), "", "")


class Board142:
    """Boots at once, prints one boot log, and fails whatever it is told to."""

    name, spacecraft, fidelity = "b1", "sc-b", "hardware"
    lacks_data = False

    def __init__(self, log: Path, failing: dict[str, BaseException]) -> None:
        self.log = log
        self.log.write_text("")
        self.failing = failing
        self.supervisor = self.console = self.boot = self

    def state(self) -> PowerState:
        return PowerState.ON

    def size(self) -> int:
        return self.log.stat().st_size

    def reset(self) -> None:
        with self.log.open("a") as file:
            file.write("[0000.062] I> MB1 (version: 1.4.0.4-t234-54845784-e89ea9bc)\n")

    def wait_booted(self, *, deadline_s: float = 0.0) -> Identity:
        return WHO

    def shell(self) -> FakeShell:
        return FakeShell(self.lacks_data)

    def identity(self) -> Identity:
        if "identity" in self.failing:
            raise self.failing["identity"]
        return WHO


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite of two checks instead of the real one."""
    for name in [name for name in vars(BoardConformance) if name.startswith("test_")]:
        monkeypatch.delattr(BoardConformance, name)

    def test_it_says_who_it_is(self: BoardConformance, board: Any) -> None:
        assert board.failing.get("claim") is None
        if "check" in board.failing:
            raise board.failing["check"]

    def test_files_come_and_go(self: BoardConformance, board: Any, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("x")

    for test in (test_it_says_who_it_is, test_files_come_and_go):
        monkeypatch.setattr(BoardConformance, test.__name__, test, raising=False)


def qualified(tmp_path: Path, only: tuple[str, ...] = (), /, **failing: BaseException) -> Qualification:
    board = cast(Board, Board142(tmp_path / "log", failing))
    return qualify(board, by="A. Technician", bench="lab", only=only, view=Progress())


@pytest.mark.parametrize(
    ("failing", "outcome", "said"),
    [
        ({}, "PASS", ""),
        ({"check": DeviceError("b1: it hangs")}, "FAIL", "b1: it hangs"),
        ({"claim": ValueError()}, "FAIL", "assert "),
        ({"check": BenchError("strip: HTTP 500", remedy="restart it")}, "INCONCLUSIVE", "strip: HTTP 500"),
        ({"check": RuntimeError("a bug")}, "INCONCLUSIVE", "RuntimeError: a bug"),
    ],
)
def test_only_the_board_itself_can_fail(
    suite: None, tmp_path: Path, failing: dict[str, Exception], outcome: Outcome, said: str
) -> None:
    found = qualified(tmp_path, **failing)
    assert found.outcome == outcome
    assert found.checks[0].said.startswith(said)
    assert found.checks[1].outcome == "PASS"
    assert [check.name for check in found.checks] == ["It says who it is", "Files come and go"]


def test_what_a_board_says_that_it_lacks_is_skipped_with_its_reason_and_does_not_count(
    monkeypatch: pytest.MonkeyPatch, suite: None, tmp_path: Path
) -> None:
    def test_it_has_slots(self: BoardConformance, board: Any) -> None:
        raise AssertionError("it was asked for what it lacks")

    marked = needs(Feature.SLOTS)(test_it_has_slots)
    monkeypatch.setattr(BoardConformance, "test_it_has_slots", marked, raising=False)
    reasons = {Feature.SLOTS: "one root file system", Feature.POWER: "no switch", Feature.CONSOLE: "no line"}
    monkeypatch.setattr(Board142, "lacks", reasons, raising=False)
    page = qualified(tmp_path)
    assert (page.outcome, page.cycles) == ("PASS", [])
    (skipped,) = [check for check in page.checks if check.outcome == "SKIPPED"]
    assert skipped.said == "board b1 has no slots: one root file system"
    assert {"no power: no switch", "no slots: one root file system"} <= set(page.notes)
    assert "one root file system" in render(page.document())


def test_firmware_versions_come_from_the_console_and_cycles_are_timed(suite: None, tmp_path: Path) -> None:
    document = qualified(tmp_path).document()
    assert document["firmware"] == {"MB1": "1.4.0.4-t234-54845784-e89ea9bc"}
    assert len(document["cycles"]) == CYCLES
    assert 0 <= document["boot_s_median"] <= document["boot_s_max"]


def test_checks_can_be_repeated_after_a_repair_and_alone_they_qualify_nothing(suite: None, tmp_path: Path) -> None:
    found = qualified(tmp_path, ("files COME",))
    assert [check.name for check in found.checks] == ["Files come and go"]
    assert found.outcome == "INCONCLUSIVE" and "only 1 of 2 checks" in found.notes[-1]
    assert qualified(tmp_path, ("says who",), claim=ValueError()).outcome == "FAIL"
    with pytest.raises(ConfigurationError, match="no check is about lasers") as error:
        qualified(tmp_path, ("lasers",))
    assert "Files come and go" in error.value.remedy


def test_ctrl_c_leaves_a_page_of_what_there_is_that_qualifies_nothing(suite: None, tmp_path: Path) -> None:
    found = qualified(tmp_path, check=KeyboardInterrupt())
    assert found.checks == [] and found.outcome == "INCONCLUSIVE"
    assert found.notes[-1] == "ended by A. Technician after 0 of 2 checks"


def test_files_go_where_a_power_cut_leaves_them_also_on_a_stock_os(
    suite: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, bool]] = []

    def test_files_come_and_go(self: BoardConformance, board: Any) -> None:
        seen.append((self.data_dir, self.stock_os))

    monkeypatch.setattr(BoardConformance, "test_files_come_and_go", test_files_come_and_go)
    qualified(tmp_path)
    monkeypatch.setattr(Board142, "lacks_data", True)
    qualified(tmp_path)
    assert seen == [("/data", True), ("/var/tmp", True)]


def test_the_page_says_how_the_board_is_wired() -> None:
    page = render(example(wiring={"power": "shelly-gen2 at 192.0.2.20 outlet 0"}).document())
    assert "How it is wired" in page and "192.0.2.20 outlet 0" in page
    assert "How it is wired" not in render(example().document())


def test_a_suite_that_did_not_run_qualifies_nothing() -> None:
    assert example(checks=[]).outcome == "INCONCLUSIVE"


def example(**changes: Any) -> Qualification:
    given: dict[str, Any] = {
        "board": "b1",
        "spacecraft": "sc-b",
        "fidelity": "hardware",
        "by": "<script>A. Technician</script>",
        "bench": "lab",
        "started_utc": "2026-11-23T06:00:00+00:00",
        "took_s": 31.2,
        "identity": {"model": WHO.model, "TNSPEC": ""},
        "firmware": {"L4T": "36.4.7"},
        "trips": [{"zone": "tj", "kind": "critical", "temp_c": 104.5}],
        "rails": ["vdd_in"],
        "notes": ["its OS cannot say which image it runs from"],
        "cycles": [Cycle(3.1, 41.0), Cycle(3.2, 43.5)],
        "checks": [Check("It boots", "PASS", 1.0), Check("It sleeps", "FAIL", 1.0, "no", "look at it")],
    }
    return Qualification(**(given | changes))


def test_the_page_names_everything_that_is_signed_for_and_escapes_it(tmp_path: Path) -> None:
    document = example().document()
    page = write_qualification(document, tmp_path / "new")
    text = page.read_text()
    for words in ("FAIL: qualification of b1", "104.5", "36.4.7", "42.25", "It sleeps", "look at it", "vdd_in"):
        assert words in text
    assert "<script>" not in text
    assert "TNSPEC" not in text  # what the board does not say has no row
    assert json.loads(page.with_suffix(".json").read_text()) == json.loads(json.dumps(document))
    assert page.name == "b1-20261123T060000Z.html"


def test_a_virtual_board_is_not_signed_for_as_hardware() -> None:
    assert "qualifies no hardware" in render(example(fidelity="virtual").document())
    assert "qualifies no hardware" not in render(example().document())
