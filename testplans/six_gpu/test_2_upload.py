"""The bundle reaches all six boards, through outages, and nothing is sent twice."""

from __future__ import annotations

import pytest

from hil.errors import BenchError, Blame
from hil.evidence.model import at_least, at_most, equals
from hil.faults.gap_kinds import across_gap
from hil.faults.inject import outage, strike
from hil.faults.links import LinkSet, usable_now
from hil.lab.routes import path
from hil.rollout.contact_gaps import transfer_s, upcoming

OUTAGE_S = 2.0
PART = 0.3
"""How much of an artefact has arrived when the link is lost."""

CLOSING_WITHIN_S = 600.0
"""A contact that ends by plan within this time is waited for, instead of an outage on command."""
ORDERS_S = 0.3
"""From the order to relay until the first byte is under way."""
RESUME_S = 10.0
SENT_AGAIN = 1.5
"""Of what crosses once, at most so much is on the wire: headers, and what was in flight when the link was lost."""

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
def test_an_upload_resumes_after_the_ground_link_was_lost(rollout, fleet, ground, payload, recorder, verify, measure):
    """The AI model is uploaded; every ground link is lost for two seconds on the way."""
    model = payload.model
    struck = strike(
        lambda: rollout.upload(model),
        outage(ground, OUTAGE_S),
        progress=lambda: rollout.bytes_at(fleet.gateway, model),
        threshold=int(model.size_bytes * PART),
        what="ground link lost during the upload",
        sink=recorder,
    )
    transfer = struck.unwrap()
    measure("bytes there when the link was lost", struck.at, "B")
    verify("connections used", transfer.connections, limit=at_least(2))
    verify("bytes received", transfer.bytes_received, "B", limit=equals(model.size_bytes))


@pytest.fixture
def relay_interrupted(bench, participants, separation, rollout, fleet, recorder, tell, measure):
    """Relays the bundle with the contact lost on the way: by plan where it ends soon, else on command."""

    def relayed():
        far_head, size = fleet.far_heads()[0].name, rollout.bundle.size_bytes
        lead_s = PART * transfer_s(bench.lab, participants.way, size) + ORDERS_S
        planned = []
        if bench.orbit is not None:
            planned = upcoming(bench.orbit, bench.lab, *participants.spacecraft, within_s=CLOSING_WITHIN_S)
        # A contact that ends this very moment leaves no time to begin before it.
        planned = [gap for gap in planned if gap.closes_s > bench.orbit.now_s() + lead_s + 1.0]
        if planned:
            done = across_gap(
                rollout.relay,
                planned[0],
                orbit=bench.orbit,
                lead_s=lead_s,
                progress=lambda: rollout.bytes_at(far_head),
                whole=size,
                what="contact closed by plan during the relay",
                sink=recorder,
                tell=tell,
            )
            measure("bytes there when the contact ended", done.at_close, "B")
            measure("planned length of the gap", round(planned[0].length_s, 3), "s")
            measure(
                "bytes again after the contact reopened", round(done.again_after_s, 3), "s", limit=at_most(RESUME_S)
            )
            return done.result
        struck = strike(
            rollout.relay,
            outage(separation, OUTAGE_S),
            progress=lambda: rollout.bytes_at(far_head),
            threshold=int(size * PART),
            what="crosslink lost during the relay",
            sink=recorder,
        )
        measure("bytes there when the contact ended", struck.at, "B")
        return struck.unwrap()

    return relayed


@pytest.mark.requirement("SIX-030", "SIX-040")
@pytest.mark.step("relay")
@pytest.mark.needs("upload")
def test_the_bundle_crosses_once_even_when_the_contact_ends_on_the_way(
    relay_interrupted, rollout, fleet, separation, verify, measure
):
    """Gateway to the other spacecraft, then from board to board there; the contact is lost for a while."""
    size, before = rollout.bundle.size_bytes, separation.bytes_into()
    transfers = relay_interrupted()
    verify_fed_once(transfers, fleet, size, verify)
    # On the wire frames have headers, and what was in flight when the link was lost is sent again.
    crossed = separation.bytes_into() - before
    verify("whole bundles that went into the other spacecraft", crossed // size, limit=equals(1))
    verify("bytes into the other spacecraft / bundle", round(crossed / size, 3), limit=at_most(SENT_AGAIN))


@pytest.mark.requirement("SIX-045")
@pytest.mark.step("detour")
@pytest.mark.needs("upload outage", "relay")
def test_a_relay_whose_crosslink_is_lost_for_good_goes_the_other_way_round(
    bench, participants, links, separation, rollout, fleet, payload, recorder, verify, measure
):
    """The AI model is relayed; the crosslink that carries it stays dark, and the network finds another way."""
    model, far_head = payload.model, fleet.far_heads()[0].name
    usable = usable_now(bench)
    way = path(bench.lab, participants.near, participants.far, usable)
    detour = path(bench.lab, participants.near, participants.far, usable - {way[0]}) if way else None
    if not way or not detour:
        raise BenchError(
            "by plan there is no second way between the two spacecraft now", remedy="choose another --epoch"
        )
    direct = LinkSet(links, way[:1])
    around = LinkSet(links, detour[:1])
    threshold = int(model.size_bytes * PART)
    sent = {part: part.bytes_sent() for part in (direct, around)}
    before = separation.bytes_into()
    try:
        struck = strike(
            lambda: rollout.relay(model),
            direct.cut,
            progress=lambda: rollout.bytes_at(far_head, model),
            threshold=threshold,
            what=f"{way[0]} lost for good during the relay",
            sink=recorder,
        )
    finally:
        direct.restore()
    sent = {part: part.bytes_sent() - earlier for part, earlier in sent.items()}
    crossed = separation.bytes_into() - before
    verify_fed_once(struck.unwrap(), fleet, model.size_bytes, verify)
    verify("bytes_sent", sent[direct], "B", limit=at_least(threshold), blame=Blame.BENCH, link=way[0])
    verify("bytes the other way round", sent[around], "B", limit=at_least(1), blame=Blame.BENCH)
    measure("crosslinks the other way round", len(detour))
    verify("whole models that went into the other spacecraft", crossed // model.size_bytes, limit=equals(1))


def verify_fed_once(transfers, fleet, size, verify):
    """Every board received every byte once, and only the head of the other spacecraft from outside of it."""
    far_head = fleet.far_heads()[0].name
    for transfer in transfers:
        verify("bytes_received", transfer.bytes_received, "B", limit=equals(size), board=transfer.board)
        crossing = fleet.member(transfer.source).spacecraft != fleet.member(transfer.board).spacecraft
        verify(
            "fed_from_the_other_spacecraft", crossing, limit=equals(transfer.board == far_head), board=transfer.board
        )
