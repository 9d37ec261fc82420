"""Measure which bit flips in a network's weights show, and in what: ``python -m tools.measure_flips MODEL N``.

Flips are drawn over all weights: one bit of a class (sign, exponent, high and low half of the mantissa), two
bits of one weight, and a run of 32 weights with random bits (what a wrong address of a warp leaves).  For each the
network runs on the given tiles; the raw output's digest, the thresholded mask and NaN are compared with those of the
whole network, on all tiles and on the first alone.  Whether the digest of the stored file changes is counted, too.

With ``--clock EVERY`` the flips strike the network in the memory of a board that serves a stream of tiles
(:class:`hil.workload.stream.TileStream`, in this process), each ``EVERY``-th tile a known one, at a random moment.  The
time until the stream names the board is clocked: until any tile whose answer is compared, as on the bench, and until
a known one, as in flight, where the camera's tiles have no reference.  A flip is given up after each known tile.

MODEL is a network (.onnx: its tiles are noise), or the artefact of the boards (.zip) with ``--scene``: then the tiles
are those of the scene, as boards get them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from hil.core.wait import wait_until
from hil.workload.stream import TileStream
from hil.workload.stream_report import StreamReport
from hil.workload.tile import Tile, TileResult

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


def drawn(model: onnx.ModelProto, flips: int, random: np.random.Generator) -> Iterator[str]:
    """Yield the kind of each flip while it is in the model; the weights are whole again after it."""
    tensors = [t for t in model.graph.initializer if t.data_type in FLOATS and t.raw_data]
    sizes = np.array([len(t.raw_data) for t in tensors])
    for number in range(flips):
        kind = KINDS[number % len(KINDS)]
        tensor = tensors[int(random.choice(len(tensors), p=sizes / sizes.sum()))]
        before = tensor.raw_data
        weights = np.frombuffer(before, dtype=FLOATS[tensor.data_type]).copy()
        flip(weights, kind, int(random.integers(len(weights))), random)
        tensor.raw_data = weights.tobytes()
        yield kind
        tensor.raw_data = before


class LocalBoard:
    """A board of a stream, in this process: it computes with the network that is in its memory now."""

    board, spacecraft = "a1", "sc-a"

    def __init__(self, network: Any, tiles: Sequence[np.ndarray[Any, Any]]) -> None:
        self.network, self._tiles = network, tiles

    def compute(self, tile: Tile) -> TileResult:
        network, start_s = self.network, time.monotonic()
        scores = network.run(None, {network.get_inputs()[0].name: self._tiles[tile.key]})[0]
        return TileResult(mask_of(scores), hashlib.sha256(scores.tobytes()).hexdigest(), time.monotonic() - start_s)


@dataclass(frozen=True)
class Clocked:
    """How long after a flip the stream named the board, s; None: not at all."""

    kind: str
    by_any_s: float | None
    by_known_s: float | None


def _named(report: StreamReport, kind: str, tiles: int) -> Clocked:
    """Wait until a known tile shows the flip that is in the board since now, or each of them did not."""
    struck_s, before, checks = time.monotonic(), len(report.wrong), report.checks
    first: dict[bool, float] = {}

    def named() -> bool:
        for wrong in report.wrong[before:]:
            first.setdefault(wrong.tile.check == "known", time.monotonic() - struck_s)
        return True in first or report.checks > checks + tiles

    wait_until(named, what="the known tiles", deadline_s=3600, every_s=0.005)
    return Clocked(kind, min(first.values(), default=None), first.get(True))


def clock(
    model: onnx.ModelProto, tiles: list[np.ndarray[Any, Any]], flips: int, every: int, random: np.random.Generator
) -> tuple[list[Clocked], float]:
    """Strike the board of a running stream with flips, one after another; also return the seconds of a tile."""
    whole, found = session(model), list[Clocked]()
    board = LocalBoard(whole, tiles)
    known = {key: board.compute(Tile("sc-a", key, key, b"")).output_sha256 for key in range(len(tiles))}
    stream = TileStream([board], [b""] * len(tiles), known=known, known_every=every)
    report = stream.report

    def strike() -> None:
        for kind in drawn(model, flips, random):
            network = session(model)
            time.sleep(float(random.uniform(0, every * report.latency_s(0.5))))
            board.network = network
            found.append(_named(report, kind, len(tiles)))
            board.network = whole
            time.sleep(2 * report.latency_s(0.99))  # a tile that was in the flipped network is none of the next flip's

    stream.run(0.0, during=strike, until_done=True)
    return found, statistics.median(report.boards["a1"].computed_s)


def print_clocked(found: Sequence[Clocked], tile_s: float, every: int) -> None:
    """Print a row per kind of flip: how many were found by any tile, by a known one, and after how long."""
    print(f"a tile took {tile_s:.3f} s (median), each {every}th was a known one")
    print("| flip | any tile | median, longest | a known tile | median, longest |")
    for kind in (*KINDS, "all"):
        rows = [each for each in found if kind in (each.kind, "all")]
        if not rows:
            continue
        cells = []
        for times in ([r.by_any_s for r in rows], [r.by_known_s for r in rows]):
            took = [each for each in times if each is not None]
            span = f"{statistics.median(took):.2f} s, {max(took):.2f} s" if took else "-"
            cells += [f"{len(took)}/{len(rows)}", span]
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print a row per kind of flip: how many show in the raw output, the mask, as NaN; and at which tile first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("flips", type=int)
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--clock", type=int, metavar="EVERY", help="clock how long a stream takes to name the board")
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
    if options.clock:
        print_clocked(*clock(model, tiles, options.flips, options.clock, random), options.clock)
        return
    whole, stored = outputs(model, tiles), hashlib.sha256(model.SerializeToString()).digest()
    digest = [hashlib.sha256(scores.tobytes()).digest() for scores in whole]
    masks = [mask_of(scores) for scores in whole]
    seen: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for kind in drawn(model, options.flips, random):
        in_file = hashlib.sha256(model.SerializeToString()).digest() != stored
        found = outputs(model, tiles)
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
