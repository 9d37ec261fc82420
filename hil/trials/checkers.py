"""The checkers: pure functions over a trial's history that return what was wrong.  Each is tested on planted histories.

Safety: nothing wrong may happen at any time, faults or not.  Liveness: once all is healed, the fleet must converge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hil.evidence.carriers import unordered_restarts
from hil.evidence.events import BoardSeen, OlderBundle, RolloutStep, WatchClaim
from hil.trials.history import History

Checker = Callable[[History], list[str]]

LEASE_SLACK_S = 1.0
"""A claim may outlive the lease by so much: the link is lost in one process and the claim read in another."""


def one_epoch_at_a_time(history: History) -> list[str]:
    """No two boards claim different epochs, or serve under different systems, at the same time."""
    watched = history.watched
    return list(watched.violations) if watched is not None else []


def epochs_never_go_back(history: History) -> list[str]:
    """No board claims an older epoch than it has claimed before."""
    latest: dict[str, int] = {}
    found = []
    for claim in history.of(WatchClaim):
        if claim.epoch is None:
            continue
        before = latest.get(claim.board, claim.epoch)
        if claim.epoch < before:
            found.append(f"{claim.board} claimed epoch {claim.epoch} after {before}, {claim.t_s:.1f} s into the trial")
        latest[claim.board] = max(before, claim.epoch)
    return found


def epochs_are_not_forgotten(history: History) -> list[str]:
    """A board that has claimed an epoch finds it on its disk when it starts again, whatever ended it."""
    claimed: dict[str, int] = {}
    boots: dict[str, str] = {}
    found = []
    for event in history.of(WatchClaim, BoardSeen):
        if isinstance(event, WatchClaim):
            claimed[event.board] = max(claimed.get(event.board, 0), event.epoch or 0)
            continue
        again = boots.get(event.board) != event.boot_id
        boots[event.board] = event.boot_id
        if again and event.epoch_at_start is not None and event.epoch_at_start < claimed.get(event.board, 0):
            found.append(
                f"{event.board} had claimed epoch {claimed[event.board]}, and found epoch {event.epoch_at_start} on "
                f"disk when it started again, {event.t_s:.1f} s into the trial"
            )
    return found


def no_older_system_is_taken(history: History) -> list[str]:
    """No board installs an older bundle than the system that it runs, however well it is signed."""
    return [
        f"{event.board} runs {event.running}, and installed the older {event.version} that it was given"
        for event in history.of(OlderBundle)
        if not event.refused
    ]


def no_claim_without_a_lease(history: History) -> list[str]:
    """A board that is cut off from its coordinator stops claiming when its lease has ended."""
    watched = history.watched
    if watched is None or watched.started_mono_s is None:
        return []
    boards = {read.board: read.spacecraft for read in history.reads}
    offset_s = _watch_offset_s(history)
    found = []
    for struck in history.struck:
        strike = struck.strike
        dark = strike.fault in ("spacecraft-dark",) and strike.target != history.wanted.gateway_spacecraft
        if not dark or struck.began_s is None or struck.ended_s is None or struck.proof != "confirmed":
            continue
        silent_from_s = struck.began_s + history.wanted.lease_s + LEASE_SLACK_S
        for board, spans in watched.claims.items():
            if boards.get(board) != strike.target:
                continue
            for start_s, end_s, epoch in spans:
                first_s, last_s = max(start_s + offset_s, silent_from_s), min(end_s + offset_s, struck.ended_s)
                if first_s < last_s:
                    found.append(
                        f"{board} claimed epoch {epoch} for {last_s - first_s:.1f} s after its lease had ended "
                        f"({strike.target} was dark from {struck.began_s:.1f} s on)"
                    )
    return found


def _watch_offset_s(history: History) -> float:
    """Return what must be added to the watcher's seconds to get those of the trial."""
    watched = history.watched
    assert watched is not None
    return watched.t_s - (watched.duration_s or 0.0)


