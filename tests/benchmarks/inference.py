"""The board's own inference on each execution provider that this machine has: right or wrong, and how fast.

    python -m tests.benchmarks.inference [--model FILE --scene FILE]

It is the code of a board (:mod:`hil.onboard.node.infer`), one tile at a time; the reference is the CPU of the same
machine.  With the two files copied there it runs on a Jetson as well.  Exits with 1 when masks differ too much.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hil.onboard.node import infer
from hil.workload.compare import GPU_DIFFERENT, GPU_IOU, compare
from tests.benchmarks.figures import Figure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_EQUAL, MIN_IOU = 1 - GPU_DIFFERENT, GPU_IOU
"""Share of equal pixels, and IoU of all but background, between two providers of one runtime."""


def providers_here() -> list[str]:
    """Return the names of the execution providers that this machine's ONNX Runtime has, the board's choice first."""
    import onnxruntime

    here = onnxruntime.get_available_providers()
    return [name for name, full in infer.PROVIDERS.items() if full in here]


def masks_of(model: Path, provider: str, tiles: NDArray[np.uint16]) -> tuple[str, NDArray[np.uint8], list[float]]:
    """Return the provider that ran, the masks [N, H, W] of ``tiles`` [N, bands, H, W], and the ms of each tile."""
    import numpy as np

    network = infer.load(model, providers=[provider])
    infer.predict(network, tiles[0])  # the first one also builds the provider's plan
    masks, took_ms = [], []
    for tile in tiles:
        begin = time.perf_counter()
        masks.append(infer.predict(network, tile))
        took_ms.append((time.perf_counter() - begin) * 1e3)
    return network.provider, np.stack(masks), took_ms


def inference(model: Path, scene: Path) -> Iterator[Figure]:
    """One tile after another on every provider, compared with the CPU pixel by pixel."""
    import numpy as np

    with zipfile.ZipFile(model) as archive:
        size = json.loads(archive.read("model.json"))["tile"]
    image = np.load(scene, allow_pickle=False)
    rows, columns = (range(0, n, size) for n in image.shape[1:])
    tiles = np.stack([image[:, r : r + size, c : c + size] for r in rows for c in columns])
    _, reference, took_ms = masks_of(model, "CPU", tiles)
    yield from _speed("CPU", took_ms)
    for provider in providers_here():
        if provider == "CPU":
            continue
        ran_on, masks, took_ms = masks_of(model, provider, tiles)
        if ran_on != provider:
            yield Figure(f"inference, {provider}: started", 0, "", ">= 1", f"its libraries do not load: {ran_on} ran")
            continue
        yield from _speed(provider, took_ms)
        found = compare(masks, reference)
        equal = 1 - found.mismatched_pixels / found.pixels
        yield Figure(f"inference, {provider}: equal pixels", round(equal, 6), "", f">= {MIN_EQUAL}", "CPU, same run")
        yield Figure(f"inference, {provider}: IoU", round(found.iou, 6), "", f">= {MIN_IOU}", "CPU, same run")


def _speed(provider: str, took_ms: list[float]) -> Iterator[Figure]:
    median = round(statistics.median(took_ms), 2)
    yield Figure(f"inference, {provider}: one tile", median, "ms", "", f"median of {len(took_ms)}; one CPU thread")


def main(argv: list[str] | None = None) -> int:
    """Measure and print; without files those of the set-up are used."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.inference", description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, help="model artefact (.zip); default: the one of the set-up")
    parser.add_argument("--scene", type=Path, help="scene (.npy); default: the one of the set-up")
    args = parser.parse_args(argv)
    if args.model is None or args.scene is None:
        from hil.workload.artefacts import ensure_artefacts

        built = ensure_artefacts()
        args.model, args.scene = args.model or built.model.path, args.scene or built.scene.path
    figures = list(inference(args.model, args.scene))
    for figure in figures:
        verdict = "" if not figure.limit else "ok" if figure.ok else f"OUTSIDE {figure.limit}"
        print(f"{figure.name:<40} {figure.value:g} {figure.unit}  {verdict}  ({figure.compared_with})")
    return 0 if all(figure.ok for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
