"""What runs inside an operator's engineering model: the payload without a node service, one job for one command.

``python3 payload.zip ANSWER VERB ...`` in the folder of an operation.  It imports only what runs on a board; Python,
NumPy and ONNX Runtime are in the operator's container image.  Each job leaves one JSON object in the file ANSWER, which
is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hil.onboard.node.errors import ApiError
from hil.onboard.node.infer import Loaded, classes, load, output_sha256, scores_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIGURATION = "configuration.json"
BLOCK_BYTES = 1 << 20


def hello() -> dict[str, Any]:
    """Return what the container image has."""
    import onnxruntime

    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "providers": onnxruntime.get_available_providers(),
    }


def digests(*names: str) -> dict[str, Any]:
    """Return size (B) and sha256 of files; a file that is not there is left out."""
    there = [Path(name) for name in names if Path(name).is_file()]
    return {"files": {str(path): {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for path in there}}


def configure() -> dict[str, Any]:
    """Load the network that the configuration names, and return the configuration.

    ValueError when the model's digest is another.
    """
    wanted = json.loads(Path(CONFIGURATION).read_text("utf-8"))
    found = sha256_of(Path(wanted["model"]))
    if found != wanted["model_sha256"]:
        raise ValueError(f"{wanted['model']} has sha256 {found}, not {wanted['model_sha256']}")
    return {**wanted, "provider": load(Path(wanted["model"])).provider}


def stream(model: str, scene: str, seconds: str) -> dict[str, Any]:
    """Infer the scene's tiles one after another for so many seconds.

    ``compared`` answers were for a tile that had one before; ``differ`` of them are not bit by bit the first one.
    """
    network, picture = load(Path(model)), np.load(scene, allow_pickle=False)
    first: dict[tuple[int, int], str] = {}
    done = differ = 0
    begin = time.monotonic()
    while time.monotonic() - begin < float(seconds):
        for corner, tile in _tiles(network, picture):
            answer = output_sha256(scores_of(network, tile))
            differ += first.setdefault(corner, answer) != answer
            done += 1
            if time.monotonic() - begin >= float(seconds):
                break
    took_s = time.monotonic() - begin
    return {
        "tiles": done,
        "compared": done - len(first),
        "differ": differ,
        "seconds": took_s,
        "provider": network.provider,
    }


def mask(model: str, scene: str, out: str) -> dict[str, Any]:
    """Write the cloud mask of the scene to ``out`` (.npy, uint8)."""
    network, picture = load(Path(model)), np.load(scene, allow_pickle=False)
    found, size = np.zeros(picture.shape[1:], dtype=np.uint8), network.card["tile"]
    for (y, x), tile in _tiles(network, picture):
        found[y : y + size, x : x + size] = classes(scores_of(network, tile))
    np.save(out, found, allow_pickle=False)
    return {"sha256": sha256_of(Path(out)), "provider": network.provider}


def _tiles(network: Loaded, scene: NDArray[np.uint16]) -> Iterator[tuple[tuple[int, int], NDArray[np.uint16]]]:
    """Yield each tile with its upper left corner, row by row."""
    size = network.card["tile"]
    for y in range(0, scene.shape[1], size):
        for x in range(0, scene.shape[2], size):
            yield (y, x), np.ascontiguousarray(scene[:, y : y + size, x : x + size])


def sha256_of(path: Path) -> str:
    """Return the digest of a file that may be larger than the memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


JOBS = {job.__name__: job for job in (hello, digests, configure, stream, mask)}


def main(answer: str, verb: str, *arguments: str) -> int:
    """Do one job, and write its answer or its error; the exit code."""
    try:
        document = JOBS[verb](*arguments)
    except (ApiError, ImportError, LookupError, OSError, TypeError, ValueError) as exc:
        document = {"error": f"{type(exc).__name__}: {exc}"[:1000]}
    part = Path(f"{answer}.part")
    part.write_text(json.dumps(document), "utf-8")
    part.replace(answer)
    return 1 if "error" in document else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
