"""Several workers: each trial counts exactly once, whatever becomes of the worker that has it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from hil.core.wait import wait_until
from hil.errors import BenchError, ConfigurationError
from hil.evidence.model import Verdict
from hil.trials.series import Series
from hil.trials.workers import BenchOwner, go_on_at, make_keys, security_of, workers_of
from tests.kits.fake_trials import MakeFake, counted_series

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

SILENT_S = 8.0
"""Less than in use: a worker of a test is never busy."""
HANGS_S = 25.0


def just_begun(series: Series) -> list[int]:
    """Return the pids of workers whose trial began less than a second ago: it has half a second to go at least."""
    pids = [path for path in (series.folder / "trials").glob("*/pid") if time.time() - path.stat().st_mtime < 1.0]
    return [int(pid) for pid in (path.read_text() for path in pids) if pid]


def hurt_in_mid_trial(series: Series, after: int, how: int) -> None:
    """Once so many trials have a line, send a signal to a worker in mid-trial."""
    found = wait_until(
        lambda: just_begun(series) if len(series.lines()) >= after else [], what="a trial to begin", deadline_s=60.0
    )
    os.kill(found[0], how)


def test_a_worker_lost_in_mid_trial_costs_an_attempt_and_no_trial(tmp_path: Path) -> None:
    """One worker is killed, one frozen, one trial never ends: each counts once, and the lost attempts are visible."""
    series, said = counted_series(tmp_path, 10), list[str]()

    def strike() -> None:
        hurt_in_mid_trial(series, 1, signal.SIGKILL)
        hurt_in_mid_trial(series, 6, signal.SIGSTOP)

    with workers_of(2, owner=BenchOwner(make=MakeFake(1.5, hangs=1)), silent_s=SILENT_S) as client:
        thread = threading.Thread(target=strike, daemon=True)
        thread.start()
        go_on_at(series, client, said=said.append, trial_s=HANGS_S)
        thread.join(60.0)
    standing = series.standing()
    assert (standing.passes, standing.trials, standing.verdict) == (10, 10, Verdict.PASS)
    counts = Counter(line["number"] for line in series.lines() if line["verdict"] == "PASS")
    assert counts == dict.fromkeys(range(1, 11), 1)
    lost = [line for line in series.lines() if line["verdict"] == "INCONCLUSIVE"]
    assert len(lost) == 3 == standing.inconclusive and {line["blame"] for line in lost} == {"bench"}
    for line in lost:
        assert (series.folder / "trials" / f"{line['number']:04d}-1" / "pid").is_file()
        assert (series.folder / "trials" / f"{line['number']:04d}-2" / "pid").is_file()
    assert sum("attempt 1: INCONCLUSIVE: its worker" in line for line in said) == 2
    assert [line["number"] for line in lost if f"had not ended after {HANGS_S:g} s" in line["reason"]] == [1]


def test_without_any_worker_it_ends_and_says_what_to_start(tmp_path: Path) -> None:
    series = counted_series(tmp_path, 1)
    with workers_of(0) as client, pytest.raises(BenchError, match="no worker has been there"):
        go_on_at(series, client, said=print, no_worker_s=0.5)


def test_keys_are_made_once_and_are_for_their_owner_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="hil trials keys"):
        security_of(tmp_path)
    make_keys(tmp_path)
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    with pytest.raises(ConfigurationError, match="is there already"):
        make_keys(tmp_path)
