"""Six boards that never pause: duty, heat, exactly-once results and silent errors."""

from __future__ import annotations

import time

import pytest

from hil.errors import BenchError
from hil.evidence.model import at_least, at_most, equals

SERVING_S = 60.0
STREAM_S = 60.0
FAULT_S = 45.0
IDLE_S = 3.0
PAUSE_S = 10.0
"""A board that lives finishes its next tile within this time: five seconds, and as much for a tile at a slow clock."""


@pytest.fixture(scope="module")
def servers(bench, fleet, rollout, payload):
    """Every board as a server of tiles, under one epoch."""
    from hil.rollout.tile_servers import NodeTileServer

    rollout.distribute(payload.model)
    version = bench.gateway.identity().os_version
    config = fleet.config(os_version=version, model=payload.model.sha256, params={"revision": 1})
    epoch = rollout.configure(config, wait_for=())
    rollout.serving_together(epoch, deadline_s=SERVING_S)
    # Two at a time for each board: while one tile is computed, the next one travels.
    found = [NodeTileServer(fleet, name, epoch, bench.plumbing.namespace) for name in fleet.names for _ in range(2)]
    yield found
    for server in found:
        server.close()


@pytest.fixture(scope="module")
def pictures(payload):
    """Tiles of the scene, and the raw outputs that they must give."""
    from hil.workload.pictures import pictures_of

    return pictures_of(payload)


@pytest.fixture(scope="module")
def streamed(bench, servers, pictures):
    """A stream over all boards: (report, cores of this host that were idle before it, energy by board in Wh)."""
    from hil.core.processes import idle_cores
    from hil.workload.stream import TileStream

    tiles, known = pictures
    idle, before = idle_cores(IDLE_S), _energy_wh(bench)
    report = TileStream(servers, tiles, known=known, known_every=20, again_every=10).run(STREAM_S)
    return report, idle, {name: after - before[name] for name, after in _energy_wh(bench).items()}


@pytest.mark.requirement("ALW-020")
@pytest.mark.step("stream")
def test_every_tile_of_both_cameras_counts_once_and_is_right(bench, streamed, verify, measure):
    """Each camera fills its queue as fast as its boards empty it."""
    report, _, energy_wh = streamed
    for name, board in report.boards.items():
        measure("tiles per second", round(board.tiles / report.seconds, 3), "1/s", board=name)
    for name, spent_wh in energy_wh.items():
        joules = spent_wh * 3600 / bench.lab.twin.time_factor
        measure("energy per tile", round(joules / max(1, report.boards[name].tiles), 2), "J", board=name)
    measure("tiles per second, all boards", round(report.tiles_per_s, 3), "1/s")
    measure("latency, median", round(report.latency_s(0.5), 3), "s")
    measure("latency, 99 %", round(report.latency_s(0.99), 3), "s")
    measure("bytes of results per byte of raw data", round(report.result_bytes / max(1, report.raw_bytes), 5))
    measure("answers compared with a known one or a second board", report.checks)
    verify("tiles lost", len(report.lost), limit=equals(0))
    verify("tiles counted twice", report.duplicates, limit=equals(0))
    verify("raw outputs that differ from the reference", len(report.wrong), limit=equals(0))


@pytest.mark.requirement("ALW-010")
@pytest.mark.step("duty")
@pytest.mark.needs("stream")
def test_six_boards_compute_without_a_pause(bench, streamed, verify):
    """The share of the time in which a board's network ran while the cameras did."""
    report, idle, _ = streamed
    _require_idle_host(bench, idle)
    for name, board in report.boards.items():
        verify("duty", round(board.duty(report.fed_s), 3), limit=at_least(0.95), board=name)


def _require_idle_host(bench, idle):
    """Raise BenchError when container boards cannot get the processor time that their clocks allow."""
    from hil.bench.twin import board_cores

    if bench.lab.twin is None or not any(board.contained for board in bench.lab.boards):
        return
    wanted = board_cores(bench.lab) * sum(board.contained for board in bench.lab.boards)
    if idle < 0.9 * wanted:
        raise BenchError(
            f"this host has {idle:.1f} cores idle, and the boards may use {wanted:.1f}: their duty would be its own",
            remedy="end what else runs here, or lower twin.board_cores in the lab file",
        )


