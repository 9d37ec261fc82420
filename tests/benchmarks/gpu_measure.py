"""Measures one way of running the payload's network: right or wrong, how fast, and for how long."""

from __future__ import annotations

import gc
import itertools
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hil.onboard.node.infer import Loaded, load, predict
from hil.workload.compare import compare
from hil.workload.golden import TILE
from hil.workload.model import CLASSES
from tests.benchmarks.gpu_sensors import Reading, Sensors
from tests.benchmarks.onnx_file import in_single_precision

Tiles = NDArray[np.uint16]
Masks = NDArray[np.uint8]
SLOTS = 3
"""Batches in flight: one is computed while others are copied and checked."""


class Runner(Protocol):
    """Batches of one size: tiles uint16 [N, bands, H, W] in, masks uint8 [N, H, W] out."""

    batch: int

    def submit(self, tiles: Tiles) -> None:
        """Start; may return before the work is done."""
        ...

    def collect(self) -> Masks:
        """Wait for the masks of the last ``submit``."""
        ...


@dataclass(frozen=True)
class Variant:
    """A way of running the network; ``build`` makes a runner for a batch size."""

    name: str
    precision: str
    build: Callable[[int], Runner]
    on_gpu: bool = True


class OrtRunner:
    """ONNX Runtime with one execution provider; works as the boards do, with the whole batch at once."""

    def __init__(self, model: Path, provider: str, batch: int) -> None:
        self.batch = batch
        self._loaded = load(model)
        if provider != "CPUExecutionProvider":
            self._loaded.session.set_providers([provider, "CPUExecutionProvider"])
            if self._loaded.session.get_providers()[0] != provider:
                raise RuntimeError(f"{provider} did not start; ONNX Runtime's log says why")
        self._masks: Masks = np.zeros((0,), dtype=np.uint8)

    def submit(self, tiles: Tiles) -> None:
        card = self._loaded.card
        image = tiles.astype(np.float32) / np.float32(card["scale"])
        for key, function in (("mean", np.subtract), ("std", np.divide)):
            function(image, np.asarray(card[key], dtype=np.float32)[:, None, None], out=image)
        (scores,) = self._loaded.session.run(None, {card["input"]: image})
        self._masks = np.argmax(scores, axis=1).astype(np.uint8)

    def collect(self) -> Masks:
        return self._masks


@dataclass(frozen=True)
class Reference:
    """What a CPU makes of the tiles, one thread."""

    masks: Masks  # [N, 256, 256]
    scores: NDArray[np.float32]  # [N, classes, 256, 256]
    tile_ms: tuple[float, ...]

    @classmethod
    def of(cls, network: Loaded, tiles: Tiles) -> Reference:
        """Masks by the code of the boards, and the scores behind them."""
        masks, took = [], []
        for tile in tiles:
            begin = time.perf_counter()
            masks.append(predict(network, tile))
            took.append((time.perf_counter() - begin) * 1e3)
        return cls(np.stack(masks), _cpu_scores(network, tiles), tuple(took))


@dataclass(frozen=True)
class Scene:
    """Tiles of the scene with two references.

    ``board``: the network as stored, as the boards run it; there, ONNX Runtime merges normalisation into the 16-bit
    weights and rounds them again.  ``single``: the same network with 32-bit numbers throughout, which is what
    single-precision hardware should reproduce.
    """

    tiles: Tiles  # [N, bands, 256, 256]
    board: Reference
    single: Reference

    @classmethod
    def of(cls, image: Tiles, model: Path) -> Scene:
        """Cut the scene [bands, H, W] into tiles and compute both references."""
        rows, columns = (range(0, n, TILE) for n in image.shape[1:])
        tiles = np.stack([image[:, r : r + TILE, c : c + TILE] for r, c in itertools.product(rows, columns)])
        stored = load(model)
        return cls(tiles, Reference.of(stored, tiles), Reference.of(_widened(stored, model), tiles))

    def batch(self, size: int, offset: int = 0) -> Tiles:
        """``size`` tiles, round and round the scene."""
        return np.ascontiguousarray(self.tiles[(np.arange(size) + offset) % len(self.tiles)])


