"""Is the bench what it says it is?  Nothing is uploaded before this is known."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import pytest

from hil.errors import BenchError
from hil.evidence.model import at_most, equals
from hil.wait import wait_until

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.evidence.record import Recorder
    from hil.rollout.rollout import Rollout


@pytest.mark.step("boards")
@pytest.mark.retry_bench(1)
def test_six_boards_run_the_factory_os_on_two_spacecraft(bench: Bench, rollout: Rollout, verify) -> None:
    """Every board answers, runs the factory OS in slot A, and has the other slot in reserve."""
    wait_until(
        lambda: all(status.reachable for status in rollout.status(management=True)),
        what="the node services of all boards",
        deadline_s=20,
    )
    if any(rollout.bytes_at(name) for name in bench.boards):
        raise BenchError(
            f"boards of bench {bench.name} hold the bundle already, from an earlier run",
            remedy="take the bench down and up again: boards then come fresh from the factory",
        )
    identities = {name: board.identity() for name, board in bench.boards.items()}
    verify("boards", len(identities), limit=equals(6))
    verify("spacecraft", len({board.spacecraft for board in bench.boards.values()}), limit=equals(2))
    factory = bench.images.factory
    for name, identity in identities.items():
        verify(f"OS version of {name}", identity.os_version, limit=equals(factory.version))
        verify(f"slot of {name}", identity.slot, limit=equals("A"))
        verify(f"root image of {name}", identity.image_sha256, limit=equals(factory.sha256))
    verify("boot ids that differ", len({i.boot_id for i in identities.values()}), limit=equals(6))


@pytest.mark.requirement("SIX-010")
@pytest.mark.step("calibration")
@pytest.mark.needs("boards")
@pytest.mark.retry_bench(2)
def test_links_deliver_what_was_commanded(bench: Bench, recorder: Recorder, measure) -> None:
    """Delay, rate and outage of every link in each direction, on real packets."""
    from hil.links.calibrate import calibrate

    results = calibrate(bench.links)
    for result in results:
        recorder.event("link.calibration", **asdict(result))
    outside = [result for result in results if not result.ok]
    measure("quantities calibrated", len(results))
    measure("quantities outside tolerance", len(outside), limit=at_most(0))
    if outside:
        raise BenchError(
            "links are outside tolerance: " + "; ".join(str(result) for result in outside),
            remedy="a busy host spoils calibration: free it, or lower rate_bps in the lab file",
        )
