"""Runs that somebody changed after their end: never a verdict, a reliability or a fidelity that was not earned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.core.files import sha256_of
from hil.evidence.chain import digest_of
from hil.evidence.events import CollectedTest, LinkFigure, RunCollected, RunEnded, TestEnded, TestStarted, WatchSummary
from hil.evidence.model import at_most
from hil.evidence.record import EVIDENCE, RECORDED, Recorder, write_json
from hil.evidence.store import RunStore, get_run
from hil.report.make import finish_run
from tests.kits.synthetic_run import meta, plan_document

PIXELS = "pixels that differ"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reports folder with one run that passed."""
    out = tmp_path_factory.mktemp("recorded")
    make(out, "run-1")
    return out


def make(out: Path, run_id: str, *, fails: bool = False, **options: Any) -> Path:
    directory = out / "runs" / run_id
    plan = plan_document()
    plan["requirements"], plan["criteria"] = plan["requirements"][:1], []
    plan["risks"] = []
    with Recorder.create(directory, {**meta(run_id), "tests_sha256": "11" * 32, **options}) as recorder:
        write_json(directory / "plan.json", plan)
        write_json(directory / "history.json", {"runs": []})
        (directory / "lab.yaml").write_text("name: virtual\n", "utf-8")
        recorder.emit(RunCollected((CollectedTest("t", "Links", requirements=("SIX-010",)),)))
        with recorder.scope(test="t"):
            recorder.emit(TestStarted())
            recorder.measure(PIXELS, 0, limit=at_most(0))
            recorder.emit(LinkFigure("isl-ab", "a_to_b", "delay_p50", 14386, 14400, "us", 150, True))
            recorder.emit(TestEnded("FAIL" if fails else "PASS", blame="device under test" if fails else ""))
        recorder.emit(WatchSummary(samples=10))
        recorder.emit(RunEnded(files={name: sha256_of(directory / name) for name in RECORDED}))
    finish_run(directory, out)
    return directory


@pytest.fixture
def run(recorded: Path, tmp_path: Path) -> Path:
    shutil.copytree(recorded, tmp_path / "out")
    return tmp_path / "out" / "runs" / "run-1"


def report(run: Path, *, store: bool = True) -> dict[str, Any]:
    if not store:
        for file in run.parent.parent.glob("runs.sqlite*"):
            file.unlink()
    return finish_run(run, run.parent.parent)[0]


def in_line(part: str, old: str, new: str) -> Callable[[list[str]], list[str]]:
    def edit(lines: list[str]) -> list[str]:
        assert sum(part in line and old in line for line in lines) == 1
        return [line.replace(old, new) if part in line else line for line in lines]

    return edit


def unlinked(lines: list[str]) -> list[str]:
    return [line.partition(',"prev":')[0] + "}" for line in lines]


def linked(lines: list[str]) -> list[str]:
    """As one who knows how: each line with the right digest of the one before."""
    done: list[str] = []
    for line in unlinked(lines):
        done.append(f'{line[:-1]},"prev":"{digest_of(done[-1].encode()) if done else ""}"}}')
    return done


def change(run: Path, *edits: Callable[[list[str]], list[str]]) -> None:
    path = run / EVIDENCE
    lines = path.read_text("utf-8").splitlines()
    for edit in edits:
        lines = edit(lines)
    path.write_text("".join(line + "\n" for line in lines), "utf-8")


def test_a_run_that_nobody_changed_passes_again_and_again(run: Path) -> None:
    first = report(run)
    size = (run / EVIDENCE).stat().st_size
    assert (first["verdict"], first["evidence"]["changes"]) == ("PASS", [])
    assert report(run) == report(run, store=False) == first
    assert (run / EVIDENCE).stat().st_size == size, "the same result is noted once"
    kept = get_run("run-1", run.parent.parent).as_dict()
    assert (kept["verdict"], kept["head"], kept["partial"]) == ("PASS", first["evidence"]["head"], None)
    assert first["evidence"]["head"] in (run / "report.html").read_text("utf-8")


@pytest.mark.parametrize("store", [True, False], ids=["store", "no store"])
@pytest.mark.parametrize("relinked", [False, True], ids=["plainly", "with new digests"])
@pytest.mark.parametrize(
    "edit",
    [
        in_line("measurement", '"value":0', '"value":999'),
        in_line("test.end", '"PASS"', '"FAIL"'),
        in_line("link.calibration", "14400", "23386"),
        lambda lines: [line for line in lines if "watch.summary" not in line],
        lambda lines: lines[:-2],
    ],
    ids=["value", "verdict", "figure", "watcher", "end"],
)
def test_evidence_that_was_changed_is_none_also_the_second_time(
    run: Path, edit: Callable[[list[str]], list[str]], relinked: bool, store: bool
) -> None:
    change(run, edit, *[linked] * relinked)
    for _ in range(2):
        result = report(run, store=store)
        assert (result["verdict"], result["requirements"][0]["closed"]) == ("INCONCLUSIVE", False)
        assert "changed" in result["reason"] or "contradicts" in result["reason"]


