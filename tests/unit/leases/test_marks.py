"""Marks on boards and the history of leases, as people type them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from hil.cli.app import run
from hil.errors import BenchError, ConfigurationError
from hil.leases.leases import Leases, LeaseTaken

BOARDS = ["six/a1", "six/a2"]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIL_LEASES", str(tmp_path / "leases.db"))
    monkeypatch.delenv("HIL_LEASE", raising=False)
    return tmp_path / "leases.db"


def test_a_board_that_is_out_of_service_is_refused_with_the_reason_until_it_is_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["board", "mark", "six/a1", "--out-of-service", "fan dead", "--as", "anna"]) == 0
    assert "NO: fan dead" in capsys.readouterr().out
    with pytest.raises(BenchError, match=r"six/a1 is out of service: fan dead \(anna, "):
        Leases().take(BOARDS, purpose="a campaign")
    assert run(["lease", "take", "six/a1", "--for", "test"]) == 3
    assert "hil board mark six/a1 --in-service" in capsys.readouterr().err
    assert Leases().list() == () == Leases().queue()
    assert run(["lease", "take", "six/a1", "--for", "new fan", "--out-of-service"]) == 0
    assert run(["lease", "free", "six/a1"]) == 0
    assert run(["board", "mark", "six/a1", "--in-service"]) == 0
    with Leases().take(BOARDS, purpose="a campaign") as lease:
        assert lease.boards == {*BOARDS}


def test_who_took_a_marked_board_to_repair_it_uses_it_within_that_lease() -> None:
    leases = Leases()
    leases.marks.change("six/a1", who="anna", out_of_service="fan dead")
    outer = leases.take(["six/a1"], purpose="repair", out_of_service=True)
    with outer, leases.take(["six/a1"], purpose="bench", within=str(outer.id)) as inner:
        assert inner.boards == {"six/a1"}


def test_any_board_with_a_tag_that_is_free_and_in_service_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    for board in ("six/a1", "six/a2", "six/b1"):
        assert run(["board", "mark", board, "--tag", "orin-nx"]) == 0
    assert run(["board", "mark", "six/a1", "--out-of-service", "dead"]) == 0
    capsys.readouterr()
    taken = []
    for _ in range(2):
        assert run(["lease", "take", "--any", "tag=orin-nx", "--for", "camera", "--json"]) == 0
        taken += json.loads(capsys.readouterr().out)["boards"]
    assert taken == ["six/a2", "six/b1"]
    assert run(["lease", "take", "--any", "tag=orin-nx", "--for", "camera"]) == 3
    assert run(["lease", "take", "--any", "tag=agx", "--for", "camera"]) == 2
    assert "tags: orin-nx" in capsys.readouterr().err
    assert run(["lease", "take", "six/a2", "--any", "tag=orin-nx", "--for", "camera"]) == 2


def test_any_waits_in_the_queue_of_each_until_one_is_free_and_leaves_the_others() -> None:
    leases = Leases()
    held = [leases.take([board], purpose="first") for board in ("six/a1", "six/a2")]
    said: list[str] = []

    def tell(line: str) -> None:
        said.append(line)
        assert [entry.boards for entry in leases.queue()] == [{"six/a1"}, {"six/a2"}]
        held[1].free()
        with pytest.raises(LeaseTaken, match="then"):  # who asks for it by name now comes later
            leases.take(["six/a2"], purpose="later")

    got = leases.take(["six/a1", "six/a2"], purpose="then", wait_s=10, progress=tell, one_of=True)
    assert got.boards == {"six/a2"} and not leases.queue()
    assert len(said) == 1 and said[0].startswith("place 1 in the queue for one of six/a1, six/a2: ")
    with pytest.raises(LeaseTaken, match="not free after"):
        leases.take(["six/a1", "six/a2"], purpose="again", wait_s=0.01, one_of=True)
    assert not leases.queue()


def test_marks_are_shown_changed_and_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["board", "mark"]) == 0
    assert capsys.readouterr().out == "no board has marks\n"
    assert (
        run(["board", "mark", "six/a1", "--tag", "nx", "--tag", "lab-2", "--note", "loud\n fan", "--as", "anna"]) == 0
    )
    capsys.readouterr()
    assert run(["board", "mark", "six/a1", "--untag", "nx", "--json"]) == 0
    (mark,) = json.loads(capsys.readouterr().out)
    assert (mark["board"], mark["tags"], mark["note"]) == ("six/a1", ["lab-2"], "loud fan")
    assert run(["board", "mark", "six/a1", "--untag", "lab-2", "--note", ""]) == 0
    assert Leases().marks.all() == {}
    with pytest.raises(ConfigurationError, match="'No Tag' is no tag"):
        Leases().marks.change("six/a1", who="anna", tags=["No Tag"])
    assert run(["board", "mark", "six/a1", "--in-service", "--out-of-service", "x"]) == 2


def test_history_has_every_lease_that_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lease", "history"]) == 0
    with Leases().take(BOARDS, holder="anna", purpose="thermal run"):
        assert Leases().marks.history() == []
    assert run(["lease", "take", "six/b1", "--force", "--for", "new fan", "--as", "ben"]) == 0
    assert run(["lease", "free", "six/b1", "--as", "ben"]) == 0
    capsys.readouterr()
    assert run(["lease", "history", "--json"]) == 0
    latest, first = json.loads(capsys.readouterr().out)
    assert (latest["holder"], latest["boards"], latest["purpose"]) == ("ben", ["six/b1"], "new fan")
    assert (first["holder"], first["boards"]) == ("anna", BOARDS) and first["taken"][:19] <= first["ended"][:19]
    assert run(["lease", "history", "six/a2"]) == 0
    assert "anna" in (page := capsys.readouterr().out) and "ben" not in page


def test_a_store_of_an_older_release_gets_what_it_lacks(store: Path) -> None:
    Leases().list()
    with sqlite3.connect(store) as db:
        for what in ("TRIGGER ended", "TABLE history", "TABLE marks", "TABLE alembic_version"):
            db.execute(f"DROP {what}")
    with Leases().take(BOARDS, purpose="run"):
        pass
    assert len(Leases().marks.history()) == 1 and Leases().marks.all() == {}
