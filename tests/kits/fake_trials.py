"""Trials without a bench, for workers: each writes who ran it, takes its time, and passes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.evidence.model import Verdict
from hil.trials.history import History, Wanted
from hil.trials.series import Series, SeriesFacts, series_folder
from hil.trials.trial import TrialInput, TrialResult
from hil.trials.trial_verdict import TrialVerdict


@dataclass
class FakeRunner:
    """Stands for :class:`hil.trials.run.Runner`; ``seconds`` is what a trial takes."""

    seconds: float
    hangs: int = 0
    """The number of a trial whose first attempt never ends."""

    def schedule(self, seed: int) -> tuple[()]:
        return ()

    def drop(self) -> None:
        pass

    def run(self, given: TrialInput, folder: Path, ended: Callable[[TrialResult], object]) -> TrialResult:
        folder.mkdir(parents=True)
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(3600.0 if (given.number, given.attempt) == (self.hangs, 1) else self.seconds)
        judged = TrialVerdict(Verdict.PASS, True, True, None, "", {})
        history = History(Wanted("2.0.0", "", "sc-a", 1.0))
        result = TrialResult(given, judged, history, {"storm": self.seconds}, None)
        ended(result)
        return result


@dataclass
class MakeFake:
    """What a worker makes its runner with."""

    seconds: float = 0.4
    hangs: int = 0

    def __call__(self, series: Series, lab_file: Path | None) -> Any:
        return FakeRunner(self.seconds, self.hangs)


def counted_series(out: Path, trials: int, **facts: Any) -> Series:
    """Begin a series of so many counted trials, without a canary."""
    base: Mapping[str, Any] = {
        **{"id": "s1", "started_utc": "20261129T120000Z", "seed": 7, "lab": "virtual", "lab_sha256": "abc"},
        **{"commit": "0123456789abcdef", "rule": "count", "most": trials, "goal": None, "failures": 0},
        **{"profile": {"name": "links"}, "canary": False},
    }
    return Series.create(series_folder(out) / "s1", SeriesFacts(**{**base, **facts}))
