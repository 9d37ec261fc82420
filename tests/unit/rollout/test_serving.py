"""Boards that serve together: at one moment, not each at a moment of its own.  Boards and clock are fakes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar, cast

import pytest

from hil.boards.protocol import Board, Via
from hil.errors import BenchError, DeviceError, HilError
from hil.evidence.events import RolloutStep
from hil.onboard.node.answers import Claim, Health
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeClient, NodeSilent
from hil.rollout.policy import RolloutPolicy
from hil.rollout.serving import serving_together
from hil.rollout.steps import Context
from hil.testing.fakes import FakeClock, ListSink

T = TypeVar("T")
NAMES = ("a1", "a2", "b1")
STEP_S = 0.1

Script = Callable[[str, float], int | None]
"""The epoch that a board claims at a time; raises when the board does not answer."""


class ScriptedClient:
    """A ``NodeClient`` whose board follows a script."""

    def __init__(self, name: str, clock: FakeClock, script: Script) -> None:
        self.name, self.clock, self.script = name, clock, script

    def __enter__(self) -> ScriptedClient:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def health(self) -> Health:
        now = self.clock.now
        epoch = self.script(self.name, now)
        since = now
        while epoch is not None and since > 0 and self.script(self.name, since - STEP_S) == epoch:
            since -= STEP_S
        claim = Claim(epoch is not None, epoch, None if epoch is None else now - since + STEP_S / 2)
        return Health(self.name, "boot", healthy=True, confirmed=True, claim=claim, os_version="2.0.0")


class ScriptedContext(Context):
    """A rollout of boards that follow a script; ``asked`` is how each was asked last."""

    def __init__(self, script: Script) -> None:
        self.time, self.script, self.asked = FakeClock(), script, dict[str, Via]()
        members = tuple(cast(Board, _Named(name)) for name in NAMES)
        super().__init__(Fleet(members, "a1"), ListSink(), RolloutPolicy(poll_s=STEP_S), self.time)

    def client(self, board: str, via: Via = Via.FLIGHT, *, timeout_s: float = 3.0) -> NodeClient:
        self.asked[board] = via
        return cast(NodeClient, ScriptedClient(board, self.time, self.script))

    def each(self, boards: Iterable[str], work: Callable[[str], T]) -> dict[str, T]:
        return {name: work(name) for name in boards}


class _Named:
    def __init__(self, name: str) -> None:
        self.name, self.spacecraft = name, f"sc-{name[0]}"


def lapse_in_turn(name: str, now: float) -> int | None:
    """At every moment of the first two seconds one board has no lease; afterwards all have."""
    turn = int(now / STEP_S + 0.5) % len(NAMES)
    return None if now < 2.0 - STEP_S / 2 and NAMES[turn] == name else 7


def test_boards_whose_leases_lapse_in_turn_do_not_serve_together_until_all_do() -> None:
    context = ScriptedContext(lapse_in_turn)
    together = serving_together(context, 7, NAMES, deadline_s=10)
    assert together.seconds == pytest.approx(2.0)
    assert together.epochs == dict.fromkeys(NAMES, 7)
    assert context.asked == dict.fromkeys(NAMES, Via.FLIGHT)
    assert {(e.board, e.step, e.epoch) for e in cast(ListSink, context.sink).of(RolloutStep)} == {
        (name, "serving", 7) for name in NAMES
    }


def test_boards_that_never_serve_together_are_all_named_with_their_share_of_the_samples() -> None:
    context = ScriptedContext(lapse_in_turn)
    with pytest.raises(DeviceError) as caught:
        serving_together(context, 7, NAMES, deadline_s=1.15)
    for name in NAMES:
        assert f"{name} did not claim epoch 7 at one moment with all others within 1.15 s" in str(caught.value)
    assert str(caught.value).count("it claims no epoch; in 4 of 13 samples") >= 2


def test_only_the_board_that_lacks_it_is_named() -> None:
    context = ScriptedContext(lambda name, now: 6 if name == "b1" else 7 if now > 0.45 else None)
    with pytest.raises(DeviceError, match=r"^b1 did not .*it claims epoch 6; in 21 of 21 samples") as caught:
        serving_together(context, 7, NAMES, deadline_s=2)
    assert "a1" not in str(caught.value) and "a2" not in str(caught.value)


def test_a_path_that_is_lost_decides_also_when_another_board_lapsed_once() -> None:
    def script(name: str, now: float) -> int | None:
        if name == "b1" and context.asked["b1"] is Via.FLIGHT:
            return no_answer("b1")
        return None if name == "a2" and 0.95 < now < 1.05 else 7

    context = ScriptedContext(script)
    with pytest.raises(BenchError, match=r"a2 did not .*; b1 did not .* it answers") as caught:
        serving_together(context, 7, NAMES, deadline_s=2)
    assert caught.value.remedy == "a link is down or mis-shaped: see `hil link show`"


def test_a_claim_that_began_after_another_board_was_asked_is_not_of_the_same_moment() -> None:
    """The boards are asked one after another here: a1 at 10 s, b1 at 11 s, and b1 began at 10.5 s."""
    context = ScriptedContext(lambda name, now: 7)
    context.time.now = 10.0

    def script(name: str, now: float) -> int | None:
        if name == "a2" and context.time.now == 10:
            context.time.sleep(1)  # its answer is late
        return None if name == "b1" and now < 10.45 else 7

    context.script = script
    assert serving_together(context, 7, NAMES, deadline_s=5).seconds == pytest.approx(1 + STEP_S)


def test_boards_that_are_cut_off_must_claim_nothing_at_that_moment() -> None:
    def far_lapses(name: str, now: float) -> int | None:
        return 8 if name != "b1" else 7 if now < 0.95 else None

    context = ScriptedContext(far_lapses)
    apart = serving_together(context, 8, ["a1", "a2"], silent=["b1"], deadline_s=5)
    assert apart.seconds == pytest.approx(1.0)
    assert apart.epochs == {"a1": 8, "a2": 8, "b1": None}
    assert context.asked == {"a1": Via.FLIGHT, "a2": Via.FLIGHT, "b1": Via.MANAGEMENT}


def no_answer(name: str) -> int:
    raise NodeSilent(f"{name}: no answer")


@pytest.mark.parametrize(
    ("far", "kind", "reason"),
    [
        (lambda: 7, DeviceError, "it claims epoch 7;"),
        (lambda: 8, BenchError, "it claims epoch 8 too;"),
        (lambda: no_answer("b1"), BenchError, "b1: no answer;"),
    ],
    ids=["the old epoch", "an epoch it cannot know", "silence"],
)
def test_a_board_that_does_not_fall_silent_is_named(far: Callable[[], int], kind: type[HilError], reason: str) -> None:
    context = ScriptedContext(lambda name, now: far() if name == "b1" else 8)
    with pytest.raises(kind, match=rf"b1 was to claim nothing.*{reason}"):
        serving_together(context, 8, ["a1", "a2"], silent=["b1"], deadline_s=1)


def test_nobody_to_wait_for_is_no_wait() -> None:
    assert serving_together(ScriptedContext(lambda name, now: None), 7, [], deadline_s=5).epochs == {}
