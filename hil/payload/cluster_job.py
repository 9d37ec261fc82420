"""Runs the workload on the cluster and compares it with the ground twin."""

from __future__ import annotations

from dataclasses import dataclass

from hil.evidence.sink import Sink
from hil.payload.artefacts import PayloadArtefacts
from hil.rollout.fleet import Fleet


@dataclass(frozen=True)
class Comparison:
    mismatched_pixels: int
    pixels: int
    iou: float  # intersection over union of the cloud classes; 1.0 when equal
    digest: str  # sha256 of the cluster's mask bytes
    golden_digest: str


@dataclass(frozen=True)
class BoardStats:
    tiles: int
    tiles_per_s: float
    bytes_in: int
    bytes_out: int
    seconds: float
    failures: int


@dataclass(frozen=True)
class InferenceResult:
    job: str
    epoch: int
    seconds: float
    tiles: int
    retried_tiles: int
    per_board: dict[str, BoardStats]
    comparison: Comparison
    mask_path: str | None


def run_inference(
    fleet: Fleet,
    scene_id: str,
    artefacts: PayloadArtefacts,
    sink: Sink | None = None,
    *,
    deadline_s: float = 120.0,
) -> InferenceResult:
    """Start the job at the gateway over the flight network, fetch the mask, compare; emits ``inference.result``."""
    raise NotImplementedError
