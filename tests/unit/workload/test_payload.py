"""The payload: the same scene everywhere, masks compared pixel by pixel."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.workload import artefacts, golden, scene
from hil.workload import model as network
from hil.workload.artefacts import COMMITTED_GOLDEN
from hil.workload.compare import compare, digest, limits_of, read_mask
from tests.kits import tiny_model

SAMPLE = (np.arange(4 * 300 * 300).reshape(4, 300, 300) % 4000 + 133).astype(np.uint16)


def test_the_scene_is_the_same_on_every_machine() -> None:
    made = scene.compose(SAMPLE)
    assert made.shape == (4, 768, 1024) and made.dtype == np.uint16
    expected = "6626eed6"
    assert hashlib.sha256(made.tobytes()).hexdigest()[:8] == expected


def test_another_seed_is_another_sky_over_the_same_ground() -> None:
    first, second = scene.compose(SAMPLE, 1), scene.compose(SAMPLE, 2)
    assert not np.array_equal(first, second)
    clear = (first < 4200) & (second < 4200) & (first == second)
    assert clear.any()


def test_the_scene_has_clouds_and_clear_ground() -> None:
    dark = np.full_like(SAMPLE, 300)
    made = scene.compose(dark)[0]
    assert (made > 2000).any() and (made == 300).any()
    assert 0.1 < (made > 300).mean() < 0.6


def test_what_is_not_the_expected_package_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(scene.MEMBER, json.dumps([[1, 2], [3, 4]]))
    with pytest.raises(BenchError, match="not the expected sample"):
        scene.read_sample(wheel)
    with pytest.raises(BenchError, match="not the expected package"):
        network.build(wheel, tmp_path / "model.zip")


def test_the_model_artefact_is_the_same_file_whenever_it_is_built(tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    card = {
        "data": {
            "target_size": [256, 256],
            "dataset_statistics": {"img": [[0.1] * 4, [0.2] * 4], "band_names": ["blue", "green", "red", "nir"]},
        },
        "model": {"version": "1"},
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(network.CARD, json.dumps(card))
        archive.writestr(network.NETWORK, b"weights")
    digests = set()
    for name in ("one.zip", "two.zip"):
        network.build(wheel, tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
    assert json.loads(zipfile.ZipFile(tmp_path / "one.zip").read("model.json"))["std"] == [0.2] * 4


def test_the_golden_mask_is_put_together_from_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(golden, "TILE", tiny_model.TILE)
    image = np.random.RandomState(1).randint(0, 10_001, (4, 16, 24)).astype(np.uint16)
    mask, outputs = golden.golden(image, tiny_model.write(tmp_path / "tiny.zip"))
    assert len(outputs) == 6 and len(outputs[0]) == 64
    assert np.array_equal(mask, (image[0] > 5000).astype(np.uint8))


def test_the_golden_mask_is_computed_on_the_cpu_whatever_else_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = onnxruntime.InferenceSession, []

    def session(weights: bytes, options: object, providers: list[str], enable_fallback: int) -> object:
        asked.append(providers)
        return real(weights, options, providers=["CPUExecutionProvider"])

    everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: everything)
    monkeypatch.setattr("onnxruntime.InferenceSession", session)
    monkeypatch.setattr(golden, "TILE", tiny_model.TILE)
    golden.golden(np.zeros((4, 8, 8), np.uint16), tiny_model.write(tmp_path / "tiny.zip"))
    assert asked == [["CPUExecutionProvider"]]


def test_equal_masks_have_no_mismatch_and_one_digest() -> None:
    mask = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    found = compare(mask, mask.copy())
    assert (found.mismatched_pixels, found.iou, found.digest) == (0, 1.0, found.golden_digest)


def test_one_wrong_pixel_is_counted_and_changes_the_digest() -> None:
    golden = np.array([[0, 1], [2, 1]], dtype=np.uint8)
    mask = golden.copy()
    mask[0, 1] = 2
    found = compare(mask, golden)
    assert (found.mismatched_pixels, found.pixels) == (1, 4)
    assert found.iou == pytest.approx(2 / 3)
    assert found.digest != found.golden_digest


def test_on_the_cpu_nothing_may_differ_and_on_a_gpu_two_in_a_thousand() -> None:
    assert limits_of(["CPU", "", "CPU"]) == (0.0, 1.0)
    assert limits_of(["CPU", "CUDA"]) == (0.002, 0.99)


def test_masks_of_different_shape_or_type_cannot_be_compared() -> None:
    golden = np.zeros((2, 2), dtype=np.uint8)
    for mask in (np.zeros((2, 3), dtype=np.uint8), np.zeros((2, 2), dtype=np.uint16)):
        with pytest.raises(DeviceError, match="the mask is"):
            compare(mask, golden)  # type: ignore[arg-type]  # the wrong type is what is tested


def test_the_committed_golden_mask_finds_all_three_classes_in_every_row_of_tiles() -> None:
    mask = read_mask(COMMITTED_GOLDEN)
    assert mask.shape == (scene.HEIGHT, scene.WIDTH)
    assert set(np.unique(mask)) == {0, 1, 2}
    tiles = [mask[r : r + 256, c : c + 256] for r in range(0, 768, 256) for c in range(0, 1024, 256)]
    assert all(0 < np.count_nonzero(tile) < tile.size for tile in tiles)
    assert COMMITTED_GOLDEN.stat().st_size < 50_000
    assert digest(mask).startswith("d3941023")


def test_a_golden_file_that_is_not_one_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match="no golden mask"):
        read_mask(tmp_path / "x.npz")


def test_the_signature_is_of_the_keys_that_are_there_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two versions of the testbed may have keys of their own and share the cache."""
    keyring, model = tmp_path / "keyring.pem", tmp_path / "model.zip"
    monkeypatch.setattr(artefacts, "ensure_pki", lambda: SimpleNamespace(keyring=keyring))
    monkeypatch.setattr(artefacts, "sign_artefact", lambda path, out: out.write_bytes(b"by " + keyring.read_bytes()))
    signatures = []
    for keys in (b"old", b"new", b"old"):
        keyring.write_bytes(keys)
        signatures.append(artefacts._signature(model))
    assert signatures == [b"by old", b"by new", b"by old"]
    assert len(list(tmp_path.glob("*.p7s"))) == 2
