"""The file of an engineering model, the preview on it, and the program that goes there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hil.errors import ConfigurationError
from hil.evidence.test_plan import load_plan
from hil.operation.campaign import write_campaign
from hil.operation.engineering_model import check_model, load_engineering_model
from hil.operation.model import Operation, load_operation
from hil.operation.on_model import payload_program
from tests.kits import tiny_model
from tests.kits.pod_api import EM


def em(folder: Path, text: str = EM) -> Path:
    (file := folder / "em.yaml").write_text(text)
    return file


def operation(folder: Path, size: int) -> Operation:
    file = folder / "operation.yaml"
    file.write_text(f"schema: 1\nname: test\nbundle: {{size_bytes: {size}}}\nsteps: {{upload: {{deadline: 1m}}}}\n")
    return load_operation(file)


@pytest.mark.parametrize(
    ("was", "becomes", "word"),
    [
        ("https://em.example.com", "http://em.example.com", "does not go over a network in the clear"),
        ("https://em.example.com", "http://[::1]:80", "IPv4"),
        ("https://em.example.com", "https://[2001:db8::1]", "IPv4"),
        ("https://em.example.com", "https://me:secret@em.example.com", "has no log-in in it"),
        ("env:EM_PASSWORD", "hunter2", "give env:NAME"),
        ("api: pods", "api: podz", "did you mean 'pods'"),
        ("name: em", "name: em\nnod: GPU", "nod: unknown key"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, was: str, becomes: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word) as caught:
        load_engineering_model(em(tmp_path, EM.replace(was, becomes)))
    assert "em.yaml" in caught.value.message and "hunter2" not in str(caught.value)


def test_what_one_call_does_not_take_binds(tmp_path: Path) -> None:
    model = load_engineering_model(em(tmp_path))
    fits = check_model(operation(tmp_path, 1_000_000_000), model)
    assert fits.preview.feasible and "the binding constraint is one call of the uplink" in fits.sentence
    large = check_model(operation(tmp_path, 3_000_000_000), model)
    assert not large.preview.feasible
    assert large.sentence.startswith("Infeasible: one call of the uplink needs 3 GB and has 2 GB")
    assert {term.name for term in large.preview.unknown} == {
        "storage of the model", "upload: to em", "heat", "power"
    }  # fmt: skip


def test_a_slow_way_there_binds_when_it_is_known(tmp_path: Path) -> None:
    model = load_engineering_model(em(tmp_path, EM + "uplink_bps: 1000000\n"))
    slow = check_model(operation(tmp_path, 10_000_000), model)
    assert slow.sentence.startswith("Infeasible: upload: to em needs 10 MB and has 6.75 MB")
    assert slow.uploaded_s == pytest.approx(10e6 * 8 / 1e6 / 0.9)


def test_a_campaign_on_a_model_has_its_file_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EM_PASSWORD", "hunter2")
    model = load_engineering_model(em(tmp_path, EM.replace("}", ", tar: image.tar}")))
    folder = write_campaign(load_operation("six_gpu"), tmp_path / "out", model)
    assert load_plan(folder).id == "op-six-gpu-em"
    copied = load_engineering_model(folder / "engineering-model.yaml")
    assert copied.tar == tmp_path / "image.tar"
    assert not any(b"hunter2" in path.read_bytes() for path in folder.iterdir())
    assert write_campaign(load_operation("six_gpu"), tmp_path / "out") != folder


def run_there(folder: Path, *words: str) -> dict[str, object]:
    """As a pod runs it: nothing of this repository on its path."""
    (folder / "payload.zip").write_bytes(payload_program())
    argv = [sys.executable, "-P", "payload.zip", "answer.json", *words]
    done = subprocess.run(argv, cwd=folder, timeout=60, check=False, capture_output=True, env={"PATH": "/usr/bin"})
    answer: dict[str, object] = json.loads((folder / "answer.json").read_text())
    assert (done.returncode == 0) == ("error" not in answer), done.stderr
    return answer


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder with a network, and a scene whose upper left tile is class 1."""
    scene = np.zeros((4, 2 * tiny_model.TILE, tiny_model.TILE), dtype=np.uint16)
    scene[0, : tiny_model.TILE] = 9000
    np.save(tmp_path / "scene.npy", scene)
    tiny_model.write(tmp_path / "model.zip")
    return tmp_path


def test_the_program_computes_the_mask_of_a_scene(there: Path) -> None:
    answer = run_there(there, "mask", "model.zip", "scene.npy", "mask.npy")
    mask = np.load(there / "mask.npy")
    assert mask.dtype == np.uint8 and mask[: tiny_model.TILE].all() and not mask[tiny_model.TILE :].any()
    assert answer["provider"] == "CPU"
    digests = run_there(there, "digests", "mask.npy", "absent")["files"]
    assert digests == {"mask.npy": {"bytes": (there / "mask.npy").stat().st_size, "sha256": answer["sha256"]}}


def test_the_program_streams_tiles_and_compares_them_with_themselves(there: Path) -> None:
    answer = run_there(there, "stream", "model.zip", "scene.npy", "0.3")
    assert answer["tiles"] == answer["compared"] + 2 > 2 and answer["differ"] == 0  # type: ignore[operator]


def test_the_program_takes_only_the_model_that_the_configuration_names(there: Path) -> None:
    digest = run_there(there, "digests", "model.zip")["files"]["model.zip"]["sha256"]  # type: ignore[index]
    wanted = {"model": "model.zip", "model_sha256": digest}
    (there / "configuration.json").write_text(json.dumps(wanted))
    assert run_there(there, "configure") == {**wanted, "provider": "CPU"}
    (there / "configuration.json").write_text(json.dumps(wanted | {"model_sha256": "0" * 64}))
    assert "not 000" in str(run_there(there, "configure")["error"])
    assert "KeyError" in str(run_there(there, "no-such-job")["error"])
