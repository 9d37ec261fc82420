"""Six boards that never pause: duty, heat, exactly-once results, faults, a capped phase and silent errors."""

from __future__ import annotations

import time

import pytest

from hil.evidence.model import at_most, equals

BACK_S = 5.0
"""A board that lives computes again so soon after the crosslink is back."""
CUT_S = 10.0


@pytest.fixture(scope="module")
def streamed(tiles, parameters):
    """The long stream over all boards, with known tiles, second looks and the watch over stored weights."""
    with tiles.weight_watch(parameters["weights_every_s"]) as watch:
        done = tiles.run(parameters["stream_s"], known_every=20, again_every=10)
    return done, watch


@pytest.mark.requirement("ALW-020")
@pytest.mark.step("stream")
def test_every_tile_of_both_cameras_counts_once_and_is_right(streamed, measure):
    """Each camera fills its queue as fast as its boards empty it."""
    from hil.workload.judges import judge_tiles, state_speed

    done, watch = streamed
    state_speed(done.report, done.heat, measure)
    judge_tiles(done.report, measure)
    measure("stored weights read", watch.checks)
    measure("stored weights that had changed", len(watch.flips), limit=equals(0))


@pytest.mark.requirement("ALW-010")
@pytest.mark.step("duty")
@pytest.mark.needs("stream")
def test_six_boards_compute_without_a_pause(tiles, streamed, measure):
    """The share of the time in which a tile was in a board's network, while the cameras ran."""
    from hil.workload.judges import judge_duty

    done, _ = streamed
    judge_duty(done.report, done.heat, measure, contained=tiles.contained)


@pytest.mark.requirement("SIX-150")
@pytest.mark.step("steady")
@pytest.mark.needs("stream")
def test_all_boards_reach_a_steady_temperature_below_the_throttle_trip_point(tiles, streamed, parameters, measure):
    """By the twin on container boards, by their own sensors on real ones."""
    from hil.workload.judges import judge_heat

    done, _ = streamed
    judge_heat(done.heat, measure, contained=tiles.contained, orbits=parameters["orbits"])


@pytest.mark.requirement("ALW-060")
@pytest.mark.step("loadgen")
@pytest.mark.needs("stream")
def test_tiles_that_come_at_random_moments_are_answered_in_time(streamed, tiles, parameters, measure):
    """LoadGen asks for one tile at a time, for all at once, and at random moments."""
    pytest.importorskip("mlperf_loadgen", reason="there is no LoadGen for this machine")
    from hil.workload.judges import judge_scenarios
    from hil.workload.loadgen import SCENARIOS, run_scenario

    per_s = streamed[0].report.tiles_per_s
    found = [
        run_scenario(name, tiles.servers, tiles.pictures, seconds=parameters["loadgen_s"], per_s=share * per_s)
        for name, share in SCENARIOS.items()
    ]
    judge_scenarios(found, measure, spread=parameters["loadgen_spread"])


@pytest.mark.requirement("ALW-030")
@pytest.mark.step("faults")
@pytest.mark.needs("stream")
def test_a_board_that_dies_and_a_cut_crosslink_lose_nothing(
    bench, participants, rollout, tiles, crosslink, parameters, measure
):
    """Ten seconds without the crosslink, and a board without power for them."""
    from hil.workload.judges import judge_return, judge_tiles

    victim = next(s.board for s in reversed(tiles.servers) if s.spacecraft == participants.far)
    whole_s = []

    def break_it() -> None:
        time.sleep(parameters["faults_s"] / 4)
        bench.boards[victim].supervisor.cut()
        bench.links.cut(crosslink)
        try:
            time.sleep(CUT_S)
        finally:
            bench.links.restore(crosslink)
            whole_s.append(tiles.stream.seconds)
            bench.boards[victim].supervisor.on()

    report = tiles.run(parameters["faults_s"], during=break_it).report
    rollout.serving_together(tiles.epoch, deadline_s=60.0)
    judge_tiles(report, measure)
    measure("failures of the board that died", report.boards[victim].failures, board=victim)
    back_s = report.boards[victim].back_s(whole_s[0])
    measure("until the board that died computes again", round(back_s or report.seconds, 2), "s", board=victim)
    judge_return(report, whole_s[0], sorted({*report.boards} - {victim}), measure, within_s=BACK_S)


@pytest.mark.requirement("ALW-050")
@pytest.mark.step("cap")
@pytest.mark.needs("stream")
def test_the_backlog_of_a_capped_phase_is_worked_off(streamed, tiles, parameters, measure):
    """Cameras at a fixed rate; the OS caps all boards for a while, then the backlog goes."""
    from hil.workload.judges import judge_recovery

    cap_s, lifted_s = parameters["cap_s"], []
    rate = parameters["cap_load"] * streamed[0].report.tiles_per_s / len({s.spacecraft for s in tiles.servers})

    def cap() -> None:
        time.sleep(5.0)
        with tiles.capped(parameters["cap_share"]):
            time.sleep(cap_s)
        lifted_s.append(tiles.stream.seconds)

    # Long enough for a backlog that is worked off at half the speed that is to be expected
    report = tiles.run(5.0 + cap_s * (1 + parameters["cap_window"]), during=cap, camera_per_s=rate, queue=10_000).report
    judge_recovery(report, lifted_s[0], cap_s, measure, within=parameters["cap_window"])


@pytest.mark.requirement("ALW-040")
@pytest.mark.step("flip")
@pytest.mark.needs("stream")
def test_a_flip_in_the_stored_weights_is_named_with_its_board(participants, tiles, payload, parameters, measure):
    """One bit of the model's file on a board of each spacecraft, while all compute."""
    from hil.workload.judges import judge_rest

    every_s = parameters["weights_every_s"]
    chosen = [
        next(s.board for s in reversed(tiles.servers) if s.spacecraft == craft) for craft in participants.spacecraft
    ]
    flipped_s = {}

    with tiles.weight_watch(every_s) as watch:

        def flip() -> None:
            for name in chosen:
                with tiles.flipped(name, payload.model.sha256):
                    flipped_s[name] = time.monotonic()
                    watch.wait_for(name, deadline_s=2 * every_s)

        report = tiles.run(2.5 * every_s, during=flip).report
    for name in chosen:
        found = [flip.found_s for flip in watch.flips if flip.board == name]
        took_s = found[0] - flipped_s[name] if found else 2 * every_s
        measure("time until the flip was named", round(took_s, 1), "s", limit=at_most(every_s + 2.0), board=name)
    named = ", ".join(sorted({flip.board for flip in watch.flips}))
    measure("boards named", named, limit=equals(", ".join(sorted(chosen))))
    judge_rest(report, measure)
