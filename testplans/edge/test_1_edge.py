"""A day of passes, computed; and some of them played on the bench, with bytes from a board to the ground."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from hil.evidence.model import at_least, at_most, equals


@pytest.fixture(scope="module")
def day(parameters):
    """The contact plan of the ring of ten, and the names of its spacecraft."""
    from hil.core import paths
    from hil.orbit.contact_plan import contact_plan
    from hil.orbit.elements import load_constellation

    ring = load_constellation(paths.shipped("lab") / "orbits" / "ring-of-ten.yaml")
    return contact_plan(ring, ring.epoch, duration_s=parameters["span_s"], step_s=10.0), ring.spacecraft


@pytest.fixture(scope="module")
def tile_bytes(payload):
    """Bytes of a raw tile, and of its result as it goes down: two bits per pixel, compressed; means over the scene."""
    from hil.workload.compare import read_mask
    from hil.workload.pictures import packed, pictures_of

    pictures, _ = pictures_of(payload)
    results = packed(read_mask(payload.golden))
    return sum(map(len, pictures)) / len(pictures), sum(map(len, results)) / len(results)


@pytest.mark.requirement("EDG-010", "EDG-020")
@pytest.mark.step("day")
def test_a_day_of_results_comes_down_and_a_day_of_raw_data_does_not(day, tile_bytes, parameters, measure):
    """Ten spacecraft over one station; what does not fit is what is left when a spacecraft's last pass ends."""
    from hil.orbit.downlink import downlink

    plan, spacecraft = day
    raw, results = (
        downlink(plan, spacecraft, parameters["tiles_per_s"] * each, efficiency=parameters["efficiency"])
        for each in tile_bytes
    )
    measure("passes", raw.passes)
    measure("contact", round(raw.contact_s / 3600, 2), "h")
    measure("bytes of results per byte of raw data", round(tile_bytes[1] / tile_bytes[0], 6))
    for name, found in (("raw data", raw), ("results", results)):
        measure(f"{name} made", round(found.made / 1e9, 2), "GB")
        measure(f"{name} that came down", round(found.sent / 1e9, 2), "GB")
        measure(f"{name} made since the last pass", round((found.left - found.unfit) / 1e9, 2), "GB")
    measure("results that did not fit into the passes", round(results.unfit / 1e9, 3), "GB", limit=equals(0.0))
    measure("raw data that did not fit into the passes", round(raw.unfit / 1e9, 2), "GB", limit=at_least(0.01))
    measure("share of the raw data that came down", round(raw.fits, 4), limit=at_most(0.999))


@pytest.mark.requirement("EDG-030")
@pytest.mark.step("passes")
@pytest.mark.needs("day")
def test_played_passes_carry_what_was_computed(
    bench, day, fleet, ground, ground_link, rollout, payload, tile_bytes, parameters, measure
):
    """Raw tiles come down from the gateway board as long as a pass lasts, and nothing does in between."""
    from hil.boards.protocol import Via
    from hil.errors import HilError
    from hil.rollout.node_client import NodeClient

    plan, spacecraft = day
    own = [c for c in plan.contacts if c.kind == "ground" and spacecraft[0] in (c.a, c.b)]
    longest = sorted(own, key=lambda contact: -contact.duration_s)[: int(parameters["passes"])]
    rollout.upload(payload.scene)
    rate_bps = next(link.rate_bps for link in bench.lab.links if link.name == ground_link)
    ground.cut(why="no pass")
    for number, contact in enumerate(sorted(longest, key=lambda contact: contact.start_s), start=1):
        seconds, carried = contact.duration_s / parameters["shortened"], 0
        with NodeClient(fleet, fleet.gateway, Via.FLIGHT, timeout_s=seconds) as client:
            ground.restore(why=f"pass {number}, {parameters['shortened']:g} times shorter")
            end_s = time.monotonic() + seconds
            while (left_s := end_s - time.monotonic()) > 0:
                with suppress(HilError):
                    status, content = client.raw("GET", f"/artefacts/{payload.scene.sha256}/data", timeout_s=left_s)
                    carried += len(content) if status == 200 else 0
        ground.cut(why="no pass")
        share = carried / (rate_bps / 8 * seconds)
        measure("length as it was played", round(seconds, 1), "s", slot=f"pass {number}")
        measure("came down", round(carried / 1e6, 1), "MB", slot=f"pass {number}")
        measure("raw tiles in it", int(carried / tile_bytes[0]), slot=f"pass {number}")
        measure("results that would have fitted", int(carried / tile_bytes[1]), slot=f"pass {number}")
        limit = at_least(parameters["least_carried"])
        measure("share of rate times time", round(share, 3), limit=limit, slot=f"pass {number}")
    ground.restore()
