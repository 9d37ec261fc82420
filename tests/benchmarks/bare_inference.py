"""One bare process that does what a busy board does: ``python -m tests.benchmarks.bare_inference MODEL SCENE SECONDS``.

It says "ready", waits for a line, computes tiles for so long, and prints how many.  It runs with the Python and the
packages of the boards, and imports only what runs on a board.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

TILE = 256


def bare(model: str, scene: str, seconds: float) -> int:
    """Compute tiles one after another for so long, as a board does, and return how many."""
    import numpy as np

    from hil.onboard.node.infer import classes, from_npy, load, output_sha256, scores_of, to_npy

    network = load(Path(model), providers=["CPU"])
    image = np.load(scene, allow_pickle=False)
    tiles = [
        to_npy(np.ascontiguousarray(image[:, row : row + TILE, column : column + TILE]))
        for row in range(0, image.shape[1], TILE)
        for column in range(0, image.shape[2], TILE)
    ]
    scores_of(network, from_npy(tiles[0]))
    print("ready", flush=True)
    sys.stdin.readline()
    count, end_s = 0, time.monotonic() + seconds
    while time.monotonic() < end_s:
        scores = scores_of(network, from_npy(tiles[count % len(tiles)]))
        to_npy(classes(scores))
        output_sha256(scores)
        count += 1
    return count


if __name__ == "__main__":
    print(bare(sys.argv[1], sys.argv[2], float(sys.argv[3])), flush=True)
