"""`hil campaign run --repeat`: a line for each run, what ends the series, and what they show together."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from hil.cli.campaign.repeat import SeriesBench, repeat

RUN = """
import json, pathlib, sys
runs, run_id, verdict = sys.argv[1:]
print("its output")
if verdict == "none":
    print("! configuration error: 2 of 2 tests need a bench")
    sys.exit(4)
folder = pathlib.Path(runs, run_id)
folder.mkdir(parents=True)
result = {"verdict": verdict, "reason": f"{run_id} said so.", "statistics": {"sentence": "Demonstrated so much."}}
(folder / "result.json").write_text(json.dumps(result))
sys.exit({"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}[verdict])
"""


def series(tmp_path: Path, verdicts: list[str], stop_on: str, *, as_json: bool = False) -> int:
    ids, runs = [f"r{n}" for n in range(len(verdicts))], tmp_path / "runs"

    def argv(run_id: str) -> list[str]:
        return [sys.executable, "-c", RUN, str(runs), run_id, verdicts[ids.index(run_id)]]

    return repeat(argv, ids, runs, stop_on=stop_on, as_json=as_json)


@pytest.mark.parametrize(
    ("verdicts", "stop_on", "code", "runs"),
    [
        (["PASS", "PASS"], "fail", 0, 2),
        (["PASS", "INCONCLUSIVE", "FAIL", "PASS"], "fail", 1, 3),
        (["PASS", "INCONCLUSIVE", "PASS"], "inconclusive", 3, 2),
        (["FAIL", "PASS"], "never", 1, 2),
        (["none", "PASS"], "never", 4, 1),
    ],
)
def test_a_series_ends_where_it_is_to_end_with_the_worst_exit_code(
    verdicts: list[str], stop_on: str, code: int, runs: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert series(tmp_path, verdicts, stop_on, as_json=True) == code
    document = json.loads(capsys.readouterr().out)
    assert (len(document["runs"]), document["wanted"], document["exit_code"]) == (runs, len(verdicts), code)


def test_the_end_says_what_the_runs_show_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series(tmp_path, ["PASS", "FAIL"], "fail")
    said = capsys.readouterr()
    assert "run 1 of 2, r0: PASS: r0 said so." in said.err
    assert "2 runs of 2: 1 PASS, 1 FAIL\nDemonstrated so much." in said.out
    assert (tmp_path / "runs/r0/terminal.log").read_text("utf-8") == "its output\n"


class FakeBench:
    """As much of a bench as a series needs."""

    up_now: ClassVar[set[str]] = set()
    seen: ClassVar[list[str]] = []

    def __init__(self, lab: Path, *, name: str, lease_wait_s: float | None) -> None:
        self.name = name

    def up(self, *, progress: object) -> None:
        self.up_now.add(self.name)
        self.seen.append("up")

    def close(self) -> None:
        self.up_now.discard(self.name)
        self.seen.append("down")


def test_a_series_uses_one_bench_and_a_fresh_one_after_a_run_without_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.bench.bench.Bench", FakeBench)
    monkeypatch.setattr("hil.bench.state.is_up", lambda name: name in FakeBench.up_now)
    FakeBench.seen.clear()
    verdicts, runs = ["PASS", "FAIL", "INCONCLUSIVE", "PASS"], tmp_path / "runs"
    ids = [f"r{n}" for n in range(len(verdicts))]
    bench = SeriesBench(tmp_path / "lab.yaml")

    def argv(run_id: str) -> list[str]:
        FakeBench.seen.append(f"{run_id} on {bench.name}")
        return [sys.executable, "-c", RUN, str(runs), run_id, verdicts[ids.index(run_id)]]

    assert repeat(argv, ids, runs, stop_on="never", as_json=True, bench=bench) == 1
    name = f"series{os.getpid()}"
    on = [f"{run_id} on {name}" for run_id in ids]
    assert FakeBench.seen == ["up", *on[:3], "down", "up", on[3], "down"]


def test_a_run_without_a_result_says_its_error_and_where_the_rest_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series(tmp_path, ["none"], "fail")
    assert f"configuration error: 2 of 2 tests need a bench ({tmp_path}/.r0.log)" in capsys.readouterr().err
