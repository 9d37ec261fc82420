"""Tests of shipped campaigns: what the device does wrong is a FAIL, and no error of theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hil.evidence.blame import judge_exception, raise_if_violated
from hil.evidence.measurement import Measurement
from hil.evidence.model import Limit, Verdict
from hil.onboard.node.infer import to_npy

guest_plan, model_plan, operation_plan = (
    import_module(f"testplans.{name}")  # what is tested here, and nothing that tests share
    for name in ("guest.test_1_guest", "engineering_model.test_8_collect", "operation.test_8_collect")
)
GOLDEN = np.zeros((4, 4), dtype=np.uint8)


class Taken(list[Measurement]):
    """What a test measured; judged as the plug-in does."""

    def measure(self, name: str, value: Any, unit: str = "", *, limit: Limit | None = None, **_: object) -> Measurement:
        text, ok = (limit.text(unit), limit.holds(value)) if limit else (None, None)
        self.append(Measurement(name, value, unit, text, ok))
        return self[-1]

    def verify(self, *arguments: Any, **options: Any) -> None:
        raise_if_violated([self.measure(*arguments, **options)])

    def verdict(self, test: Callable[..., None], *arguments: Any) -> Verdict:
        try:
            test(*arguments)
            raise_if_violated(self)
        except Exception as exc:
            return judge_exception(exc).verdict
        return Verdict.PASS


@pytest.fixture
def taken() -> Taken:
    return Taken()


def flight(mask: bytes = b"") -> Any:
    crafts = [SimpleNamespace(spacecraft=f"sc-{k}", start_s=10.0 * k, end_s=10.0 * k + 9) for k in (1, 2, 3)]
    seen = guest_plan.Flight(crafts, mask)
    times = {"joined": 10.0, "sent": 19.0, "got": 31.0}
    seen.events = [SimpleNamespace(what=what, mono_s=at_s) for what, at_s in times.items()]
    return seen


@pytest.mark.parametrize(("came", "verdict"), [(3, Verdict.PASS), (2, Verdict.FAIL), (4, Verdict.FAIL)])
def test_a_guest_that_is_handed_over_too_seldom_or_too_often_is_a_fail(
    taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, came: int, verdict: Verdict
) -> None:
    log = tmp_path / "routes.jsonl"
    lines = [{"mono_s": 10.0 * k, "came": [f"gst-0{k}"]} for k in range(1, came + 1)]
    log.write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setattr("hil.bench.state.routes_log", lambda name: log)
    links = {f"gst-0{k}": SimpleNamespace(name=f"gst-0{k}", between=("flight", f"sc-{k}")) for k in range(1, 5)}
    bench = SimpleNamespace(
        name="b",
        orbit=SimpleNamespace(zero_ns=0, time_factor=20),
        lab=SimpleNamespace(links=links.values(), link=links.__getitem__),
    )
    test = guest_plan.test_the_guest_is_handed_over_as_its_contacts_open_and_close
    arguments = (bench, SimpleNamespace(name="flight"), flight(), {"most_apart_s": 1.0}, taken.measure, taken.verify)
    assert taken.verdict(test, *arguments) is verdict


@pytest.mark.parametrize(
    ("mask", "got", "verdict"),
    [
        (to_npy(GOLDEN), 1, Verdict.PASS),
        (to_npy(GOLDEN + 1), 1, Verdict.FAIL),
        (b"x", 1, Verdict.FAIL),
        (to_npy(GOLDEN), 0, Verdict.FAIL),
        (to_npy(GOLDEN), 2, Verdict.FAIL),
    ],
)
def test_a_guest_with_a_wrong_mask_or_none_is_a_fail(
    taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: bytes, got: int, verdict: Verdict
) -> None:
    class Client:
        def __init__(self, *_: object) -> None: ...

        def call(self, method: str, path: str) -> dict[str, Any]:
            return {"boards": {"a": {"provider": "CPU", "tiles": 4}}}

        def raw(self, method: str, path: str) -> tuple[int, bytes]:
            return 404, b""

    monkeypatch.setattr("hil.rollout.node_client.NodeClient", lambda *_: nullcontext(Client()))
    np.savez(tmp_path / "golden.npz", mask=GOLDEN)
    seen = flight(mask)
    seen.events = [each for each in seen.events if each.what != "got"] + [seen.events[-1]] * got
    test = guest_plan.test_its_job_ran_once_across_the_hand_overs_and_its_result_is_right
    bench = SimpleNamespace(orbit=SimpleNamespace(zero_ns=0))
    payload = SimpleNamespace(golden=tmp_path / "golden.npz")
    arguments = (bench, SimpleNamespace(gateway="a"), seen, payload, taken.measure, taken.verify)
    assert taken.verdict(test, *arguments) is verdict


@pytest.mark.parametrize(("missing", "verdict"), [(0, Verdict.PASS), (8, Verdict.FAIL)])
@pytest.mark.parametrize("on_model", [True, False])
def test_a_result_with_few_wrong_pixels_that_misses_the_clouds_is_a_fail(
    taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int, verdict: Verdict, on_model: bool
) -> None:
    """Of a GPU, whose pixels may differ by 0.2 %: here 0.08 % do, and they are 8 of 10 pixels of cloud."""
    golden = np.zeros((100, 100), dtype=np.uint8)
    golden[0, :10] = 1
    np.savez(tmp_path / "golden.npz", mask=golden)
    golden[0, :missing] = 0

    def collected(mask: Path) -> dict[str, str]:
        mask.write_bytes(to_npy(golden))
        return {"provider": "CUDA"}

    def inferred(*_: object, keep: Path) -> Any:
        board = SimpleNamespace(**collected(keep))
        return SimpleNamespace(per_board={"a": board}, pixels=10_000, mismatched_pixels=missing, iou=1 - missing / 10)

    monkeypatch.setattr("hil.rollout.cluster_job.run_inference", inferred)
    operation = SimpleNamespace(steps=SimpleNamespace(collect=SimpleNamespace(size_bytes=100_000)))
    payload = SimpleNamespace(golden=tmp_path / "golden.npz")
    there = (SimpleNamespace(collect=collected), payload) if on_model else (None, payload, None)
    recorder = SimpleNamespace(artefact=lambda *_, **__: None)
    rest = (recorder, lambda *_: nullcontext(), taken.measure, taken.verify, tmp_path)
    plan = model_plan if on_model else operation_plan
    assert taken.verdict(plan.test_the_result_comes_down, operation, *there, *rest) is verdict
