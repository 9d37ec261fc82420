"""The run store knows every run, also those that crashed and those it was never told of."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hil.core.processes import this_process
from hil.errors import ConfigurationError
from hil.evidence.chain import MOST_EVIDENCE
from hil.evidence.readback import RunRecord
from hil.evidence.record import Recorder
from hil.evidence.store import STORE, RunStore, get_run, list_runs
from hil.report.make import make_report
from tests.kits.synthetic_run import build

META = {"plan": "demo", "plan_sha256": "a", "lab": "virtual", "lab_sha256": "b"}


def _start(out: Path, run_id: str, **meta: object) -> Path:
    directory = out / "runs" / run_id
    recorder = Recorder.create(directory, {**META, "process": this_process(), **meta})
    recorder.close()
    RunStore(out).start(RunRecord.load(directory).meta, directory)
    return directory


def test_a_run_is_listed_from_its_start_newest_first(tmp_path: Path) -> None:
    _start(tmp_path, "r1", started_utc="2026-11-20T00:00:00Z")
    _start(tmp_path, "r2", started_utc="2026-11-21T00:00:00Z")
    assert [(r.run_id, r.state, r.verdict) for r in list_runs(tmp_path)] == [
        ("r2", "running", ""),
        ("r1", "running", ""),
    ]


def test_a_run_whose_process_is_gone_is_crashed(tmp_path: Path) -> None:
    _start(tmp_path, "r1", process={**this_process(), "start_ticks": 1})
    assert list_runs(tmp_path)[0].state == "crashed"


def test_the_report_of_a_crashed_run_can_still_be_made(tmp_path: Path) -> None:
    directory = build(tmp_path / "runs" / "r1", "crash")
    assert list_runs(tmp_path)[0].state == "crashed"
    page = make_report(directory)
    run = get_run("r1", tmp_path)
    assert run.report == page
    assert (run.state, run.verdict) == ("crashed", "INCONCLUSIVE")
    assert run.reason == "The run was killed after 8 of 13 tests."


def test_a_finished_run_is_known_with_its_result(tmp_path: Path) -> None:
    make_report(build(tmp_path / "runs" / "r1"))
    run = get_run("last", tmp_path)
    assert (run.state, run.verdict, run.plan, run.lab) == ("finished", "PASS", "six-gpu", "virtual")
    assert run.counts["PASS"] == 13
    assert run.summary["requirements"]["SIX-010"] == "PASS"
    assert run.as_dict()["report"] == str(tmp_path / "runs" / "r1" / "report.html")


def test_a_lost_store_is_made_again_from_the_run_directories(tmp_path: Path) -> None:
    make_report(build(tmp_path / "runs" / "r1"))
    before = list_runs(tmp_path)
    for file in tmp_path.glob("runs.sqlite*"):
        file.unlink()
    assert list_runs(tmp_path) == before


def test_a_folder_of_runs_can_be_moved_as_a_whole(tmp_path: Path) -> None:
    make_report(build(tmp_path / "here" / "runs" / "r1"))
    (tmp_path / "here").rename(tmp_path / "there")
    run = get_run("r1", tmp_path / "there")
    assert run.report is not None and run.report.is_file()


def test_a_run_is_found_by_an_unambiguous_part_of_its_name(tmp_path: Path) -> None:
    for name in ("20261120T0000-demo-aaaa", "20261121T0000-demo-bbbb"):
        _start(tmp_path, name)
    assert get_run("bbbb", tmp_path).run_id == "20261121T0000-demo-bbbb"
    assert get_run("20261120", tmp_path).run_id == "20261120T0000-demo-aaaa"
    with pytest.raises(ConfigurationError, match="ambiguous"):
        get_run("2026", tmp_path)
    with pytest.raises(ConfigurationError, match="unknown; the newest are 20261121"):
        get_run("nothing", tmp_path)


def test_runs_of_one_plan_and_lab_can_be_asked_for(tmp_path: Path) -> None:
    _start(tmp_path, "r1")
    _start(tmp_path, "r2", lab="virtual-4-2")
    store = RunStore(tmp_path)
    assert [r.run_id for r in store.runs(plan="demo", lab="virtual")] == ["r1"]
    assert store.runs(plan="other") == []


def test_a_store_that_is_no_database_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite").write_text("not a database, but long enough to be read as one" * 40, "utf-8")
    with pytest.raises(ConfigurationError, match="rebuilt from the run directories"):
        list_runs(tmp_path)


def test_an_empty_folder_has_no_runs(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "new") == []
    with pytest.raises(ConfigurationError, match="there is no run yet"):
        get_run("last", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []  # looking makes nothing


def test_a_store_that_cannot_be_used_is_a_configuration_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "a" / "runs.sqlite").mkdir(parents=True)
    (tmp_path / "file").touch()
    for out in (tmp_path / "a", tmp_path / "file" / "b", Path("/proc/none")):
        with pytest.raises(ConfigurationError) as raised:
            RunStore(out).finish(out / "runs/r1", {})
        assert raised.value.remedy


@pytest.mark.parametrize("column", ["counts", "summary", "process"])
def test_a_row_that_makes_no_sense_is_told(column: str, tmp_path: Path) -> None:
    _start(tmp_path, "r1")
    store = RunStore(tmp_path)
    with closing(sqlite3.connect(tmp_path / STORE)) as db, db:
        db.execute(f"UPDATE runs SET {column} = '['")
    with pytest.raises(ConfigurationError, match=r"runs\.sqlite"):
        store.runs()


def _result(out: Path, run_id: str, text: str) -> None:
    """A run whose result.json somebody else wrote."""
    directory = out / "runs" / run_id
    Recorder.create(directory, META).close()
    (directory / "result.json").write_text(text, "utf-8")


@pytest.mark.parametrize(
    "text",
    [
        r'{"verdict": "PASS", "reason": "\ud800"}',
        '{"verdict": "PASS", "reason": {"a": 1}}',
        '{"verdict": ["PASS"]}',
        '{"verdict": "PASS", "counts": [1]}',
        '{"verdict": "PASS", "x": ' + 800 * "[" + 800 * "]" + "}",
        '{"verdict": "PASS", "counts": {"PASS": {}}}',
    ],
)
def test_a_result_that_makes_no_sense_hides_no_other_run_and_is_told(text: str, tmp_path: Path) -> None:
    make_report(build(tmp_path / "runs" / "r1"))
    _result(tmp_path, "odd", text)
    known = {run.run_id: run for run in list_runs(tmp_path)}
    assert known["r1"].verdict == "PASS"
    assert (known["odd"].verdict, dict(known["odd"].counts)) in [("INCONCLUSIVE", {}), ("PASS", {})]


def test_a_directory_that_cannot_be_called_a_run_hides_no_other(tmp_path: Path) -> None:
    _start(tmp_path, "r1")
    for name in (b"\xff\xfe", b"a\x1b[2J", b"a\nb", b".hidden"):
        shutil.copytree(tmp_path / "runs/r1", tmp_path / "runs" / os.fsdecode(name))
    assert [run.run_id for run in list_runs(tmp_path)] == ["r1"]


def test_a_pipe_a_device_or_a_huge_file_in_a_run_holds_nothing_up(tmp_path: Path) -> None:
    make_report(build(tmp_path / "runs" / "r1"))
    for name, make in (("result.json", os.mkfifo), ("evidence.jsonl", lambda path: path.symlink_to("/dev/zero"))):
        _start(tmp_path, name)
        (tmp_path / "runs" / name / name).unlink(missing_ok=True)
        make(tmp_path / "runs" / name / name)
    assert len(list_runs(tmp_path)) == 3
    run = RunRecord.load(tmp_path / "runs/evidence.jsonl")
    assert run.damage == ("evidence.jsonl cannot be read: is no plain file",)
    os.truncate(tmp_path / "runs/r1/evidence.jsonl", 2 * MOST_EVIDENCE)
    assert "larger than 1000 MB" in RunRecord.load(tmp_path / "runs/r1").damage[0]


def _old_and_new(out: Path) -> RunStore:
    for run_id, moment in (("old", "2020-01-01T00:00:00Z"), ("new", "2026-11-20T00:00:00Z")):
        _start(out, run_id, started_utc=moment, process={})
    return RunStore(out)


def test_an_index_that_names_another_folder_lets_nothing_of_it_be_deleted(tmp_path: Path) -> None:
    store = _old_and_new(tmp_path)
    assert [run.run_id for run in store.prunable("2026-01-01T00:00:00Z")] == ["old"]
    for name in ("..", "../../home", "."):
        with closing(sqlite3.connect(tmp_path / STORE)) as db, db:
            db.execute("UPDATE runs SET run_id = ?, dir = ? WHERE started_utc < '2021'", (name, f"runs/{name}"))
        with pytest.raises(ConfigurationError, match="a run is called"):
            store.prunable("2026-01-01T00:00:00Z")


@pytest.mark.parametrize("text", ['{"old": "1.0', '["old"]', ""])
def test_releases_that_cannot_be_read_are_neither_pruned_nor_forgotten(text: str, tmp_path: Path) -> None:
    store = _old_and_new(tmp_path)
    (tmp_path / "releases.json").write_text(text, "utf-8")
    for change in (lambda: store.prunable("2026-01-01T00:00:00Z"), lambda: store.release("new", "2.0")):
        with pytest.raises(ConfigurationError, match=r"releases\.json cannot be read"):
            change()
    assert (tmp_path / "releases.json").read_text("utf-8") == text
    (tmp_path / "releases.json").unlink()
    store.release("new", "2.0")
    store.release("new", "")
    store.release("new", "2.1")
    assert store.releases() == {"new": "2.1"}


@pytest.mark.parametrize("moment", ["", "0"])
def test_a_run_that_does_not_say_when_it_began_is_not_old(moment: str, tmp_path: Path) -> None:
    store = _old_and_new(tmp_path)
    _start(tmp_path, "unknown", started_utc=moment, process={})
    assert [run.run_id for run in store.prunable("2026-01-01T00:00:00Z")] == ["old"]
