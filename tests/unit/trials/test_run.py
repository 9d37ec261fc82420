"""Trials on one bench, one after the other; the trials themselves are played."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hil.cli import trials
from hil.cli.app import run as command
from hil.errors import BenchError, Blame, HarnessError, HilError
from hil.evidence.model import Verdict
from hil.trials import run
from hil.trials.history import History, Wanted
from hil.trials.page import PAGE
from hil.trials.run import Runner, explain, go_on
from hil.trials.trial import TrialBench, TrialInput, TrialResult
from hil.trials.trial_verdict import TrialVerdict
from tests.kits.fake_trials import counted_series


def loses_its_bench(self: Any, given: TrialInput, folder: Path, meta: Any) -> TrialResult:
    judged = TrialVerdict(Verdict.INCONCLUSIVE, None, None, Blame.BENCH, "the keeper is lost", {})
    return TrialResult(given, judged, History(Wanted("2.0.0", "", "sc-a", 1.0)), {}, None, lost="the keeper")


def cannot_clean() -> None:
    raise HarnessError("a namespace stays")


@pytest.mark.parametrize(("kept", "error"), [("ours", BenchError), ("", HarnessError)])
def test_a_trial_that_lost_its_bench_has_a_line_whatever_becomes_of_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str, error: type[HilError]
) -> None:
    monkeypatch.setattr(TrialBench, "run", loses_its_bench)
    monkeypatch.setattr(run, "clean", cannot_clean)
    monkeypatch.setattr(Runner, "bench", lambda self: None)
    monkeypatch.setattr(Runner, "schedule", lambda self, seed: ())
    runner, series = Runner(cast(Any, None), cast(Any, None)), counted_series(tmp_path, 1)
    runner._kept = kept
    with pytest.raises(error):
        go_on(series, runner, said=print)
    (line,) = series.lines()
    assert (line["verdict"], line["lost"]) == ("INCONCLUSIVE", "the keeper")
    assert (series.folder / PAGE).exists()


def test_a_schedule_whose_runs_were_all_inconclusive_was_not_shown_to_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = SimpleNamespace(run=lambda given, folder: loses_its_bench(None, given, folder, None))
    assert explain(cast(Any, runner), 1, (), tmp_path) == ([], 0, 0)
    counted_series(tmp_path, 1)
    monkeypatch.setattr(trials, "_trial", lambda *_: {"seed": 1, "planted": "", "struck": []})
    monkeypatch.setattr(trials, "_runner", lambda *_: nullcontext(runner))
    for word in ("explain", "replay"):
        assert command(["trials", word, "s1", "1", "--out", str(tmp_path)]) == 3
        assert "none of its runs was conclusive" in capsys.readouterr().err