def no_restart_of_its_own(history: History) -> list[str]:
    """A confirmed board restarts only when that was ordered, or a fault did it."""
    return unordered_restarts(history.events)


def confirmed_only_by_the_rollout(history: History) -> list[str]:
    """A new slot is confirmed only after its health check: not before the rollout began to confirm it."""
    began: set[str] = set()
    found: dict[str, str] = {}
    for event in history.of(RolloutStep, BoardSeen):
        if isinstance(event, RolloutStep):
            if event.step == "confirm" and event.phase == "start":
                began.add(event.board)
            continue
        new = event.slot and event.slot != history.initial_slots.get(event.board, event.slot)
        if new and event.confirmed and event.board not in began:
            found.setdefault(
                event.board,
                f"{event.board} was confirmed in slot {event.slot} {event.t_s:.1f} s into the trial, before any health "
                "check",
            )
    return list(found.values())


def success_was_true(history: History) -> list[str]:
    """When the rollout has reported success, every board runs the new system, from a slot that it starts again."""
    if history.success_s is None:
        return []
    found = []
    for read in history.reads:
        if not read.answers:
            continue  # a question of liveness
        if read.image_sha256 != history.wanted.image_sha256:
            found.append(
                f"{read.board} runs {read.os_version} in slot {read.slot}, although the rollout had reported success"
            )
        elif read.active != read.slot:
            found.append(f"{read.board} runs slot {read.slot} and would start slot {read.active} next")
    return found


def a_slot_can_always_be_booted(history: History) -> list[str]:
    """No board is left without a slot that it can boot."""
    return [f"{read.board} has no slot that can be booted" for read in history.reads if not any(read.bootable or (1,))]


def data_survives(history: History) -> list[str]:
    """What was synced to a data partition before the storm is there afterwards."""
    return [f"{read.board} has lost a file that was synced" for read in history.reads if read.data_intact is False]


def converged(history: History) -> list[str]:
    """All boards came to serve under one epoch by the deadline of the calm, and did so when they were read last."""
    found = []
    if history.epoch is None:
        found.append(f"the fleet did not converge: {history.unreached or 'no reason is known'}")
    for read in history.reads:
        wrong = []
        if not read.answers:
            wrong.append(f"does not answer ({read.problem})")
        else:
            if not read.healthy:
                wrong.append("is not healthy")
            if not read.confirmed:
                wrong.append("is not confirmed")
            if read.epoch != history.epoch and history.epoch is not None:
                wrong.append(
                    f"serves {'nothing' if read.epoch is None else f'epoch {read.epoch}'}, not {history.epoch}"
                )
            if read.image_sha256 != history.wanted.image_sha256:
                wrong.append(f"runs {read.os_version}")
        found += [f"{read.board} {what} at the end" for what in wrong]
    return found


SAFETY: Mapping[str, Checker] = {
    "one epoch at a time": one_epoch_at_a_time,
    "epochs never go back": epochs_never_go_back,
    "epochs are not forgotten": epochs_are_not_forgotten,
    "no claim without a lease": no_claim_without_a_lease,
    "no restart of its own": no_restart_of_its_own,
    "confirmed only after the health check": confirmed_only_by_the_rollout,
    "no older system is taken": no_older_system_is_taken,
    "success was true": success_was_true,
    "a slot can always be booted": a_slot_can_always_be_booted,
    "data survives": data_survives,
}
LIVENESS: Mapping[str, Checker] = {"converged": converged}


def check(checkers: Mapping[str, Checker], history: History) -> tuple[dict[str, list[str]], list[str]]:
    """Return what each checker found, by its name, and the checkers that failed themselves, each with its error.

    A checker that raises proves nothing about the device.
    """
    found: dict[str, list[str]] = {}
    broken = []
    for name, checker in checkers.items():
        try:
            if wrong := checker(history):
                found[name] = wrong
        except Exception as exc:
            broken.append(f"checker {name!r} failed: {type(exc).__name__}: {exc}")
    return found, broken
