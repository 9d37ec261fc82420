"""Blame for silence: the path's only when the board answers beside it and not over it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from hil.boards.protocol import Via
from hil.core.wait import SYSTEM_CLOCK
from hil.errors import BenchError, DeviceError
from hil.rollout.node_client import NodeSilent
from hil.rollout.policy import RolloutPolicy
from hil.rollout.steps import Context
from hil.testing.fakes import ListSink


@pytest.mark.parametrize(
    ("answers", "blamed"),
    [({Via.MANAGEMENT}, BenchError), ({Via.MANAGEMENT, Via.FLIGHT}, DeviceError), (set(), DeviceError)],
    ids=["only beside the path", "over the path too", "nowhere"],
)
def test_a_board_that_answers_health_over_the_flight_network_and_nothing_else_is_at_fault(
    answers: set[Via], blamed: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context(cast(Any, None), ListSink(), RolloutPolicy(), SYSTEM_CLOCK)
    monkeypatch.setattr(Context, "_answers", lambda self, board, via: via in answers)
    error = context.silence("b2", "get the model within 180 s", NodeSilent("b2: no answer"))
    assert type(error) is blamed
