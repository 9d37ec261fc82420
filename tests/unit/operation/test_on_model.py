"""The steps of an operation on an engineering model, against a server that behaves like one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hil.errors import BenchError, ConfigurationError
from hil.images.artefact import Artefact
from hil.operation.engineering_model import load_engineering_model
from hil.operation.model import load_operation
from hil.operation.on_model import OnModel
from hil.workload.artefacts import PayloadArtefacts
from tests.kits.pod_api import EM, PodApi

OPERATION = """\
schema: 1
name: test
bundle: {{file: {bundle}, version: 1.0.0, image_sha256: {digest}}}
steps:
  {{upload: {{}}, verify: {{}}, install: {{}}, activate: {{}}, configure: {{}}, run: {{duration: 100000.5s}},
    collect: {{size_bytes: 1000}}}}
"""


def on_model(
    api: PodApi, folder: Path, *, image: str = "cloud-mask", bundle: str = "os.raucb", model: str = "model.zip"
) -> OnModel:
    (folder / bundle).write_bytes(b"a bundle")
    (folder / "operation.yaml").write_text(OPERATION.format(bundle=bundle, digest="0" * 64))
    text = EM.replace("https://em.example.com", api.url).replace("{name: cloud-mask}", f"{{name: '{image}'}}")
    (folder / "em.yaml").write_text(text + "poll_s: 0.02\n")
    operation, spec = load_operation(folder / "operation.yaml"), load_engineering_model(folder / "em.yaml")
    artefacts = []
    for name in (model, "scene.npy"):
        (folder / f"{name}.file").write_bytes(b"content")
        artefacts.append(Artefact.of_file(folder / f"{name}.file", "model", name=name))
    payload = PayloadArtefacts(artefacts[0], artefacts[1], folder, folder)
    return OnModel(operation, spec, payload, lambda text: None)


@pytest.mark.parametrize(
    ("wanted", "has", "found"),
    [
        ("cloud-mask:v2", "client1-cloud-mask:v2", True),
        ("cloud-mask:v2", "client1-cloud-mask", True),
        ("cloud-mask", "registry.example:5000/client1-cloud-mask:v1", True),
        ("cloud-mask:v2", "client1-cloud-mask:v1", False),
        ("cloud-mask", "client1-old-cloud-mask", False),
        ("mask", "cloud-mask", False),
    ],
)
def test_an_image_is_there_by_its_whole_name_and_its_tag(
    api: PodApi, tmp_path: Path, wanted: str, has: str, found: bool
) -> None:
    api.images = ["alpine", has]
    assert on_model(api, tmp_path, image=wanted).install(5) is found


def test_a_result_that_comes_down_with_other_bytes_is_not_the_networks_fault(
    api: PodApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed, target = on_model(api, tmp_path), tmp_path / "mask.npy"
    (tmp_path / "up").write_bytes(b"a mask")
    placed.model.uplink(tmp_path / "up", "mask.npy", deadline_s=5)
    answer = {"sha256": hashlib.sha256(b"a mask").hexdigest(), "provider": "CPU"}
    monkeypatch.setattr(OnModel, "_job", lambda *_, **__: answer)
    assert placed.collect(target) == answer and target.read_bytes() == b"a mask"
    answer["sha256"] = "0" * 64
    with pytest.raises(BenchError, match="came down with sha256"):
        placed.collect(target)


@pytest.mark.parametrize("words", [{"bundle": "payload.zip"}, {"model": "os.raucb"}, {"bundle": "configuration.json"}])
def test_two_files_of_one_name_are_refused(api: PodApi, tmp_path: Path, words: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="two files"):
        on_model(api, tmp_path, **words)


def test_the_payload_runs_for_the_whole_time(api: PodApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(OnModel, "_job", lambda _, *words, **__: asked.extend(words))
    on_model(api, tmp_path).run()
    assert float(asked[-1]) == 100_000.5
