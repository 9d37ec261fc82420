"""Two masks side by side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.errors import ConfigurationError, DeviceError

GPU_DIFFERENT, GPU_IOU = 0.002, 0.99
"""Most pixels that differ, and least IoU, of masks of a GPU against those of the CPU.  Our choice: the weights are
16-bit numbers that each provider rounds its own way (docs/payload.md)."""


def limits_of(providers: Iterable[str]) -> tuple[float, float]:
    """Return (the most pixels that may differ from the reference, as a share; the least IoU) for what boards ran on.

    The reference is of the CPU: there nothing may differ.
    """
    return (0.0, 1.0) if {*providers} <= {"CPU", ""} else (GPU_DIFFERENT, GPU_IOU)


@dataclass(frozen=True)
class Comparison:
    """A mask against the golden one. Digests are sha256 of the pixels, row by row."""

    mismatched_pixels: int
    pixels: int
    iou: float  # intersection over union of everything that is not background; 1.0 when equal
    digest: str
    golden_digest: str


def compare(mask: NDArray[np.uint8], golden: NDArray[np.uint8]) -> Comparison:
    """Compare two masks. DeviceError when their shapes or types differ."""
    if mask.shape != golden.shape or mask.dtype != np.uint8:
        raise DeviceError(f"the mask is {mask.dtype} {mask.shape}, expected uint8 {golden.shape}")
    found, wanted = mask > 0, golden > 0
    union = int(np.count_nonzero(found | wanted))
    same_class = (mask == golden) & found & wanted
    return Comparison(
        mismatched_pixels=int(np.count_nonzero(mask != golden)),
        pixels=int(golden.size),
        iou=1.0 if not union else int(np.count_nonzero(same_class)) / union,
        digest=digest(mask),
        golden_digest=digest(golden),
    )


def digest(mask: NDArray[np.uint8]) -> str:
    """Return the sha256 of the pixels, row by row."""
    return hashlib.sha256(np.ascontiguousarray(mask).tobytes()).hexdigest()


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Read ``mask`` of an npz file; ConfigurationError when it is not one."""
    try:
        with np.load(path, allow_pickle=False) as content:
            mask: NDArray[np.uint8] = content["mask"]
    except (OSError, KeyError, ValueError) as exc:
        raise ConfigurationError(f"{path}: no golden mask: {exc}", remedy="run `hil setup`") from exc
    return mask
