"""What the orbit, the schedule and the routes did during a run, as evidence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.bench.state import routes_log, schedule_log
from hil.evidence.events import LinkSchedule, LinkTimeline, OrbitEpoch, OrbitPicture, PhaseInterval, RoutesChanged
from hil.evidence.record import META, Recorder

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.bench.orbit_clock import OrbitClock


def record_sky(bench: Bench, recorder: Recorder) -> None:
    """Write what happened since the run began; call it once, before the bench goes down.

    Events ``route.change`` for every lab; for one with an orbit also ``orbit.epoch``, ``orbit.picture``,
    ``link.timeline`` (one per link) and ``link.schedule``, with the pictures and logs as artefacts.
    """
    began_s = _run_began_s(recorder)
    for change in _lines(routes_log(bench.name)):
        if change["mono_s"] >= began_s and change.get("changed"):
            why = ", ".join([f"{n} lost" for n in change["went"]] + [f"{n} came" for n in change["came"]])
            recorder.emit(RoutesChanged(change["changed"], why), mono_s=change["mono_s"])
    if bench.orbit is not None:
        _orbit(bench.orbit, recorder)
        _timeline(bench.orbit, recorder, began_s)
        _schedule(schedule_log(bench.name), recorder)


def _orbit(orbit: OrbitClock, recorder: Recorder) -> None:
    from hil.orbit.picture import constellation_svg
    from hil.orbit.times import iso

    constellation, lab = orbit.constellation, orbit.lab
    assert lab.orbit is not None
    recorder.emit(
        OrbitEpoch(
            name=constellation.name,
            file=lab.orbit.file,
            epoch=iso(orbit.epoch),
            zero_mono_s=round(orbit.zero_ns / 1e9, 6),
            time_factor=orbit.time_factor,
            seed=orbit.plan.seed,
            assumed=tuple(constellation.assumed),
        )
    )
    up = [lab.link(name).between for name in orbit.tracked(0.0)]
    drawing = constellation_svg(constellation, orbit.epoch, links_up=up)
    path = recorder.artefact_bytes("constellation.svg", drawing.encode(), kind="picture")
    recorder.emit(OrbitPicture(f"{path.parent.name}/{path.name}"))


def _timeline(orbit: OrbitClock, recorder: Recorder, began_s: float) -> None:
    """Phases of every link in seconds since the run began, from its beginning until now."""
    ahead_s = orbit.zero_ns / 1e9 - began_s  # the bench's zero, in seconds of the run
    now_s = orbit.now_s()
    for name in orbit.links:
        link = orbit.lab.link(name)
        intervals = tuple(
            PhaseInterval(
                interval.phase.value,
                round(interval.start_s + ahead_s, 3),
                round(min(interval.end_s, now_s) + ahead_s, 3),
                interval.why,
            )
            for interval in orbit.plan.links[name]
            if interval.start_s < now_s and interval.end_s + ahead_s > 0
        )
        recorder.emit(LinkTimeline(name, link.kind, tuple(link.between), intervals))


def _schedule(log: Path, recorder: Recorder) -> None:
    from hil.links.schedule.applied_log import summarise

    if log.exists():
        path = recorder.artefact(log, kind="schedule")
        facts: dict[str, Any] = dict(summarise(log))
        recorder.emit(LinkSchedule(**facts, file=f"{path.parent.name}/{path.name}"))


def _run_began_s(recorder: Recorder) -> float:
    """Return CLOCK_MONOTONIC of the run's beginning."""
    return float(json.loads((recorder.directory / META).read_text("utf-8"))["mono_start_s"])


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
