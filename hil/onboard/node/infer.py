"""The inference service: one network from a signed artefact, one tile at a time.

A model artefact is a zip without compression that holds ``model.onnx`` and ``model.json``:
``{"input": name, "tile": 256, "bands": [...], "scale": 10000, "mean": [...], "std": [...], "classes": [...]}``.
The same functions run on the ground to make the golden mask (:mod:`hil.workload`).
"""

from __future__ import annotations

import ctypes
import hashlib
import io
import json
import math
import os
import re
import threading
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.onboard.node.errors import ApiError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_TILE_BYTES = 64 << 20
NPY_HEAD_BYTES = 1024
PROVIDERS = {"TensorRT": "TensorrtExecutionProvider", "CUDA": "CUDAExecutionProvider", "CPU": "CPUExecutionProvider"}
"""Execution providers of ONNX Runtime in the order of choice; a board has some of them (a container board: CPU)."""

TENSORRT = "libonnxruntime_providers_tensorrt.so"
LONGEST_REASON = 300
"""Characters of the reason for which a provider was left out."""

OPTIONS = {"CUDA": (PROVIDERS["CUDA"], {"cudnn_conv_algo_search": "HEURISTIC"})}
"""Providers with options.  CUDA's default takes the algorithm that is fastest now: raw outputs would differ by it."""


