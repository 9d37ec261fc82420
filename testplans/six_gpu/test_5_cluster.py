"""Six boards as one cluster: configured under one epoch, never two at once, and computing the right thing."""

from __future__ import annotations

import pytest

from hil.errors import BenchError
from hil.evidence.model import at_least, at_most, equals
from hil.faults.links import way_from_ground

pytestmark = pytest.mark.needs("activate")

SERVING_S = 30.0
"""Within this time all boards must serve at one moment."""


@pytest.fixture(scope="module")
def configuration(fleet, bundles, payload):
    """What the cluster agrees on; a different ``revision`` is a different document and so a new epoch."""
    return lambda revision: fleet.config(
        os_version=bundles.os_v2.version,
        image_sha256=bundles.os_v2.image_sha256,
        model=payload.model.sha256,
        params={"revision": revision},
    )


@pytest.mark.step("model")
@pytest.mark.needs("upload outage")
def test_the_ai_model_reaches_all_six_boards_as_a_signed_artefact_of_its_own(rollout, payload, fleet, verify):
    """OS, application and model are separate uploads; each board checks the model's signature itself."""
    transfers = rollout.distribute(payload.model)
    verify("boards with the model", len({t.board for t in transfers} | {fleet.gateway}), limit=equals(len(fleet)))


@pytest.mark.requirement("SIX-110")
@pytest.mark.step("configure")
@pytest.mark.needs("model")
def test_all_six_boards_serve_under_one_epoch(rollout, configuration, fleet, verify, measure):
    """Prepared durably on all six, then committed; in the end all six serve at one moment."""
    epoch = rollout.configure(configuration(1), wait_for=())
    together = rollout.serving_together(epoch, deadline_s=SERVING_S)
    measure("time until all boards served at one moment", round(together.seconds, 3), "s")
    claims = together.epochs
    verify("boards that serve", sum(c is not None for c in claims.values()), limit=equals(len(fleet)))
    verify("epochs served", len(set(claims.values())), limit=equals(1))
    verify("epoch served", claims[fleet.gateway], limit=equals(epoch))


@pytest.mark.requirement("SIX-120")
@pytest.mark.step("split")
@pytest.mark.needs("configure")
@pytest.mark.parametrize("moment", ["between the phases", "in the middle of the commit"])
def test_no_mixed_epoch_when_the_other_spacecraft_is_cut_off_while_configuring(
    bench, participants, rollout, configuration, fleet, separation, watcher, moment, verify, measure
):
    """It stops claiming, the gateway's spacecraft goes on under the new epoch, and both meet there again."""
    near = [m.name for m in fleet if m.spacecraft == participants.near]
    far = [m.name for m in fleet if m.name not in near]
    if way_from_ground(bench, participants.near, without=separation.names) is None:
        raise BenchError(
            f"the ground reaches {participants.near} only through {participants.far} now, which is to be cut off",
            remedy="choose other spacecraft with --on, or another --epoch",
        )

    def cut_off(epoch: int) -> None:
        separation.cut()

    revision = 2 if moment == "between the phases" else 3
    hooks = {"between_phases": cut_off} if revision == 2 else {"after_commit": cut_off}
    try:
        epoch = rollout.configure(configuration(revision), wait_for=(), **hooks)
        apart = rollout.serving_together(epoch, near, silent=far, deadline_s=SERVING_S)
        measure("time until only one spacecraft served", round(apart.seconds, 3), "s")
        quiet = apart.epochs
        verify("boards that serve the new epoch", sum(quiet[n] == epoch for n in near), limit=equals(len(near)))
        verify(
            "boards of the spacecraft that is cut off that claim",
            sum(quiet[n] is not None for n in far),
            limit=equals(0),
        )
    finally:
        separation.restore()
    rejoined = rollout.serving_together(epoch, deadline_s=SERVING_S)
    measure("time from the link's return to six boards in one epoch", round(rejoined.seconds, 3), "s")
    verify("moments with two epochs", len(watcher.report().violations), limit=at_most(0))


@pytest.mark.requirement("SIX-130")
@pytest.mark.step("inference")
@pytest.mark.needs("configure")
def test_inference_across_six_boards_matches_the_reference(
    rollout, fleet, payload, recorder, verify, measure, tmp_path
):
    """Cloud mask of a Sentinel-2 scene: tiles go out from the gateway to both spacecraft, masks come back."""
    from hil.rollout.cluster_job import run_inference
    from hil.workload.compare import limits_of

    rollout.upload(payload.scene)
    mask = tmp_path / "cloud-mask.npy"
    result = run_inference(fleet, payload, recorder, keep=mask)
    recorder.artefact(mask, kind="mask")
    verify("boards that computed", sum(s.tiles > 0 for s in result.per_board.values()), limit=equals(len(fleet)))
    different, iou = limits_of(board.provider for board in result.per_board.values())
    most = round(different * (result.pixels or 0))
    verify("pixels that differ from the reference", result.mismatched_pixels, limit=at_most(most))
    measure("intersection over union", result.iou, limit=at_least(iou))
    measure("tiles per second, all boards", result.tiles_per_s, "1/s")
