"""Runs beside each other: classes of tests and measurements, the baseline, two runs compared."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hil.cli.app import cli
from hil.core import paths
from hil.errors import ConfigurationError
from hil.evidence.record import write_json
from hil.evidence.store import STORE, RunStore
from hil.report.history_classes import Class, Night, State, class_of
from hil.report.nights import baseline_of, changes, histories, noteworthy
from tests.benchmarks import nights as prepared
from tests.kits.stored_runs import night, ran
from tests.kits.synthetic_run import meta

P, F, B, A = State.PASS, State.FAIL, State.BENCH, State.ABSENT


def measurement(
    name: str, value: object, *, ok: bool | None = None, blame: str = "", **dimensions: str
) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "s", "ok": ok, "blame": blame, "dimensions": dimensions}


def classes(out: Path) -> dict[str, Class]:
    return {each.series.label: each.finding.kind for each in histories(RunStore(out), "six-gpu", "virtual")[1]}


@pytest.mark.parametrize(
    ("states", "kind", "count"),
    [
        ([P] * 5, Class.STEADY, 5),
        ([P, P, F], Class.REGRESSION, 1),
        ([P, P, F, B, F], Class.FAILING, 2),
        ([F, F, F], Class.NEVER_PASSED, 3),
        ([P, F, P, P, F], Class.INTERMITTENT, 2),
        ([P, F, P, P], Class.INTERMITTENT, 1),
        ([P, F, F, F, P, P], Class.FIXED, 2),
        ([P, F, F, F, P, P, F], Class.REGRESSION, 1),
        ([P, P, B, B], Class.BENCH_FAULT, 2),
        ([F, B, P], Class.INTERMITTENT, 1),
        ([P, A, A], Class.MISSING, 2),
    ],
)
def test_the_class_of_verdicts(states: list[State], kind: Class, count: int) -> None:
    found = class_of([Night(state) for state in states])
    assert (found.kind, found.nights) == (kind, count)


def test_prepared_histories_are_classified_right() -> None:
    """As `python -m tests.benchmarks.nights` does with 200 of them and a thousand steady ones."""
    found = prepared.confusion(90, seed=7)
    assert prepared.right(found) >= 0.95, found
    assert prepared.false_alarms(100, seed=7) <= 0.01


@pytest.mark.parametrize("nights_with_bench_faults", [0.0, 0.3])
def test_bench_faults_between_make_no_regression(nights_with_bench_faults: float) -> None:
    draw = random.Random(3)
    for _ in range(30):
        some = [Night(B) if draw.random() < nights_with_bench_faults else each for each in prepared.steady(draw)]
        assert class_of([*some, Night(P, prepared.LEVEL)]).kind is Class.STEADY


def test_everything_in_the_runs_gets_its_class(tmp_path: Path) -> None:
    for number in range(6):
        night(
            tmp_path,
            number,
            [
                ran("upload", "FAIL" if number == 5 else "PASS", measurement("time", 2.0 + number / 1e3, board="a1")),
                ran("links", "PASS", measurement("delay", 1.0, ok=number != 5, blame="bench", link="isl-ab")),
                *([ran("gone")] if number < 3 else []),
            ],
            "FAIL" if number == 5 else "PASS",
        )
    found = classes(tmp_path)
    assert found["upload"] is Class.REGRESSION and found["upload: time of a1"] is Class.STEADY
    assert found["links: delay of isl-ab"] is Class.BENCH_FAULT and found["gone"] is Class.MISSING
    order = [each.series.label for each in noteworthy(histories(RunStore(tmp_path), "six-gpu", "virtual")[1])]
    assert order == ["upload", "gone", "links: delay of isl-ab"]


def test_a_bench_fault_never_counts_against_the_os(tmp_path: Path) -> None:
    night(tmp_path, 0, [ran("upload"), ran("cluster")])
    night(tmp_path, 1, [ran("upload", "FAIL"), ran("cluster", "NOT RUN")], "INCONCLUSIVE")  # outside tolerance
    night(tmp_path, 2, [], "INCONCLUSIVE")  # the bench did not come up
    assert classes(tmp_path) == {"upload": Class.BENCH_FAULT, "cluster": Class.BENCH_FAULT}
    night(tmp_path, 3, [ran("upload"), ran("cluster")])
    assert set(classes(tmp_path).values()) == {Class.STEADY}


def test_a_duration_below_a_second_is_noise(tmp_path: Path) -> None:
    for number in range(30):
        short, long = (ran(name) for name in ("short", "long"))
        short["duration_s"], long["duration_s"] = (0.1, 10.0) if number < 15 else (0.9, 14.0)
        night(tmp_path, number, [short, long])
    assert classes(tmp_path) == {"short": Class.STEADY, "long": Class.STEP}
    store = RunStore(tmp_path)
    (change,) = changes(store, store.get("run-000"), store.get("run-029"))
    assert (change.label, change.what) == ("long: duration", "+40%")


def test_partial_changed_and_copied_runs_have_no_nights(tmp_path: Path) -> None:
    night(tmp_path, 0, [ran("upload")])
    night(tmp_path, 1, [ran("upload", "FAIL")], "FAIL", partial="-k upload")
    night(tmp_path, 2, [ran("upload", "FAIL")], "FAIL", evidence={"first": "2", "changes": ["edited"]})
    night(tmp_path, 3, [ran("upload", "PASS")], evidence={"first": "0"})
    runs, found = histories(RunStore(tmp_path), "six-gpu", "virtual")
    assert [run.run_id for run in runs] == ["run-002", "run-003"]
    assert [each.strip for each in found] == ["·"]


@pytest.mark.parametrize(
    "wrong", [5, "x", [5], [{"measurements": [{}]}], [{"id": {}, "verdict": 1, "measurements": [{"ok": 5}]}]]
)
def test_a_result_that_makes_no_sense_leaves_the_others_readable(tmp_path: Path, wrong: Any) -> None:
    night(tmp_path, 0, [ran("upload", "PASS", measurement("digest", "ab"), measurement("big", 10**400))])
    directory = tmp_path / "runs" / "wrong"
    directory.mkdir()
    write_json(directory / "run.json", {**meta("wrong"), "started_utc": "2026-11-02T00:00:00.000Z"})
    write_json(directory / "result.json", {"verdict": "PASS", "plan": "six-gpu", "lab": "virtual", "tests": wrong})
    store = RunStore(tmp_path)
    assert store.rebuild() == ["wrong"]
    assert store.get("wrong").verdict == "INCONCLUSIVE"
    runs, found = histories(store, "six-gpu", "virtual")
    values = {each.series.name: each.nights[0].value for each in found}
    assert len(runs) == 2 and values == {"": 1.0, "digest": None, "big": None}


def test_a_report_made_again_moves_the_point(tmp_path: Path) -> None:
    night(tmp_path, 0, [ran("upload", "PASS", measurement("time", 1.0), measurement("gone", 2.0))])
    RunStore(tmp_path).finish(
        tmp_path / "runs/run-000",
        {
            "plan": "six-gpu",
            "lab": "virtual",
            "verdict": "PASS",
            "tests": [ran("upload", "PASS", measurement("time", 3.0))],
        },
    )
    (_, every) = RunStore(tmp_path).history("six-gpu", "virtual", nights=3)
    assert [(series.name, points["run-000"].value) for series, points in every.items()] == [("", 1.0), ("time", 3.0)]


def test_the_baseline_is_the_last_release_else_the_last_conclusive_run(tmp_path: Path) -> None:
    for number, verdict in enumerate(("PASS", "FAIL", "INCONCLUSIVE", "PASS")):
        night(tmp_path, number, [ran("upload", "FAIL" if verdict == "FAIL" else "PASS")], verdict)
    store = RunStore(tmp_path)
    assert baseline_of(store, store.get("run-003")).run_id == "run-001"
    store.release("run-000", "1.0.0")
    assert baseline_of(store, store.get("run-003")).run_id == "run-000"
    (store.out / STORE).unlink()
    assert store.releases() == {"run-000": "1.0.0"}, "kept beside the store"
    store.release("run-000", "")
    store.rebuild()
    with pytest.raises(ConfigurationError, match="before run-000"):
        baseline_of(store, store.get("run-000"))


def test_a_partial_run_is_no_baseline_and_is_not_compared(tmp_path: Path) -> None:
    for number, partial in enumerate(("", "-k upload", "")):
        night(tmp_path, number, [ran("upload")], partial=partial)
    store = RunStore(tmp_path)
    first, partial_run, last = (store.get(f"run-00{number}") for number in range(3))
    assert baseline_of(store, last).run_id == "run-000" and changes(store, first, last) == []
    with pytest.raises(ConfigurationError, match="run-001 is partial: -k upload"):
        changes(store, partial_run, last)


def test_two_runs_are_compared_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "reports_out", lambda: tmp_path)
    night(tmp_path, 0, [ran("upload", "PASS", measurement("time", 2.0, board="a1")), ran("gone")])
    night(tmp_path, 1, [ran("upload", "FAIL", measurement("time", 3.0, board="a1"))], "FAIL", engine="uml 6.1")
    store = RunStore(tmp_path)
    found = changes(store, store.get("run-000"), store.get("run-001"))
    assert [(c.label, c.before, c.now, c.what) for c in found] == [
        ("upload", "PASS", "FAIL", "verdict"),
        ("gone", "PASS", "absent", "verdict"),
        ("upload: time of a1", "2 s", "3 s", "+50%"),
    ]
    assert CliRunner().invoke(cli, ["runs", "release", "run-000", "--name", "1.0.0"]).exit_code == 0
    shown = CliRunner().invoke(cli, ["runs", "compare"]).output
    assert "run-000 (release 1.0.0) PASS → run-001 FAIL" in shown and "engine unknown → uml 6.1" in shown
    listed = json.loads(CliRunner().invoke(cli, ["runs", "history", "--json"]).output)
    assert [(s["title"], s["class"]) for s in listed["series"]] == [("upload", "new regression"), ("gone", "missing")]
    table = CliRunner().invoke(cli, ["runs", "history"], env={"COLUMNS": "200"}).output
    assert "new regression" in table and "·F" in table


def test_old_runs_are_deleted_and_their_history_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "reports_out", lambda: tmp_path)
    for number in range(4):
        night(tmp_path, number, [ran("upload", "FAIL" if number == 1 else "PASS")])
    RunStore(tmp_path).release("run-000", "1.0.0")
    (tmp_path / "runs/run-002").rename(tmp_path / "elsewhere")
    (tmp_path / "runs/run-002").symlink_to(tmp_path / "elsewhere")
    before = classes(tmp_path)
    words = ["runs", "prune", "--older-than", "1s"]
    assert json.loads(CliRunner().invoke(cli, [*words, "--dry-run", "--json"]).output)["runs"] == ["run-001"]
    assert CliRunner().invoke(cli, words, input="n\n").exit_code != 0
    assert (tmp_path / "runs/run-001").is_dir()
    assert CliRunner().invoke(cli, [*words, "--yes"]).output == "run-001  PASS\n1 run deleted\n"
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["run-000", "run-002", "run-003"]
    assert (tmp_path / "elsewhere/run.json").is_file()
    assert classes(tmp_path) == before == {"upload": Class.INTERMITTENT}
    for age in ("9d", "999999999d"):
        assert CliRunner().invoke(cli, ["runs", "prune", "--yes", "--older-than", age]).output == "0 runs deleted\n"
