"""Serving together: boards that claim one configuration epoch, all at one moment.

A board that was seen to claim once may have lost its lease when the last board is asked: on a busy machine a lease of
one second lapses between two renewals.  So no board is judged by one sample, and none by a sample of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from hil.boards.protocol import Via
from hil.errors import BenchError, DeviceError, HilError
from hil.evidence.events import RolloutStep
from hil.onboard.node.answers import Health
from hil.rollout.epoch_claims import definite
from hil.rollout.node_client import NodeClient, NodeRefused, NodeSilent
from hil.rollout.steps import Context

ANSWER_S = 1.0


@dataclass(frozen=True)
class ServedTogether:
    """The claims of boards at the moment at which they were as wanted."""

    seconds: float
    """From the start of the wait until the answers that prove it were there."""
    epochs: dict[str, int | None]
    """By board, the epoch that it claimed; None: it claimed nothing."""


@dataclass(frozen=True)
class _Answer:
    """What one board said to one question, and when it was asked."""

    said: Health | HilError
    sent_s: float
    received_s: float


def serving_together(
    context: Context, epoch: int, boards: Iterable[str], *, silent: Iterable[str] = (), deadline_s: float
) -> ServedTogether:
    """Wait until all ``boards`` claim ``epoch`` and all of ``silent`` claim nothing, at one moment.

    ``boards`` are asked over the flight network, ``silent`` (boards that are cut off) over the management network.
    At the deadline DeviceError, or BenchError where the path to one of them is at fault, names every board that lacks
    it at the end or has lost it on the way, with the reason and in how many of the samples.
    """
    start_s = context.clock.monotonic()
    missed: Counter[str] = Counter()
    why: dict[str, HilError] = {}
    served: set[str] = set()
    lapsed: set[str] = set()
    rounds = 0
    with ExitStack() as stack:
        vias = dict.fromkeys(boards, Via.FLIGHT) | dict.fromkeys(silent, Via.MANAGEMENT)
        clients = {
            name: stack.enter_context(context.client(name, via, timeout_s=ANSWER_S)) for name, via in vias.items()
        }
        quiet = {name for name, via in vias.items() if via is Via.MANAGEMENT}
        for _ in context.polling(deadline_s):
            answers = context.each(clients, lambda name: _ask(context, clients[name]))
            rounds += 1
            lacking = _lacking(answers, epoch, quiet)
            for name in clients:
                if name in lacking:
                    missed[name] += 1
                    if name in served:
                        lapsed.add(name)
                elif name not in served:
                    served.add(name)
                    if name not in quiet:
                        context.sink.emit(RolloutStep(name, "serving", "start", epoch=epoch))
            why |= lacking
            if not lacking:
                epochs = {
                    name: answer.said.claim.epoch for name, answer in answers.items() if isinstance(answer.said, Health)
                }
                return ServedTogether(context.clock.monotonic() - start_s, epochs)
    wanted = f"epoch {epoch} at one moment with all others within {deadline_s:g} s"
    errors = []
    for name in (name for name in vias if name in lacking or name in lapsed):
        cause = why[name].with_context(f"{why[name].message}; in {missed[name]} of {rounds} samples")
        if name not in quiet:
            errors.append(context.silence(name, f"claim {wanted}", cause))
        else:
            errors.append(
                cause.with_context(f"{name} was to claim nothing while others claim {wanted}: {cause.message}")
            )
    decides = next((error for error in errors if not isinstance(error, DeviceError)), errors[0])
    kind = DeviceError if isinstance(decides, DeviceError) else BenchError
    raise kind("; ".join(error.message for error in errors), remedy=decides.remedy)


def _ask(context: Context, client: NodeClient) -> _Answer:
    sent_s = context.clock.monotonic()
    said: Health | HilError
    try:
        said = client.health()
    except (NodeSilent, NodeRefused) as exc:
        said = exc
    return _Answer(said, sent_s, context.clock.monotonic())


def _lacking(answers: dict[str, _Answer], epoch: int, quiet: Collection[str]) -> dict[str, HilError]:
    """Return by board why these answers do not prove what is wanted of it; empty when they prove one moment of all."""
    lacking: dict[str, HilError] = {}
    claims = []
    for name, answer in answers.items():
        said = answer.said
        if isinstance(said, HilError):
            lacking[name] = said
        elif name in quiet:
            if said.claim.epoch == epoch:  # it cannot have heard of it
                lacking[name] = BenchError(f"it claims epoch {epoch} too", remedy="is the link really lost?")
            elif said.claim.serving:
                lacking[name] = DeviceError(f"it claims epoch {said.claim.epoch}")
        elif said.claim.epoch != epoch:
            claimed = "no epoch" if said.claim.epoch is None else f"epoch {said.claim.epoch}"
            lacking[name] = DeviceError("; ".join(said.blocked_by) or f"it claims {claimed}")
        elif (claim := definite(said, answer.sent_s, answer.received_s)) is None:
            lacking[name] = DeviceError("it had only just begun to claim")
        else:
            claims.append((name, claim))
    first_end_s = min((claim.end_s for _, claim in claims), default=0.0)
    for name, claim in claims:
        if claim.start_s > first_end_s:
            lacking[name] = DeviceError("it began to claim only after another board was asked")
    return lacking
