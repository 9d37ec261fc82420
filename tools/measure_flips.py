"""Measure which bit flips in a network's weights show, and in what: ``python -m tools.measure_flips MODEL.onnx N``.

Flips are drawn over all weights: one bit of a class (sign, exponent, high and low half of the mantissa), two
bits of one weight, and a run of 32 weights with random bits (what a wrong address of a warp leaves).  For each the
network runs on the given tiles; the raw output's digest, the thresholded mask and NaN are compared with those of the
whole network.  A digest of the file finds every one of them, so it is not measured.
"""

from __future__ import annotations

import argparse
import hashlib
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


def main() -> None:
    """Print a row per kind of flip: how many, and the share that shows in the raw output, the mask, as NaN."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("flips", type=int)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--tiles", type=int, default=2)
    options = parser.parse_args()
    model, random = onnx.load(str(options.model)), np.random.default_rng(1)
    bands = session(model).get_inputs()[0].shape[1]
    shape = (1, bands, options.tile, options.tile)
    tiles = [random.normal(0, 1, shape).astype(np.float32) for _ in range(options.tiles)]
    tensors = [t for t in model.graph.initializer if t.data_type in FLOATS and t.raw_data]
    sizes = np.array([len(t.raw_data) for t in tensors])
    whole = outputs(model, tiles)
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
        found = outputs(model, tiles)
        tensor.raw_data = before
        seen[kind]["flips"] += 1
        seen[kind]["raw"] += any(hashlib.sha256(s.tobytes()).digest() != d for s, d in zip(found, digest, strict=True))
        seen[kind]["mask"] += any(mask_of(s) != m for s, m in zip(found, masks, strict=True))
        seen[kind]["nan"] += any(bool(np.isnan(s).any()) for s in found)
    for kind, count in [*seen.items(), ("all", sum(seen.values(), Counter()))]:
        shares = (f"{count[what]}/{count['flips']}" for what in ("raw", "mask", "nan"))
        print(f"| {kind} | " + " | ".join(shares) + " |", flush=True)


if __name__ == "__main__":
    main()
