"""Each execution provider is compared with the CPU, and one that is wrong or did not start is outside the limits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from hil.onboard.node import infer
from hil.onboard.node.infer import Loaded
from tests.benchmarks.inference import inference, main
from tests.kits import tiny_model


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A model and a scene of six tiles."""
    scene = tmp_path / "scene.npy"
    np.save(scene, np.random.RandomState(1).randint(0, 10_001, (4, 16, 24)).astype(np.uint16))
    return tiny_model.write(tmp_path / "tiny.zip"), scene


def outside(files: tuple[Path, Path]) -> list[str]:
    """Names of the figures outside their limits."""
    return [figure.name for figure in inference(*files) if not figure.ok]


@pytest.fixture
def second_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider ``CUDA`` that is the CPU under another name."""
    load = infer.load

    def loaded(path: Path, artefact: str = "", providers: object = ()) -> Loaded:
        (asked,) = providers if isinstance(providers, list) else ("CPU",)
        network = load(path, artefact, ["CPU"])
        return replace(network, providers=(asked,))

    monkeypatch.setattr(infer, "load", loaded)
    monkeypatch.setattr("tests.benchmarks.inference.providers_here", lambda: ["CUDA", "CPU"])


def test_a_machine_without_a_gpu_measures_its_cpu(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.benchmarks.inference.providers_here", lambda: ["CPU"])
    assert main(["--model", str(files[0]), "--scene", str(files[1])]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("inference, CPU: one tile") and "median of 6" in line


def test_a_provider_that_computes_the_same_is_within_limits(files: tuple[Path, Path], second_provider: None) -> None:
    assert outside(files) == []
    assert [f.value for f in inference(*files) if f.name == "inference, CUDA: equal pixels"] == [1.0]


def test_a_provider_that_computes_something_else_is_outside_limits(
    files: tuple[Path, Path], second_provider: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = infer.predict

    def wrong_on_cuda(network: Loaded, tile: NDArray[np.uint16]) -> NDArray[np.uint8]:
        mask = predict(network, tile)
        return mask ^ np.uint8(1) if network.provider == "CUDA" else mask

    monkeypatch.setattr(infer, "predict", wrong_on_cuda)
    assert outside(files) == ["inference, CUDA: equal pixels", "inference, CUDA: IoU"]


def test_a_provider_whose_libraries_do_not_load_is_named(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.benchmarks.inference.providers_here", lambda: ["CUDA", "CPU"])
    load = infer.load
    monkeypatch.setattr(infer, "load", lambda path, artefact="", providers=(): load(path, artefact, ["CPU"]))
    assert outside(files) == ["inference, CUDA: started"]
