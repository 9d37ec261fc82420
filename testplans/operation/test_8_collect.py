"""The result on the ground."""

from __future__ import annotations

import pytest

from hil.evidence.model import at_least, at_most


@pytest.mark.requirement("OPE-080")
@pytest.mark.step("collect")
@pytest.mark.needs("run")
def test_the_result_comes_down(operation, fleet, payload, tiles, recorder, within, measure, verify, tmp_path):
    """The cloud mask of the scene, computed by all boards under the epoch of the payload."""
    from hil.rollout.cluster_job import run_inference
    from hil.workload.compare import limits_of

    mask, collect = tmp_path / "cloud-mask.npy", operation.steps.collect
    with within("collect", collect):
        result = run_inference(fleet, payload, recorder, keep=mask)
    recorder.artefact(mask, kind="mask")
    measure("size of the result", mask.stat().st_size, "B", limit=at_most(collect.size_bytes))
    different, least_iou = limits_of(board.provider for board in result.per_board.values())
    measure("intersection over union", result.iou, limit=at_least(least_iou))
    most = round(different * (result.pixels or 0))
    verify("pixels that differ from the reference", result.mismatched_pixels, limit=at_most(most))
