"""The payload's network on whatever GPU this machine has: right or wrong, how fast, and at what power.

    python -m tests.benchmarks.gpu [--model FILE --scene FILE] [--seconds 60] [--out reports/out/gpu.json]

ONNX Runtime's TensorRT and CUDA providers are used where they are installed, PyTorch with CUDA where that is, both
where both are; without either the CPU is measured and the output says that there was no GPU.  The reference is the
mask of ONNX Runtime on the CPU of the same machine, one thread, as on a board.  Exits with 1 when a GPU's masks
differ from it by more than the limits.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from hil.core import paths
from hil.workload.compare import digest, read_mask
from tests.benchmarks.gpu_measure import (
    OrtRunner,
    Runner,
    Scene,
    Speed,
    Sustained,
    Variant,
    agreement,
    score_error,
    speed,
    sustained,
)

MIN_AGREEMENT, MIN_IOU, MAX_SINGLE_PIXELS = 0.998, 0.99, 10
"""Our choice, made after the first run. Against the boards' reference: share of equal pixels and IoU of
hil.workload.compare. The boards' reference itself is 0.11 % of pixels away from the same network in single precision,
so less cannot be asked here; on one provider the campaign asks for equality. Against the reference in single
precision, for fp32: pixels that may differ."""
GPU_PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
NO_GPU = "No GPU was used: none that ONNX Runtime or PyTorch could run on. All figures are of the CPU."
NOT_SAID = (
    "The GPU is the one named above, not the board's: nothing here is a figure of a Jetson Orin.",
    "Power and temperature are those of this card in its own cooling; no thermal claim for the board follows.",
    "Times start with reflectance in host memory; reading a scene from storage or network is not in them.",
)


def variants(model: Path, *, compiled: bool = True, precisions: Collection[str] = ()) -> Iterator[Variant]:
    """Every way this machine can run the network on a GPU; if there is none, on the CPU."""
    import onnxruntime

    found = False
    for provider in GPU_PROVIDERS:
        if provider in onnxruntime.get_available_providers():
            found = True
            yield Variant(
                f"onnxruntime {provider.removesuffix('ExecutionProvider')}",
                "as stored",
                partial(OrtRunner, model, provider),
            )
    for variant in _torch_variants(model, compiled=compiled, precisions=precisions):
        found = True
        yield variant
    if not found:
        yield Variant(
            "onnxruntime CPU", "as stored", partial(OrtRunner, model, "CPUExecutionProvider"), on_gpu=False
        )


def _torch_variants(model: Path, *, compiled: bool, precisions: Collection[str]) -> Iterator[Variant]:
    from tests.benchmarks import torch_backend as backend

    if not backend.available():
        return
    import torch

    if not torch.cuda.is_available():
        return
    plan, card = _plan(model)
    for precision in backend.Precision:
        if precisions and precision.value not in precisions:
            continue

        def build(batch: int, precision: backend.Precision = precision) -> Runner:
            return backend.TorchRunner(plan, card, precision=precision, batch=batch, compiled=compiled)

        yield Variant("torch compiled" if compiled else "torch", precision.value, build)


def _plan(model: Path) -> tuple[Any, dict[str, Any]]:
    import zipfile

    from hil.workload.model import read_card
    from tests.benchmarks.onnx_file import read_graph
    from tests.benchmarks.onnx_plan import simplify

    with zipfile.ZipFile(model) as archive:
        return simplify(read_graph(archive.read("model.onnx"))), read_card(model)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    import onnxruntime

    facts: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "onnxruntime_providers": onnxruntime.get_available_providers(),
        "gpu": None,
    }
    try:
        import torch
    except ImportError:
        return facts
    facts |= {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        facts |= {"gpu": card.name, "gpu_memory_mib": card.total_memory >> 20, "driver": _driver()}
    return facts


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _driver() -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:  # NVMLError exists only where the package does; the version is decoration
        return None


def _scores(variant: Variant, scene: Scene) -> dict[str, Any] | None:
    """Errors against both references, and the work in a tile; None where the way gives no scores."""
    runner = variant.build(1)
    scores, gflop = getattr(runner, "scores", None), getattr(runner, "gflop", None)
    if scores is None or gflop is None:
        return None
    found = np.concatenate([scores(tile[None]) for tile in scene.tiles])
    return {
        "board": asdict(score_error(found, scene.board)),
        "single": asdict(score_error(found, scene.single)),
        "gflop_per_tile": round(gflop(), 2),
    }


def _best(rows: list[Speed], precision: str) -> Speed:
    return max((row for row in rows if row.precision == precision), key=lambda row: row.tiles_per_s)


def _within(row: Speed) -> bool:
    same = 1 - row.board.mismatched_pixels / row.board.pixels
    exact = row.precision != "fp32" or row.single.mismatched_pixels <= MAX_SINGLE_PIXELS
    return same >= MIN_AGREEMENT and row.board.iou >= MIN_IOU and exact


def tables(rows: list[Speed], runs: list[Sustained]) -> Iterator[Table]:
    """The figures as two tables."""
    table = Table("how", "precision", "batch", "batch p50 ms", "p99 ms", "tiles/s", "Mpixel/s", "GPU ms/tile")
    for title in ("memory MiB", "differ: board", "fp32", "IoU"):
        table.add_column(title)
    for row in rows:
        table.add_row(
            row.variant,
            row.precision,
            str(row.batch),
            f"{row.batch_ms_p50:.2f}",
            f"{row.batch_ms_p99:.2f}",
            f"{row.tiles_per_s:.0f}" if row.tiles_per_s >= 100 else f"{row.tiles_per_s:.1f}",
            f"{row.megapixels_per_s:.1f}",
            "" if row.device_ms_per_tile is None else f"{row.device_ms_per_tile:.3f}",
            "" if row.memory_mib is None else str(row.memory_mib),
            str(row.board.mismatched_pixels),
            str(row.single.mismatched_pixels),
            f"{row.board.iou:.5f}",
        )
    yield table
    table = Table(
        "sustained", "precision", "batch", "s", "tiles/s", "first, last tenth", "wrong", "J/tile", "W mean"
    )
    for title in ("C", "busy %", "MHz", "held back by"):
        table.add_column(title)
    for run in runs:
        seen = run.sensors
        table.add_row(
            run.variant,
            run.precision,
            str(run.batch),
            f"{run.seconds:.0f}",
            f"{run.tiles_per_s:.0f}" if run.tiles_per_s >= 100 else f"{run.tiles_per_s:.1f}",
            f"{run.first_tenth_tiles_per_s}, {run.last_tenth_tiles_per_s}",
            str(run.batches_with_other_masks),
            "" if run.joules_per_tile is None else f"{run.joules_per_tile:.4f}",
            "" if seen is None else f"{seen.power_w_mean:.0f}",
            "" if seen is None else f"{seen.temperature_c_first} to {seen.temperature_c_max}",
            "" if seen is None else f"{seen.utilisation_pct_mean:.0f} (min {seen.utilisation_pct_min})",
            "" if seen is None else f"{seen.sm_clock_mhz_mean:.0f}",
            "" if seen is None else ", ".join(seen.held_back_by),
        )
    yield table


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gpu", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--model", type=Path, help="model artefact (.zip); default: the cached one, built if missing"
    )
    parser.add_argument("--scene", type=Path, help="scene (.npy); default: the cached one, built if missing")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="length of the run at full load, per precision"
    )
    parser.add_argument("--each", type=float, default=2.0, help="seconds per timing of one batch size")
    parser.add_argument("--batches", type=int, nargs="+", help="default: 1 4 16 64 on a GPU, 1 on a CPU")
    parser.add_argument("--no-compile", action="store_true", help="PyTorch without torch.compile")
    parser.add_argument(
        "--precisions", nargs="+", choices=("fp32", "tf32", "fp16"), default=(), help="default: all"
    )
    parser.add_argument("--out", type=Path, default=paths.reports_out() / "gpu.json")
    args = parser.parse_args(argv)
    if args.model is None or args.scene is None:
        from hil.workload import ensure_artefacts

        built = ensure_artefacts()
        args.model, args.scene = args.model or built.model.path, args.scene or built.scene.path
    console = Console(width=170)
    image = np.load(args.scene, allow_pickle=False)
    scene = Scene.of(image, args.model)
    ways = list(variants(args.model, compiled=not args.no_compile, precisions=args.precisions))
    on_gpu = ways[0].on_gpu
    rows: list[Speed] = []
    errors: dict[str, Any] = {}
    for way in ways:
        for batch in args.batches or ((1, 4, 16, 64) if on_gpu else (1,)):
            rows.append(speed(way, scene, batch, args.each))
            console.print(
                f"{way.name}, {way.precision}, batch {batch}: {rows[-1].tiles_per_s} tiles/s, "
                f"{rows[-1].board.mismatched_pixels} and {rows[-1].single.mismatched_pixels} pixels differ from the "
                f"board's and the fp32 reference, built in {rows[-1].build_s} s"
            )
        error = _scores(way, scene)
        if error is not None:
            errors[f"{way.name}, {way.precision}"] = error
    runs: list[Sustained] = []
    for precision in dict.fromkeys(row.precision for row in rows) if args.seconds > 0 else ():
        best = _best(rows, precision)
        way = next(w for w in ways if (w.name, w.precision) == (best.variant, precision))
        runs.append(sustained(way, scene, best.batch, args.seconds))
    document = {
        "gpu_used": on_gpu,
        "statement": "" if on_gpu else NO_GPU,
        "machine": machine(),
        "model": {"file": args.model.name, "scene": args.scene.name, "tiles": len(scene.tiles)},
        "reference": {
            "how": "onnxruntime CPU, one thread, this machine",
            "digest": digest(scene.board.masks),
            "board_against_committed": _committed(scene, image.shape),
            "single_against_board": asdict(agreement(scene.single.masks, scene.board.masks)),
            "board_tile_ms_p50": round(float(np.median(scene.board.tile_ms)), 1),
            "single_tile_ms_p50": round(float(np.median(scene.single.tile_ms)), 1),
        },
        "limits": {
            "min_agreement": MIN_AGREEMENT,
            "min_iou": MIN_IOU,
            "max_pixels_from_single_precision": MAX_SINGLE_PIXELS,
        },
        "within_limits": all(map(_within, rows)),
        "score_errors": errors,
        "speed": [asdict(row) for row in rows],
        "sustained": [asdict(run) for run in runs],
        "not_said": list(NOT_SAID) if on_gpu else [],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(document, indent=2) + "\n")
    for table in tables(rows, runs):
        console.print(table)
    for line in [*(NOT_SAID if on_gpu else [NO_GPU]), f"written to {args.out}"]:
        console.print(line)
    return 0 if document["within_limits"] else 1


def _committed(scene: Scene, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """This machine's reference against the mask in the repository, when the scene is the usual one."""
    from hil.workload.artefacts import COMMITTED_GOLDEN
    from hil.workload.golden import TILE

    golden = read_mask(COMMITTED_GOLDEN)
    if golden.shape != shape[1:]:
        return None
    rows, columns = (n // TILE for n in golden.shape)
    tiles = golden.reshape(rows, TILE, columns, TILE).swapaxes(1, 2).reshape(-1, TILE, TILE)
    return asdict(agreement(scene.board.masks, np.ascontiguousarray(tiles)))


if __name__ == "__main__":
    sys.exit(main())
