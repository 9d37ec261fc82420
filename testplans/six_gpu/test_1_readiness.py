"""Is the bench what it says it is?  Nothing is uploaded before this is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hil.core.wait import wait_until
from hil.errors import BenchError, Blame, ConfigurationError
from hil.evidence.model import at_least, equals
from hil.faults.links import usable_now, way_from_ground
from hil.images.bundles import BundleKind
from hil.rollout.earlier_uploads import clear

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Board
    from hil.evidence.record import Recorder
    from hil.faults.links import LinkSet
    from hil.images.bundles import BundleSet
    from hil.rollout.fleet import Fleet
    from hil.rollout.participants import Participants
    from hil.rollout.rollout import Rollout
    from hil.rollout.uninvolved_boards import UninvolvedBoards
    from hil.workload.artefacts import PayloadArtefacts

SIX = 6


@pytest.mark.step("boards")
@pytest.mark.retry_bench(1)
def test_six_boards_run_the_factory_os_on_two_spacecraft(
    bench: Bench,
    boards: dict[str, Board],
    participants: Participants,
    separation: LinkSet,
    rollout: Rollout,
    fleet: Fleet,
    bundles: BundleSet,
    payload: PayloadArtefacts,
    uninvolved_boards: UninvolvedBoards,
    verify,
    measure,
) -> None:
    """Every board answers, runs the factory OS in slot A, and has the other slot in reserve."""
    if way_from_ground(bench, participants.near) is None:
        raise BenchError(
            f"nothing leads from the ground to {participants.near} now", remedy="choose another --epoch, or --on"
        )
    if way_from_ground(bench, participants.near, without=separation.names) is None:
        raise ConfigurationError(
            f"the ground reaches {participants.near} only through {participants.far} now, which is to be cut off",
            remedy=f"name {participants.far} first in --on, or choose another --epoch",
        )
    silent: list[str] = []

    def all_answer() -> bool:
        silent[:] = [name for name, health in rollout.status(management=True).items() if health is None]
        return not silent

    try:
        wait_until(all_answer, what="the node services of all boards", deadline_s=20)
    except BenchError as exc:
        raise BenchError(
            f"no node service answers on {', '.join(silent)}: {exc.message}",
            remedy="it listens on port 8470 of the board's management and flight address, without a jump host",
        ) from exc
    wait_until(
        uninvolved_boards.answer, what="the node services of the boards that take no part", deadline_s=60, every_s=0.5
    )
    cleared = clear(
        fleet, [*(bundles.bundle(kind).sha256 for kind in BundleKind), payload.model.sha256, payload.scene.sha256]
    )
    measure("artefacts of an earlier run that were removed", sum(cleared.values()))
    identities = {name: board.identity() for name, board in boards.items()}
    verify("boards", len(identities), limit=equals(SIX))
    verify("spacecraft", len({board.spacecraft for board in boards.values()}), limit=equals(2))
    measure("crosslinks between the two spacecraft, end to end", len(participants.way))
    measure("boards that take no part", len(participants.others))
    factory = bench.images.factory
    for name, identity in identities.items():  # a wrong one is the bench's fault: nothing was under test yet
        for what, value, wanted in (
            ("os_version", identity.os_version, factory.version),
            ("running_slot", identity.slot, "A"),
            ("image_sha256", identity.image_sha256, factory.sha256),
        ):
            verify(what, value, limit=equals(wanted), blame=Blame.BENCH, board=name)
    verify("boot ids that differ", len({i.boot_id for i in identities.values()}), limit=equals(SIX))


@pytest.mark.requirement("SIX-010")
@pytest.mark.step("calibration")
@pytest.mark.needs("boards")
@pytest.mark.retry_bench(2)
def test_links_deliver_what_was_commanded(
    bench: Bench, participants: Participants, recorder: Recorder, measure
) -> None:
    """Delay, rate and outage of every link that matters in each direction, on real packets."""
    from hil.links.calibration.calibrate import calibrate
    from hil.rollout.participants import links_that_matter

    names = links_that_matter(bench.lab, participants, usable_now(bench))
    measure("links calibrated", len(names), limit=at_least(1))
    figures = calibrate(bench.links, links=names)
    for figure in figures:  # each is a measurement of this test
        recorder.emit(figure)
    if outside := [figure for figure in figures if not figure.ok]:
        raise BenchError(
            "links are outside tolerance: " + "; ".join(str(figure) for figure in outside),
            remedy="a busy host spoils calibration: free it, or lower rate_bps in the lab file",
        )
