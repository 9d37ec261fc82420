"""The result on the ground."""

from __future__ import annotations

import pytest

from hil.evidence.model import at_least, at_most


@pytest.mark.requirement("OPE-080")
@pytest.mark.step("collect")
@pytest.mark.needs("run")
def test_the_result_comes_down(operation, there, payload, recorder, within, measure, verify, tmp_path):
    """The cloud mask of the scene, computed there, against the one that was computed here."""
    from hil.errors import DeviceError
    from hil.onboard.node.errors import ApiError
    from hil.onboard.node.infer import PROVIDERS, from_npy
    from hil.workload.compare import compare, limits_of, read_mask

    mask, collect = tmp_path / "cloud-mask.npy", operation.steps.collect
    with within("collect", collect):
        answer = there.collect(mask)
    recorder.artefact(mask, kind="mask")
    measure("size of the result", mask.stat().st_size, "B", limit=at_most(collect.size_bytes))
    try:
        found = compare(from_npy(mask.read_bytes()), read_mask(payload.golden))
    except ApiError as exc:
        raise DeviceError(f"the result is {exc.message}") from exc
    provider = str(answer.get("provider"))
    different, least_iou = limits_of([provider if provider in PROVIDERS else ""])
    measure("intersection over union", round(found.iou, 6), limit=at_least(least_iou))
    verify(
        "pixels that differ from the reference", found.mismatched_pixels, limit=at_most(round(different * found.pixels))
    )
