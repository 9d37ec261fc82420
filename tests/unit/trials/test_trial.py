"""The course of one trial, without boards: its rollout, its watches and its end."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.bench.carrier_watch import CarrierWatch
from hil.testing.fakes import ListSink
from hil.trials import trial
from hil.trials.trial import SwitchedSink, TrialBench, TrialInput, TrialRecorder


class EndlessRollout:
    """A rollout that waits for a board without end."""

    def __init__(self, *_: Any, clock: Any, **__: Any) -> None:
        self.clock = clock
        self.ended = threading.Event()

    def run(self, config: Any) -> None:
        try:
            while True:
                self.clock.sleep(0.01)
        finally:
            self.ended.set()


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    watch = nullcontext()
    watch.ended_early = "KeyError: 'x'"  # type: ignore[attr-defined]
    monkeypatch.setattr(trial, "Rollout", EndlessRollout)
    monkeypatch.setattr(CarrierWatch, "of", lambda *_, **__: watch)
    monkeypatch.setattr(trial, "InvariantWatcher", lambda *_: nullcontext())
    monkeypatch.setattr(trial, "read_all", lambda *_: [])
    monkeypatch.setattr("hil.rollout.updaters.kinds.adapter_of", lambda *_, **__: None)
    bundle = SimpleNamespace(version="2.0.0", image_sha256="new")
    images = SimpleNamespace(bundles=SimpleNamespace(os_v2=bundle))
    bench: Any = SimpleNamespace(name="x", lab=None, boards={}, sink=ListSink(), images=images)
    profile: Any = SimpleNamespace(storm_s=0.1, calm_s=0.1)
    fleet: Any = SimpleNamespace(config=lambda **_: None)
    kit = TrialBench(bench, SwitchedSink(), profile)
    recorder = TrialRecorder.create(tmp_path / "0001-1", {})
    return trial._Course(kit, recorder, fleet, TrialInput(1, 1, 7, ()), {})


def test_a_rollout_that_is_still_at_work_ends_with_its_trial(course: Any) -> None:
    assert course.go()[3] == "the rollout was still at work at the deadline"
    assert course._rollout.ended.wait(5.0)


def test_a_watch_that_ended_early_makes_the_trial_one_of_the_harness(course: Any) -> None:
    course.go()
    assert course.storm.broken == "the watch over the bench ended early: KeyError: 'x'"