def test_taking_all_digests_away_does_not_make_it_an_old_run(run: Path) -> None:
    change(run, in_line("measurement", '"value":0', '"value":1'), unlinked)
    assert report(run)["verdict"] == "INCONCLUSIVE"


def test_limits_and_tolerances_are_judged_again(run: Path) -> None:
    for edit, said in (
        (in_line("measurement", '"value":0', '"value":999'), f"{PIXELS} = 999, limit <= 0: ok, which is not so"),
        (in_line("link.calibration", "14400", "23386"), "delay p50 of isl-ab a to b = 23,386 us"),
    ):
        copy = run.parent.parent.parent / said[:6] / "runs" / "run-1"
        shutil.copytree(run, copy)
        (copy / "result.json").unlink()
        change(copy, edit, unlinked)
        result = finish_run(copy, None)[0]
        assert result["verdict"] == "INCONCLUSIVE" and said in result["reason"]


@pytest.mark.parametrize("name", RECORDED)
def test_every_recorded_file_is_compared(run: Path, name: str) -> None:
    path = run / name
    path.write_text(path.read_text("utf-8").replace("virtual", "hardware") + " ", "utf-8")
    result = report(run)
    assert (result["verdict"], result["reason"]) == (
        "INCONCLUSIVE",
        f"{name} is not the file that was recorded at the end of the run.",
    )
    assert not any(r["closed"] for r in result["requirements"] if r["fidelity_needed"] == "hardware")


def test_a_result_that_was_edited_is_not_believed_when_the_store_is_made_again(run: Path) -> None:
    out = run.parent.parent
    change(run, in_line("test.end", '"PASS"', '"FAIL"'))
    for file in out.glob("runs.sqlite*"):
        file.unlink()
    assert get_run("run-1", out).verdict == "INCONCLUSIVE", "the evidence was changed"
    change(run, in_line("test.end", '"FAIL"', '"PASS"'))
    result = json.loads((run / "result.json").read_text("utf-8"))
    (run / "result.json").write_text(json.dumps({**result, "verdict": "FAIL", "requirements": []}), "utf-8")
    for file in out.glob("runs.sqlite*"):
        file.unlink()
    again = get_run("run-1", out)
    assert (again.verdict, again.reason) == ("INCONCLUSIVE", "result.json is not the file that was written.")


def test_runs_that_only_a_history_without_digests_knows_do_not_count(run: Path) -> None:
    invented = {"verdict": "PASS", "same_inputs": True, "requirements": {}, "started_utc": "2026-01-01T00:00:00Z"}
    past = [{**invented, "run_id": f"r-{n}"} for n in range(60)]
    (run / "history.json").write_text(json.dumps({"runs": past}), "utf-8")
    assert report(run)["statistics"]["runs"] == 0, "not even this one: its history was changed"
    change(run, unlinked, in_line("run.end", '"files"', '"other"'))
    (run / "result.json").unlink()
    for file in run.parent.parent.glob("runs.sqlite*"):
        file.unlink()
    assert report(run)["statistics"]["runs"] == 1


def test_boards_that_are_not_real_make_no_hardware_run(tmp_path: Path) -> None:
    directory = make(tmp_path, "run-1", fidelity="hardware")
    assert finish_run(directory, None)[0]["fidelity"] == "virtual"


def test_a_copied_run_is_the_same_run(run: Path) -> None:
    from hil.evidence.store import counted

    out = run.parent.parent
    for number in range(21):
        shutil.copytree(run, out / "runs" / f"copy-{number}")
    make(out, "run-2")
    make(out, "run-3")
    store = RunStore(out)
    store.rebuild()
    chosen, left_out = counted(store.runs())
    assert len(chosen) == 3
    assert left_out == ["21 copies of runs"]


def test_a_copy_that_was_changed_does_not_hide_the_run_that_failed(run: Path) -> None:
    from hil.evidence.store import counted

    out = run.parent.parent
    failed = make(out, "run-9", fails=True)
    shutil.copytree(failed, out / "runs" / "run-99")
    change(out / "runs" / "run-99", in_line("test.end", '"FAIL"', '"PASS"'))
    store = RunStore(out)
    store.rebuild()
    chosen, left_out = counted(store.runs())
    assert {each.run_id: each.verdict for each in chosen} == {"run-9": "FAIL", "run-1": "PASS"}
    assert left_out == ["1 copy of runs"]
