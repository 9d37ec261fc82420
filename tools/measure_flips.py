"""Measure which bit flips in a network's weights show, and in what: ``python -m tools.measure_flips MODEL N``.

Flips are drawn over all weights: one bit of a class (sign, exponent, high and low half of the mantissa), two
bits of one weight, and a run of 32 weights with random bits (what a wrong address of a warp leaves).  For each the
network runs on the given tiles; the raw output's digest, the thresholded mask and NaN are compared with those of the
whole network, on all tiles and on the first alone.  Whether the digest of the stored file changes is counted, too.

MODEL is a network (.onnx: its tiles are noise), or the artefact of the boards (.zip) with ``--scene``: then the tiles
are those of the scene, as boards get them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

CLASSES = {
    32: {"sign": (31, 32), "exponent": (23, 31), "mantissa, high half": (12, 23), "mantissa, low half": (0, 12)},
    16: {"sign": (15, 16), "exponent": (10, 15), "mantissa, high half": (5, 10), "mantissa, low half": (0, 5)},
}
"""Bits of a weight by its width."""
FLOATS = {onnx.TensorProto.FLOAT: np.uint32, onnx.TensorProto.FLOAT16: np.uint16}
KINDS = (*CLASSES[32], "two bits", "32 weights")


def session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs(model: onnx.ModelProto, tiles: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Return the raw output of the network for each tile."""
    run = session(model)
    name = run.get_inputs()[0].name
    return [run.run(None, {name: tile})[0] for tile in tiles]


def mask_of(scores: np.ndarray[Any, Any]) -> bytes:
    """Return the classes of every pixel; of one score, where it is above a half (after a sigmoid: above 0)."""
    layer = scores[0]
    return bytes(np.argmax(layer, axis=0).astype(np.uint8) if layer.shape[0] > 1 else (layer[0] > 0))


def flip(weights: np.ndarray[Any, Any], kind: str, at: int, random: np.random.Generator) -> None:
    """Change the weights in place."""
    width = 8 * weights.itemsize
    if kind == "32 weights":
        weights[at : at + 32] ^= random.integers(0, 2**width, len(weights[at : at + 32]), dtype=weights.dtype)
        return
    low, high = CLASSES[width].get(kind, (0, width))
    for bit in random.choice(np.arange(low, high), 2 if kind == "two bits" else 1, replace=False):
        weights[at] ^= weights.dtype.type(1 << int(bit))


def scene_tiles(scene: Path, card: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """Return the tiles of a scene (.npy, uint16) as the network of an artefact takes them."""
    image = np.load(scene, allow_pickle=False).astype(np.float32) / np.float32(card["scale"])
    image -= np.asarray(card["mean"], dtype=np.float32)[:, None, None]
    image /= np.asarray(card["std"], dtype=np.float32)[:, None, None]
    rows, columns = (range(0, length, card["tile"]) for length in image.shape[1:])
    return [
        np.ascontiguousarray(image[None, :, r : r + card["tile"], c : c + card["tile"]]) for r in rows for c in columns
    ]


def main() -> None:
    """Print a row per kind of flip: how many show in the raw output, the mask, as NaN; and at which tile first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("flips", type=int)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--tiles", type=int, default=4)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    if options.scene:
        with zipfile.ZipFile(options.model) as archive:
            model, card = onnx.load_from_string(archive.read("model.onnx")), json.loads(archive.read("model.json"))
        tiles = scene_tiles(options.scene, card)[: options.tiles]
    else:
        model = onnx.load(str(options.model))
        shape = (1, session(model).get_inputs()[0].shape[1], options.tile, options.tile)
        tiles = [random.normal(0, 1, shape).astype(np.float32) for _ in range(options.tiles)]
    tensors = [t for t in model.graph.initializer if t.data_type in FLOATS and t.raw_data]
    sizes = np.array([len(t.raw_data) for t in tensors])
    whole, stored = outputs(model, tiles), hashlib.sha256(model.SerializeToString()).digest()
    digest = [hashlib.sha256(scores.tobytes()).digest() for scores in whole]
    masks = [mask_of(scores) for scores in whole]
    seen: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for number in range(options.flips):
        kind = KINDS[number % len(KINDS)]
        tensor = tensors[int(random.choice(len(tensors), p=sizes / sizes.sum()))]
        before = tensor.raw_data
        weights = np.frombuffer(before, dtype=FLOATS[tensor.data_type]).copy()
        flip(weights, kind, int(random.integers(len(weights))), random)
        tensor.raw_data = weights.tobytes()
        in_file = hashlib.sha256(model.SerializeToString()).digest() != stored
        found = outputs(model, tiles)
        tensor.raw_data = before
        shows = [hashlib.sha256(s.tobytes()).digest() != d for s, d in zip(found, digest, strict=True)]
        seen[kind]["flips"] += 1
        seen[kind]["file"] += in_file
        seen[kind]["raw"] += any(shows)
        seen[kind]["first"] += shows[0]
        seen[kind]["mask"] += any(mask_of(s) != m for s, m in zip(found, masks, strict=True))
        seen[kind]["nan"] += any(bool(np.isnan(s).any()) for s in found)
    print(f"| flip | file | raw output, {len(tiles)} tiles | at the first tile | mask | NaN |", flush=True)
    for kind, count in [*seen.items(), ("all", sum(seen.values(), Counter()))]:
        shares = (f"{count[what]}/{count['flips']}" for what in ("file", "raw", "first", "mask", "nan"))
        print(f"| {kind} | " + " | ".join(shares) + " |", flush=True)


if __name__ == "__main__":
    main()
