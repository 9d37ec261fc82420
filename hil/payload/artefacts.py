"""Builds the model and the scene on the host, once, into the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str], None]


@dataclass(frozen=True)
class PayloadArtefacts:
    """Files ready to upload."""

    model: Path  # zip (stored) of model.onnx and model.json
    scene: Path  # .npy, uint16 [4, 768, 1024]: B02 B03 B04 B08, reflectance x 10000
    golden: Path  # .npz with ``mask`` uint8 [768, 1024], made on the ground


def ensure_artefacts(progress: Progress | None = None) -> PayloadArtefacts:
    """Download and build what is missing. BenchError when the package index cannot be reached."""
    raise NotImplementedError
