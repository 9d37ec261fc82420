"""The new OS on one spacecraft after the other, with a stream of tiles that goes on."""

from __future__ import annotations

import time

import pytest

from hil.evidence.model import equals


@pytest.fixture(scope="module")
def promoted(participants, fleet, rollout, payload, tiles, parameters):
    """The report of the stream, and the epoch under which all serve at the end."""
    by_craft = {
        craft: [n for n in fleet.names if fleet.member(n).spacecraft == craft] for craft in participants.spacecraft
    }
    near, far = by_craft.values()  # the gateway board is near: it restarts last
    epochs = []

    def promote() -> None:
        time.sleep(parameters["alone_s"])
        rollout.distribute()
        rollout.install()
        tiles.stream.pause(far)
        rollout.activate(far)
        tiles.stream.pause(near)  # they may not serve under the new OS's epoch
        config = fleet.config(
            os_version=rollout.bundle.version,
            model=payload.model.sha256,
            params={"revision": 2, "lease_s": parameters["lease_s"]},
        )
        epochs.append(rollout.configure(config, wait_for=far))
        tiles.serve_under(epochs[0])
        tiles.stream.resume(far)
        rollout.activate(near)
        rollout.serving_together(epochs[0], deadline_s=60.0)
        tiles.stream.resume(near)
        time.sleep(parameters["alone_s"])

    return tiles.run(2 * parameters["alone_s"], during=promote, until_done=True).report, epochs[0]


@pytest.mark.requirement("STP-010", "STP-020")
@pytest.mark.step("promote")
def test_no_request_fails_and_the_throughput_stays_above_its_bound(promoted, parameters, measure):
    """Boards that are to restart get no more tiles; the others take all."""
    from hil.workload.judges import judge_throughput, judge_tiles

    report, _ = promoted
    judge_throughput(
        report,
        measure,
        full_s=parameters["alone_s"],
        window_s=parameters["window_s"],
        least_share=parameters["least_share"],
    )
    for name, board in report.boards.items():
        measure("failed requests", board.failures, limit=equals(0), board=name)
    judge_tiles(report, measure)


@pytest.mark.requirement("STP-030")
@pytest.mark.step("fleet")
@pytest.mark.needs("promote")
def test_the_whole_fleet_runs_the_new_os_and_serves(promoted, rollout, boards, bundles, measure):
    """Six boards on the new OS, confirmed, under one epoch."""
    for name, board in boards.items():
        measure("os_version", board.identity().os_version, limit=equals(bundles.os_v2.version), board=name)
    rollout.serving_together(promoted[1])
