"""The processes of a container board's OS, with processes of this test in their place."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from hil.boards.container import os_processes
from hil.boards.container.os_processes import standing_still, stop_all


@pytest.fixture
def two() -> Iterator[list[int]]:
    started = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield [each.pid for each in started]
    for each in started:
        each.kill()
        each.wait()


def test_a_process_that_is_forked_while_the_others_are_stopped_is_stopped_too(
    two: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([two[:1]])
    monkeypatch.setattr(os_processes, "os_processes", lambda init: next(looks, two))
    stop_all(two[0])
    assert standing_still(two[0]) == (True, "2 of 2 processes of its OS stand still")
