"""Jobs of a gateway where its disk or its memory is full, or its power goes."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from hil.core.wait import wait_until
from hil.onboard import files
from hil.onboard.node import jobs as jobs_module
from hil.onboard.node.epoch import Config
from hil.onboard.node.jobs import Job, Jobs

CONFIG = cast(Config, SimpleNamespace(epoch=1, members={"a": "127.0.0.1:1"}))


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Jobs whose tiles are computed at once."""
    monkeypatch.setattr(Jobs, "_infer", lambda *_: np.ones((2, 2), dtype=np.uint8))
    return Jobs(tmp_path / "jobs")


def begin(jobs: Jobs) -> Job:
    return jobs.start("scene", Path("scene.npy"), CONFIG, lambda: True)


def ended(jobs: Jobs, job: Job) -> dict[str, Any]:
    wait_until(lambda: jobs.get(job.id)["state"] != "running", what="the job's end", deadline_s=5, every_s=0.01)
    return jobs.get(job.id)


def fail_once(monkeypatch: pytest.MonkeyPatch, target: object, name: str, error: Exception) -> None:
    real, failed = getattr(target, name), list[bool]()

    def failing(*arguments: Any) -> None:
        if not failed:
            failed.append(True)
            raise error
        real(*arguments)

    monkeypatch.setattr(target, name, failing)


@pytest.mark.parametrize("what", ["disk", "thread"])
def test_a_job_that_could_not_begin_is_in_no_others_way(jobs: Jobs, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "disk":
        fail_once(monkeypatch, jobs_module, "write_json", OSError(28, "No space left on device"))
    else:
        fail_once(monkeypatch, threading.Thread, "start", RuntimeError("can't start new thread"))
    with pytest.raises((OSError, RuntimeError)):
        begin(jobs)
    assert ended(jobs, begin(jobs))["state"] == "done"


def test_a_job_is_done_when_a_power_cut_cannot_undo_it(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    free, real = threading.Event(), files.write_json

    def slow(path: Path, document: Any) -> None:
        if document["state"] == "done":
            free.wait(5)
        real(path, document)

    monkeypatch.setattr("hil.onboard.node.jobs.write_json", slow)
    job = begin(jobs)
    wait_until(lambda: (jobs._root / "1.npy").exists(), what="the mask", deadline_s=5, every_s=0.01)
    threading.Event().wait(0.1)
    seen = jobs.get(job.id)["state"]
    free.set()
    assert seen == "running" and ended(jobs, job)["state"] == "done" and jobs.mask(job.id)
