"""The reference mask of a scene, computed on the ground.

:mod:`hil.workload.artefacts` runs this file with the Python, NumPy and ONNX Runtime of the boards, so that host and
boards differ in nothing but the machine; it imports only what runs on a board.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hil.onboard.node.infer import classes, load, output_sha256, scores_of

if TYPE_CHECKING:
    from numpy.typing import NDArray  # boards have numpy without it

TILE = 256


def golden(scene: NDArray[np.uint16], model: Path) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the mask of a scene [bands, H, W], and the digest of the raw output of each tile, row by row.

    Tile by tile, with the code that boards run.
    """
    network = load(model, providers=["CPU"])
    mask = np.zeros(scene.shape[1:], dtype=np.uint8)
    outputs = []
    for row in range(0, scene.shape[1], TILE):
        for column in range(0, scene.shape[2], TILE):
            scores = scores_of(network, np.ascontiguousarray(scene[:, row : row + TILE, column : column + TILE]))
            mask[row : row + TILE, column : column + TILE] = classes(scores)
            outputs.append(output_sha256(scores))
    return mask, outputs


def main(scene: str, model: str, mask: str) -> None:
    """Write the ``mask`` (.npz) of the ``scene`` (.npy), and the digests of the raw ``outputs``."""
    found, outputs = golden(np.load(scene, allow_pickle=False), Path(model))
    np.savez_compressed(mask, mask=found, outputs=np.array(outputs))


if __name__ == "__main__":
    main(*sys.argv[1:])