@dataclass(frozen=True)
class Loaded:
    """A network ready to run."""

    artefact: str
    session: Any
    card: dict[str, Any]  # model.json
    providers: tuple[str, ...] = ("CPU",)
    """Execution providers that took the network, in their order: ``TensorRT``, ``CUDA``, ``CPU``."""
    left_out: str = ""
    """Providers that the runtime has and that could not be used here, with the reason."""

    @property
    def provider(self) -> str:
        """The first provider that took the network."""
        return self.providers[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, height and width of a tile."""
        return (len(self.card["bands"]), self.card["tile"], self.card["tile"])

    @property
    def tile_bytes(self) -> int:
        """The most bytes that a tile of this network has, uint16 in a ``.npy`` file."""
        return 2 * math.prod(self.shape) + NPY_HEAD_BYTES


def load(path: Path, artefact: str = "", providers: Iterable[str] = PROVIDERS) -> Loaded:
    """Open a model artefact on the first of ``providers`` that this board has, with one CPU thread.

    What a provider cannot run is run by those after it.  One whose libraries are not here is left out by us: the
    runtime's own fallback forgets the options, and then raw outputs of two boards differ.  ApiError 422 when it is no
    model artefact.
    """
    # The masks are compared pixel by pixel, and single precision with TF32 gives others (docs/payload.md)
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    import onnxruntime

    here, reasons = onnxruntime.get_available_providers(), dict[str, str]()
    names = [name for name in providers if PROVIDERS[name] in here]
    if "TensorRT" in names and (missing := _missing_libraries(Path(onnxruntime.__file__).parent / "capi" / TENSORRT)):
        names.remove("TensorRT")
        reasons["TensorRT"] = missing
    names = names or ["CPU"]

    try:
        with zipfile.ZipFile(path) as archive:
            card = json.loads(archive.read("model.json"))
            weights = archive.read("model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Spinning and memory arenas pay on a server that does nothing else, not on six boards that share a host
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        while True:
            usable = [OPTIONS.get(name, PROVIDERS[name]) for name in names]
            try:
                session = onnxruntime.InferenceSession(weights, options, providers=usable, enable_fallback=0)
                break
            except Exception as exc:  # the runtime's own exceptions have no common base but this
                if len(names) < 2:
                    raise
                reasons[names.pop(0)] = str(exc)[:LONGEST_REASON]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as exc:
        raise ApiError(422, f"not a model artefact: {exc}") from exc
    except Exception as exc:  # the runtime's own exceptions have no common base but this
        raise ApiError(422, f"the network cannot be loaded: {exc}") from exc
    # ONNX Runtime leaves out CUDA when its libraries do not load: ask which ones it took
    short = {full: name for name, full in PROVIDERS.items()}
    took = tuple(short.get(full, full) for full in session.get_providers())
    reasons |= {name: "its libraries do not load" for name in names if name not in took}
    left_out = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    loaded = Loaded(artefact, session, card, took, left_out)
    try:
        if not 0 < loaded.tile_bytes <= MAX_TILE_BYTES:
            raise ValueError(f"a tile of {loaded.shape}")
    except (LookupError, TypeError, ValueError) as exc:
        raise ApiError(422, f"not a model artefact: model.json: {exc!r}") from exc
    return loaded


def _missing_libraries(provider: Path) -> str:
    """Return why the libraries of NVIDIA that a provider's own file names cannot be loaded; empty when they can be.

    Empty also without such a file: then the provider is part of the runtime, which did load.
    """
    try:
        wanted = sorted({*re.findall(rb"libnv(?:infer|infer_plugin|onnxparser)\.so(?:\.\d+)+", provider.read_bytes())})
        for name in wanted:
            ctypes.CDLL(name.decode())
    except FileNotFoundError:
        return ""
    except OSError as exc:
        return str(exc)[:LONGEST_REASON]
    return ""


def predict(model: Loaded, tile: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Class of every pixel, uint8 [H, W], of a tile uint16 [bands, H, W] of reflectance x ``scale``."""
    return classes(scores_of(model, tile))


def scores_of(model: Loaded, tile: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Raw output of the network, float32 [classes, H, W], for such a tile."""
    import numpy as np

    card = model.card
    if tile.shape != model.shape or tile.dtype != np.uint16:
        raise ApiError(400, f"tile must be uint16 {model.shape}, not {tile.dtype} {tile.shape}")
    image = tile.astype(np.float32) / np.float32(card["scale"])
    image -= np.asarray(card["mean"], dtype=np.float32)[:, None, None]
    image /= np.asarray(card["std"], dtype=np.float32)[:, None, None]
    (scores,) = model.session.run(None, {card["input"]: image[None]})
    raw: NDArray[np.float32] = scores[0]
    return raw


def classes(scores: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Class of every pixel: the one with the highest score."""
    import numpy as np

    mask: NDArray[np.uint8] = np.argmax(scores, axis=0).astype(np.uint8)
    return mask


def output_sha256(scores: NDArray[np.float32]) -> str:
    """Return the digest of a raw output: bit flips show in it that no mask shows."""
    import numpy as np

    return hashlib.sha256(np.ascontiguousarray(scores).tobytes()).hexdigest()


def to_npy(array: NDArray[Any]) -> bytes:
    """Return a ``.npy`` file in memory."""
    import numpy as np

    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def from_npy(content: bytes) -> NDArray[Any]:
    """Return the array of a ``.npy`` file; ApiError 400 when it is not one, or says that it is larger than it is."""
    import numpy as np
    from numpy.lib import format as npy

    stream = io.BytesIO(content)
    try:
        heads = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, dtype = heads[npy.read_magic(stream)](stream)
        if dtype.itemsize < 1 or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
            raise ValueError(f"{dtype} {shape} in {len(content)} bytes")
        stream.seek(0)
        array: NDArray[Any] = np.load(stream, allow_pickle=False)
    except Exception as exc:  # numpy evaluates the head as Python text, and raises whatever that meets
        raise ApiError(400, f"not a npy array: {type(exc).__name__}: {str(exc)[:100]}") from None
    return array


class Inference:
    """Keeps one loaded network; tiles are inferred one after another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._model: Loaded | None = None
        self.error = ""

    @property
    def loaded(self) -> str | None:
        """Artefact id of the network in memory."""
        return self._model.artefact if self._model is not None else None

    @property
    def provider(self) -> str | None:
        """Execution provider of the network in memory."""
        return self._model.provider if self._model is not None else None

    @property
    def providers(self) -> tuple[str, ...]:
        """All execution providers of the network in memory, in their order."""
        return self._model.providers if self._model is not None else ()

    @property
    def left_out(self) -> str:
        """Providers that could not be used for it, with the reason."""
        return self._model.left_out if self._model is not None else ""

    def tile_limit(self, artefact: str) -> int:
        """Return the most bytes that a tile may have: the network's own, or ``MAX_TILE_BYTES`` before it is loaded."""
        model = self._model
        return model.tile_bytes if model is not None and model.artefact == artefact else MAX_TILE_BYTES

    def prepare(self, artefact: str, path: Path) -> Loaded:
        """Load the network unless it is the one in memory. ApiError 422 when it cannot be."""
        with self._lock:
            if self._model is None or self._model.artefact != artefact:
                self._model = None  # two networks at once may not fit into memory
                try:
                    self._model = load(path, artefact)
                    self.error = ""
                except ApiError as exc:
                    self.error = exc.message
                    raise
                except ImportError as exc:
                    self.error = f"no inference runtime on this board: {exc}"
                    raise ApiError(501, self.error) from exc
            return self._model

    def infer(self, artefact: str, path: Path, tile: bytes) -> tuple[bytes, str, float]:
        """Return the mask of a tile as ``.npy``, the digest of the raw output, and the seconds the network took."""
        model = self.prepare(artefact, path)
        array = from_npy(tile)
        with self._lock:
            start = time.monotonic()
            scores = scores_of(model, array)
            seconds = time.monotonic() - start
        return to_npy(classes(scores)), output_sha256(scores), seconds
