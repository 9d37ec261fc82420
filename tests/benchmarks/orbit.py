"""What orbits cost: contact plans of 10 to 1,584 spacecraft, link plans, rows for the link box; against skyfield.

    python -m tests.benchmarks.orbit PLANES SLOTS SPAN_S STEP_S

prints CPU time, peak memory and number of contacts of one contact plan as JSON (a process of its own, so that its
peak is its own).
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hil.core import paths
from tests.benchmarks.figures import Figure

ORBIT_S = 5_739.0
"""Period at 550 km."""
DAY_S = 86_400.0
SKYFIELD_POINTS = 300


def orbit(lab: Path) -> Iterator[Figure]:
    """Contact and link plans: CPU time, memory, growth, and the ratio to a skyfield loop.  ``lab`` is not used."""
    from hil.orbit.contact_plan import contact_plan
    from hil.orbit.elements import load_constellation
    from hil.orbit.link_phases import every_candidate, plan_links

    orbits = paths.ROOT / "lab/orbits"
    ring = load_constellation(orbits / "ring-of-ten.yaml")
    plan_s = _cpu_s(lambda: contact_plan(ring, duration_s=DAY_S, step_s=1))
    yield Figure(
        "contact plan, 10 spacecraft, 24 h at 1 s", round(plan_s, 2), "s CPU", "<= 2", "issue limit; median of 3"
    )
    points = len(ring.spacecraft) * (DAY_S + 1)
    yield Figure(
        "skyfield loop / contact plan",
        round(_skyfield_s_per_point() * points / plan_s),
        "",
        "",
        f"CPU time; positions alone by skyfield, same {points:,.0f} points; {SKYFIELD_POINTS} of them timed",
    )
    two = load_constellation(orbits / "two-planes.yaml")
    seen = every_candidate(contact_plan(two, duration_s=DAY_S, step_s=10))
    links_s = _cpu_s(lambda: plan_links(two, seen, start=two.epoch, span_s=DAY_S, seed=1))
    yield Figure(
        "link plan with its contacts, two planes, 24 h at 1 s",
        round(links_s, 2),
        "s CPU",
        "<= 3",
        f"{len(seen)} links; median of 3",
    )
    yield from _rows()
    yield from _growth()


def _rows() -> Iterator[Figure]:
    """Rows of a minute of 35 links of which many are up and move by up to 31 us/s."""
    from hil.orbit.elements import load_constellation
    from hil.orbit.link_phases import plan_links
    from hil.orbit.phases import Candidate
    from hil.orbit.sampled import samples

    two = load_constellation(paths.ROOT / "lab/orbits/two-planes.yaml")
    first, second = two.spacecraft[:5], two.spacecraft[5:]
    links = [Candidate(f"{a}--{b}", "crosslink", a, b) for a in first for b in second]
    links += [Candidate(f"{a}--gs-1", "ground", a, "gs-1") for a in two.spacecraft]
    plan = plan_links(two, links, start=two.epoch, span_s=7200, seed=1)
    took_s = _cpu_s(lambda: samples(two, links, plan, from_s=1000, to_s=1060), rounds=11)
    rows = len(samples(two, links, plan, from_s=1000, to_s=1060))
    yield Figure(
        "rows for the link box, 60 s of 35 links",
        round(1000 * took_s, 1),
        "ms CPU",
        "<= 30",
        f"{rows:,} rows; median of 11",
    )


def _growth() -> Iterator[Figure]:
    """One orbit at 10 s of shells of 10, 100, 1,000 and 1,584 spacecraft at 550 km."""
    measured = {
        count: _measure(planes, count // planes) for count, planes in ((10, 2), (100, 10), (1000, 40), (1584, 72))
    }
    large = measured[1584]
    same = "one orbit at 10 s, same span"
    yield Figure(
        "contact plan, 1,584 spacecraft, one orbit at 10 s",
        round(large["cpu_s"], 1),
        "s CPU",
        "<= 60",
        f"issue limit; {large['contacts']:,} contacts",
    )
    yield Figure("its peak memory", round(large["peak_mb"]), "MB", "<= 512", "whole process, Python and numpy included")
    for few, many in ((10, 100), (100, 1000)):
        a, b = measured[few], measured[many]
        yield Figure(
            f"cost of {many:,} / {few:,} spacecraft",
            round(b["cpu_s"] / a["cpu_s"], 1),
            "",
            "",
            f"CPU time; contacts grow {b['contacts'] / max(a['contacts'], 1):.0f} times; {same}",
        )


def _cpu_s(work: Callable[[], object], rounds: int = 3) -> float:
    took = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        took.append(time.process_time() - begin)
    return statistics.median(took)


def _skyfield_s_per_point() -> float:
    """CPU seconds of one position, spacecraft by spacecraft and moment by moment, as one would write it first."""
    from sgp4.exporter import export_tle
    from skyfield.api import EarthSatellite, load

    from hil.orbit.elements import load_constellation

    ring = load_constellation(paths.ROOT / "lab/orbits/ring-of-ten.yaml")
    scale = load.timescale(builtin=True)
    craft = [EarthSatellite(*export_tle(found), "", scale) for found in ring.element_sets]
    _ = craft[0].at(scale.utc(2026, 3, 21)).position.km  # what is computed once, it computes here
    begin = time.process_time()
    for k in range(SKYFIELD_POINTS):
        _ = craft[k % len(craft)].at(scale.utc(2026, 3, 21, 0, 0, k)).position.km
    return (time.process_time() - begin) / SKYFIELD_POINTS


def _measure(planes: int, slots: int) -> dict[str, Any]:
    argv = [sys.executable, "-m", "tests.benchmarks.orbit", str(planes), str(slots), str(ORBIT_S), "10"]
    done = subprocess.run(argv, cwd=paths.ROOT, capture_output=True, text=True, timeout=600, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(planes: int, slots: int, span_s: float, step_s: float) -> None:
    """One contact plan of a shell at 550 km and 53 degrees; prints what it took."""
    from hil.orbit.contact_plan import contact_arrays
    from hil.orbit.elements import Constellation, shell_elements
    from hil.orbit.model import Shell

    epoch = datetime(2026, 3, 21, tzinfo=UTC)
    shell = Shell(
        planes=planes,
        slots_per_plane=slots,
        altitude_km=550.0,
        inclination_deg=53.0,
        raan_deg=0.0,
        phase_deg=2.5,
        spare_slots=(),
    )
    sets = tuple(shell_elements(shell, epoch))
    found = Constellation("shell", epoch, tuple(f"s{k}" for k in range(len(sets))), sets)
    begin = time.process_time()
    contacts = contact_arrays(found, epoch, duration_s=span_s, step_s=step_s)
    took_s = time.process_time() - begin
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s": took_s, "peak_mb": peak_mb, "contacts": len(contacts)}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
