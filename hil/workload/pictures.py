"""The pictures of a stream of tiles, and the raw outputs that the network must give for them."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from hil.errors import ConfigurationError
from hil.onboard.node.infer import to_npy
from hil.workload.artefacts import PayloadArtefacts
from hil.workload.golden import TILE


def pictures_of(payload: PayloadArtefacts) -> tuple[list[bytes], dict[int, str]]:
    """Return the tiles of the scene as a camera sends them, and by number the digest of the raw output of each.

    ConfigurationError when the reference has no digests: it was made by an earlier version.
    """
    scene = np.load(payload.scene.path, allow_pickle=False)
    tiles = [
        to_npy(np.ascontiguousarray(scene[:, row : row + TILE, column : column + TILE]))
        for row in range(0, scene.shape[1], TILE)
        for column in range(0, scene.shape[2], TILE)
    ]
    with np.load(payload.golden, allow_pickle=False) as content:
        if "outputs" not in content or len(content["outputs"]) != len(tiles):
            raise ConfigurationError(f"{payload.golden}: no digests of raw outputs", remedy="run `hil setup`")
        return tiles, {number: str(digest) for number, digest in enumerate(content["outputs"])}


def packed(mask: NDArray[np.uint8]) -> list[bytes]:
    """Return the result of each tile of a mask as it goes down: two bits per pixel, compressed (zlib)."""
    found = []
    for row in range(0, mask.shape[0], TILE):
        for column in range(0, mask.shape[1], TILE):
            quarters = np.ascontiguousarray(mask[row : row + TILE, column : column + TILE]).reshape(-1, 4) & 3
            found.append(
                zlib.compress((quarters << np.array([0, 2, 4, 6], dtype=np.uint8)).sum(1, np.uint8).tobytes(), 9)
            )
    return found
