"""The steps of an operation on an engineering model, against a server that behaves like one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.operation.engineering_model import load_engineering_model
from hil.operation.model import load_operation
from hil.operation.on_model import OnModel
from tests.kits.pod_api import EM, PASSWORD, PodApi

OPERATION = """\
schema: 1
name: test
bundle: {{file: {bundle}, version: 1.0.0, image_sha256: {digest}}}
steps: {{upload: {{deadline: 1m}}}}
"""


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PodApi]:
    monkeypatch.setenv("EM_PASSWORD", PASSWORD)
    (volume := tmp_path / "volume").mkdir()
    with PodApi(volume) as served:
        yield served


def on_model(api: PodApi, folder: Path, *, image: str = "cloud-mask", bundle: str = "os.raucb") -> OnModel:
    (folder / bundle).write_bytes(b"a bundle")
    (folder / "operation.yaml").write_text(OPERATION.format(bundle=bundle, digest="0" * 64))
    text = EM.replace("https://em.example.com", api.url).replace("{name: cloud-mask}", f"{{name: '{image}'}}")
    (folder / "em.yaml").write_text(text + "poll_s: 0.02\n")
    operation, spec = load_operation(folder / "operation.yaml"), load_engineering_model(folder / "em.yaml")
    return OnModel(operation, spec, None, lambda text: None)


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