def _energy_wh(bench):
    """Energy of each board so far, in mission time, by the twin; nothing where there is none."""
    from hil.bench.twin_journal import last_samples

    return {name: board.energy_wh for sample in last_samples(bench.name) for name, board in sample.boards.items()}


@pytest.mark.requirement("SIX-150")
@pytest.mark.step("steady")
@pytest.mark.needs("stream")
def test_all_boards_stay_below_the_throttle_trip_point(bench, servers, verify, measure):
    """By the twin on container boards, by their own sensors on real ones."""
    from hil.bench.twin_journal import last_samples

    samples = last_samples(bench.name)
    if not samples:
        raise BenchError(f"lab {bench.lab.name} has no twin in the loop", remedy="use --lab always-on")
    for sample in samples:
        for name, board in sample.boards.items():
            verify("peak of the junction", board.peak_c, "C", limit=at_most(98.0), board=name)
            verify("time throttled", board.throttled_s, "s", limit=equals(0.0), board=name)
            measure("energy", board.energy_wh, "Wh", board=name)
        measure("lowest charge of the battery", sample.lowest_charge)


@pytest.mark.requirement("ALW-030")
@pytest.mark.step("faults")
@pytest.mark.needs("stream")
def test_a_board_that_dies_and_a_cut_crosslink_lose_nothing(
    bench, participants, rollout, servers, pictures, crosslink, verify, measure
):
    """Ten seconds without the crosslink, and a board without power for them."""
    from hil.workload.stream import TileStream

    victim = next(s.board for s in reversed(servers) if s.spacecraft == participants.far)

    def break_it() -> None:
        time.sleep(FAULT_S / 4)
        bench.boards[victim].supervisor.cut()
        bench.links.cut(crosslink)
        try:
            time.sleep(10.0)
        finally:
            bench.links.restore(crosslink)
            bench.boards[victim].supervisor.on()

    tiles, known = pictures
    report = TileStream(servers, tiles, known=known).run(FAULT_S, during=break_it)
    rollout.serving_together(servers[0].epoch, deadline_s=SERVING_S)
    for name, board in report.boards.items():
        if name != victim and len(board.done_s) > 1:
            pauses = [late - early for early, late in zip(board.done_s, board.done_s[1:], strict=False)]
            verify("longest pause between two tiles", round(max(pauses), 2), "s", limit=at_most(PAUSE_S), board=name)
    measure("tiles done while a board was dead and the crosslink cut", len(report.results))
    measure("failures of the board that died", report.boards[victim].failures, board=victim)
    verify("tiles lost", len(report.lost), limit=equals(0))
    verify("tiles counted twice", report.duplicates, limit=equals(0))
    verify("raw outputs that differ from the reference", len(report.wrong), limit=equals(0))


@pytest.mark.requirement("ALW-040")
@pytest.mark.step("flip")
@pytest.mark.needs("stream")
def test_a_flip_in_the_stored_weights_is_named_with_its_board(bench, fleet, servers, payload, verify, measure):
    """One bit of the model's file on one board; every board is asked to read its file again."""
    from hil.rollout.tile_servers import flipped_weights

    asked = servers[::2]
    verify("boards with changed weights before", len(flipped_weights(asked)), limit=equals(0))
    name = fleet.gateway
    _flip(bench.boards[name], payload.model.sha256)
    try:
        start_s = time.monotonic()
        changed = flipped_weights(asked)
        measure("time to ask all boards", round(time.monotonic() - start_s, 3), "s")
    finally:
        _flip(bench.boards[name], payload.model.sha256)  # once more, and it is as it was
    verify("boards named", ", ".join(sorted(changed)), limit=equals(name))


def _flip(board, model):
    """Flip one bit of a board's file of a model."""
    script = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(1000000); b = f.read(1)[0]; f.seek(1000000); "
    script += "f.write(bytes([b ^ 16]))"
    with board.shell() as shell:
        found = shell.run(["sh", "-c", f"find /data -type f -path '*{model}*' -size +1000k"]).stdout
        for path in found.split():
            shell.run(["python3", "-c", script, path])
