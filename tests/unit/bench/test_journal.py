"""The journal of a bench: who did what when, bounded, and what a run makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.bench import journal as module
from hil.bench.carrier_watch import JournalPart
from hil.bench.journal import Journal, JournalSink
from hil.errors import BenchError
from hil.evidence.events import BoardPower, LinkCommanded, LinkCut
from hil.testing.fakes import ListSink


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("HIL_HOME", str(tmp_path))
    return Journal("six")


def by_another(journal: Journal, verb: str, about: str = "", what: str = "", forced: str = "") -> None:
    """Write as another process would."""
    journal.note(verb, about, what, forced=forced)
    lines = journal.path.read_text().splitlines()
    last = json.loads(lines[-1]) | {"process": "1:1", "who": "bob", "program": "hil board power b3 cut"}
    journal.path.write_text("".join(line + "\n" for line in [*lines[:-1], json.dumps(last)]))


def test_what_is_done_to_links_and_power_goes_into_journal_and_evidence(journal: Journal) -> None:
    evidence = ListSink()
    sink = JournalSink(evidence, journal)
    for event in (BoardPower("b3", "cut"), LinkCut("isl-ab", "test"), LinkCommanded("ground", {"loss_ppm": 10})):
        sink.emit(event)
    assert [(e.verb, e.about, e.what) for e in journal.entries()] == [
        ("power", "b3", "cut"),
        ("link", "isl-ab", "cut test"),
        ("link", "ground", "set a to b: loss_ppm=10"),
    ]
    assert len(evidence.events) == 3
    assert (off := journal.power_off("b3")) is not None and off.what == "cut"
    sink.emit(BoardPower("b3", "on"))
    assert journal.power_off("b3") is None is journal.power_off("a1")


def test_it_is_bounded_and_damaged_lines_are_left_out(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 2000)
    for number in range(40):
        journal.note("push", "a1", f"file {number} \x1b[31m" + "x" * 1000)
    assert sum(path.stat().st_size for path in journal.path.parent.iterdir()) <= 2 * 2000
    with journal.path.open("a") as file:
        file.write('{"half\n[1]\n{"mono_s": "x"}\n')
    entries = journal.entries()
    assert 1 < len(entries) < 10 and "\x1b" not in str(entries[-1]) and entries[-1].what.startswith("file 39")
    assert journal.entries(last=1) == entries[-1:] and journal.entries(last=0) == []


def test_a_journal_that_cannot_be_written_stops_nobody(journal: Journal) -> None:
    journal.path.parent.write_text("no folder")
    journal.note("push", "a1")
    assert journal.entries() == []


def test_a_run_learns_of_every_change_by_another_hand_and_of_a_board_that_is_off(journal: Journal) -> None:
    journal.note("power", "a1", "cut")  # before the run
    told: list[tuple[str, str]] = []
    part = JournalPart(journal, lambda what, how: told.append((what, how)))
    journal.note("power", "b2", "cut")  # its own
    journal.note("shell", "b2", "uptime")
    part.look()
    assert told == []
    by_another(journal, "shell", "b2", "uptime")
    by_another(journal, "power", "b3", "cut")
    with pytest.raises(BenchError, match=r"b3 is off since .* UTC, switched off by bob \(hil board power b3 cut\)"):
        part.look()
    by_another(journal, "power", "b3", "on")
    by_another(journal, "bench", "", "take it down", forced="a1 is held by anna")
    part.look()
    assert [part for part, _ in told] == ["board b3", "board b3", "the bench"]
    assert "by force: a1 is held by anna" in told[-1][1]


def test_what_is_done_to_another_tenants_boards_is_no_business_of_a_run(journal: Journal) -> None:
    told: list[tuple[str, str]] = []
    part = JournalPart(journal, lambda what, how: told.append((what, how)), frozenset({"b2"}))
    by_another(journal, "power", "b2", "cut")
    part.look()
    assert not told