def _widened(stored: Loaded, model: Path) -> Loaded:
    import onnxruntime

    with zipfile.ZipFile(model) as archive:
        content = in_single_precision(archive.read("model.onnx"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return Loaded(stored.artefact, session, stored.card)


def _cpu_scores(network: Loaded, tiles: Tiles) -> NDArray[np.float32]:
    mean, std = (np.asarray(network.card[key], dtype=np.float32)[:, None, None] for key in ("mean", "std"))
    images = (tiles.astype(np.float32) / np.float32(network.card["scale"]) - mean) / std
    return np.concatenate(
        [network.session.run(None, {network.card["input"]: image[None]})[0] for image in images]
    ).astype(np.float32)


@dataclass(frozen=True)
class Agreement:
    """Class masks of all tiles against those of the CPU, pixel by pixel."""

    pixels: int
    mismatched_pixels: int
    iou: float  # of everything that is not background, as hil.workload.compare
    iou_by_class: dict[str, float]


def agreement(found: Masks, wanted: Masks) -> Agreement:
    """DeviceError when the shapes differ."""
    total = compare(found, wanted)
    by_class = {}
    for number, name in enumerate(CLASSES):
        union = int(np.count_nonzero((found == number) | (wanted == number)))
        both = int(np.count_nonzero((found == number) & (wanted == number)))
        by_class[name] = both / union if union else 1.0
    return Agreement(total.pixels, total.mismatched_pixels, total.iou, by_class)


@dataclass(frozen=True)
class ScoreError:
    """Scores against those of the CPU. ``margin``: by how much the CPU preferred its class (score of the first less
    that of the second); a pixel that flips with a small margin was undecided to begin with."""

    max_abs: float
    mean_abs: float
    largest_flipped_margin: float
    median_margin: float


def score_error(found: NDArray[np.float32], wanted: Reference) -> ScoreError:
    """How far scores [N, classes, H, W] are from the reference."""
    difference = np.abs(found - wanted.scores)
    ordered = np.sort(wanted.scores, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    flipped = margin[np.argmax(found, axis=1) != wanted.masks]
    return ScoreError(
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        largest_flipped_margin=float(flipped.max()) if flipped.size else 0.0,
        median_margin=float(np.median(margin)),
    )


@dataclass(frozen=True)
class Speed:
    """One variant at one batch size. Times run from reflectance in host memory to masks in host memory."""

    variant: str
    precision: str
    batch: int
    build_s: float
    board: Agreement  # with the reference of the boards
    single: Agreement  # with the reference in single precision
    runs: int
    batch_ms_p50: float
    batch_ms_p99: float
    tiles_per_s: float  # streamed, SLOTS batches in flight
    megapixels_per_s: float
    device_ms_per_tile: float | None  # GPU time only, data already there
    memory_mib: int | None  # reserved by this process for all slots


def speed(variant: Variant, scene: Scene, batch: int, seconds: float) -> Speed:
    """Build, check against the reference, then time one by one and streamed, ``seconds`` each."""
    memory = _fresh_memory() if variant.on_gpu else None
    begin = time.perf_counter()
    slots = [variant.build(batch) for _ in range(SLOTS if variant.on_gpu else 1)]
    build_s = time.perf_counter() - begin
    found = _all_masks(slots[-1], scene)
    took: list[float] = []
    tiles = scene.batch(batch)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < 3:
        begin = time.perf_counter()
        slots[0].submit(tiles)
        slots[0].collect()
        took.append((time.perf_counter() - begin) * 1e3)
    done, elapsed, _, _ = stream(slots, scene, seconds)
    device_ms = getattr(slots[0], "device_ms", None)
    return Speed(
        variant=variant.name,
        precision=variant.precision,
        batch=batch,
        build_s=round(build_s, 1),
        board=agreement(found, scene.board.masks),
        single=agreement(found, scene.single.masks),
        runs=len(took),
        batch_ms_p50=round(float(np.percentile(took, 50)), 3),
        batch_ms_p99=round(float(np.percentile(took, 99)), 3),
        tiles_per_s=round(done / elapsed, 1),
        megapixels_per_s=round(done * TILE * TILE / elapsed / 1e6, 2),
        device_ms_per_tile=round(device_ms(max(10, 640 // batch)) / batch, 4) if device_ms else None,
        memory_mib=memory() if memory else None,
    )


def _all_masks(runner: Runner, scene: Scene) -> Masks:
    """Masks of every tile of the scene, in batches of the runner's size."""
    masks: list[Masks] = []
    while sum(map(len, masks)) < len(scene.tiles):
        runner.submit(scene.batch(runner.batch, sum(map(len, masks))))
        masks.append(runner.collect().copy())
    return np.concatenate(masks)[: len(scene.tiles)]


def stream(slots: Sequence[Runner], scene: Scene, seconds: float) -> tuple[int, float, list[int], int]:
    """Keep every slot busy: (tiles, seconds, tiles in each whole second, batches with other masks than the first)."""
    size = slots[0].batch
    tiles = scene.batch(size)
    for runner in slots:
        runner.submit(tiles)
    first = slots[0].collect().copy()
    begin = time.perf_counter()
    per_second: list[int] = []
    done = wrong = 0
    for runner in itertools.cycle(slots):
        masks = runner.collect()
        now = time.perf_counter() - begin
        wrong += not np.array_equal(masks, first)
        done += size
        while len(per_second) <= int(now):
            per_second.append(0)
        per_second[int(now)] += size
        if now >= seconds:
            break
        runner.submit(tiles)
    for runner in slots:
        runner.collect()
    return done, now, per_second[:-1], wrong


@dataclass(frozen=True)
class Sustained:
    """A long run at full load. Each batch's masks are compared with the first batch's, bit by bit."""

    variant: str
    precision: str
    batch: int
    seconds: float
    tiles: int
    tiles_per_s: float
    slowest_second_tiles: int | None
    first_tenth_tiles_per_s: float | None
    last_tenth_tiles_per_s: float | None
    batches_with_other_masks: int
    joules_per_tile: float | None
    sensors: Reading | None
    sensors_problem: str


def sustained(variant: Variant, scene: Scene, batch: int, seconds: float) -> Sustained:
    """Full load for ``seconds``, with the GPU's sensors read beside it."""
    slots = [variant.build(batch) for _ in range(SLOTS if variant.on_gpu else 1)]
    _all_masks(slots[0], scene)
    with Sensors() as sensors:
        done, elapsed, per_second, wrong = stream(slots, scene, seconds)
    reading = sensors.reading() if variant.on_gpu else None  # a card may be there that cannot be used
    tenth = max(1, len(per_second) // 10)
    return Sustained(
        variant=variant.name,
        precision=variant.precision,
        batch=batch,
        seconds=round(elapsed, 2),
        tiles=done,
        tiles_per_s=round(done / elapsed, 1),
        slowest_second_tiles=min(per_second) if per_second else None,
        first_tenth_tiles_per_s=round(float(np.mean(per_second[:tenth])), 1) if per_second else None,
        last_tenth_tiles_per_s=round(float(np.mean(per_second[-tenth:])), 1) if per_second else None,
        batches_with_other_masks=wrong,
        joules_per_tile=round(reading.energy_j / done, 4) if reading and reading.energy_j else None,
        sensors=reading,
        sensors_problem=sensors.problem,
    )


def _fresh_memory() -> Callable[[], int] | None:
    """Forget freed GPU memory and count from zero; the result tells MiB reserved at most since. Only with PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    gc.collect()
    cuda: Any = torch.cuda
    if not cuda.is_available():
        return None
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
    return lambda: int(cuda.max_memory_reserved()) >> 20
