"""The inference service: one network from a signed artefact, one tile at a time.

A model artefact is a zip without compression that holds ``model.onnx`` and ``model.json``:
``{"input": name, "tile": 256, "bands": [...], "scale": 10000, "mean": [...], "std": [...], "classes": [...]}``.
The same functions run on the ground to make the golden mask (:mod:`hil.workload`).
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
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

OPTIONS = {"CUDA": (PROVIDERS["CUDA"], {"cudnn_conv_algo_search": "HEURISTIC"})}
"""Providers with options.  CUDA's default takes the algorithm that is fastest now: raw outputs would differ by it."""


@dataclass(frozen=True)
class Loaded:
    """A network ready to run."""

    artefact: str
    session: Any
    card: dict[str, Any]  # model.json
    provider: str = "CPU"
    """The first execution provider that took the network: ``TensorRT``, ``CUDA`` or ``CPU``."""

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

    What a provider cannot run is run by those after it.  ApiError 422 when it is no model artefact.
    """
    # The masks are compared pixel by pixel, and single precision with TF32 gives others (docs/payload.md)
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    import onnxruntime

    here = onnxruntime.get_available_providers()
    usable = [OPTIONS.get(name, PROVIDERS[name]) for name in providers if PROVIDERS[name] in here]

    try:
        with zipfile.ZipFile(path) as archive:
            card = json.loads(archive.read("model.json"))
            weights = archive.read("model.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Spinning and memory arenas pay on a server that does nothing else, not on six boards that share a host
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(weights, options, providers=usable)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as exc:
        raise ApiError(422, f"not a model artefact: {exc}") from exc
    except Exception as exc:  # the runtime's own exceptions have no common base but this
        raise ApiError(422, f"the network cannot be loaded: {exc}") from exc
    # ONNX Runtime leaves out a provider whose libraries do not load: ask which one it took
    first = session.get_providers()[0]
    provider = next((name for name, full in PROVIDERS.items() if full == first), first)
    loaded = Loaded(artefact, session, card, provider)
    try:
        if not 0 < loaded.tile_bytes <= MAX_TILE_BYTES:
            raise ValueError(f"a tile of {loaded.shape}")
    except (LookupError, TypeError, ValueError) as exc:
        raise ApiError(422, f"not a model artefact: model.json: {exc!r}") from exc
    return loaded


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
