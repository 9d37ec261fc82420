"""The bundle reaches all six boards, through outages, and nothing is sent twice."""

from __future__ import annotations

import pytest

from hil.evidence.model import at_least, equals
from hil.faults.strike import outage, strike

OUTAGE_S = 2.0
PART = 0.3
"""How much of an artefact has arrived when the link is lost."""

pytestmark = pytest.mark.needs("calibration")


@pytest.mark.requirement("SIX-020")
@pytest.mark.step("upload")
def test_the_bundle_arrives_whole_on_the_gateway(rollout, fleet, verify):
    """Ground station to gateway board over the ground link; the gateway compares the hash."""
    transfer = rollout.upload()
    verify("received by", transfer.board, limit=equals(fleet.gateway))
    verify("bytes received", transfer.bytes_received, "B", limit=equals(rollout.bundle.size_bytes))


@pytest.mark.requirement("SIX-030")
@pytest.mark.step("upload outage")
@pytest.mark.needs("upload")
def test_an_upload_resumes_after_the_ground_link_was_lost(
    rollout, fleet, links, ground_link, payload, recorder, verify, measure
):
    """The AI model is uploaded; the ground link is lost for two seconds on the way."""
    model = payload.model
    struck = strike(
        lambda: rollout.upload(model),
        outage(links, ground_link, OUTAGE_S),
        progress=lambda: rollout.bytes_at(fleet.gateway, model),
        threshold=int(model.size_bytes * PART),
        what="ground link lost during the upload",
        sink=recorder,
    )
    transfer = struck.unwrap()
    measure("bytes there when the link was lost", struck.at, "B")
    verify("connections used", transfer.connections, limit=at_least(2))
    verify("bytes received", transfer.bytes_received, "B", limit=equals(model.size_bytes))


@pytest.mark.requirement("SIX-030", "SIX-040")
@pytest.mark.step("relay")
@pytest.mark.needs("upload")
def test_the_bundle_crosses_the_crosslink_once_even_when_that_is_lost_on_the_way(
    rollout, fleet, links, crosslink, recorder, verify, measure
):
    """Gateway to the other spacecraft, then from board to board there; the crosslink is lost for two seconds."""
    far_head = fleet.far_heads()[0].name
    size = rollout.bundle.size_bytes
    before = links.bytes_sent(crosslink)
    struck = strike(
        rollout.relay,
        outage(links, crosslink, OUTAGE_S),
        progress=lambda: rollout.bytes_at(far_head),
        threshold=int(size * PART),
        what="crosslink lost during the relay",
        sink=recorder,
    )
    crossed = links.bytes_sent(crosslink) - before
    measure("bytes there when the link was lost", struck.at, "B")
    for transfer in struck.unwrap():
        verify(f"bytes received by {transfer.board}", transfer.bytes_received, "B", limit=equals(size))
        crossing = fleet.member(transfer.source).spacecraft != fleet.member(transfer.board).spacecraft
        verify(
            f"{transfer.board} was fed across the crosslink",
            crossing,
            limit=equals(transfer.board == far_head),
        )
    # On the wire frames have headers, and what was in flight when the link was lost is sent again.
    verify("whole bundles that went into the crosslink", crossed // size, limit=equals(1))
    measure("bytes into the crosslink / bundle", round(crossed / size, 3))
