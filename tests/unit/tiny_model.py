"""A network small enough to write by hand: a 1 x 1 convolution, encoded as ONNX without the onnx package.

Class 0 scores 0.5 everywhere, class 1 the first band, class 2 minus one: a pixel is class 1 where its first band,
normalised, is above 0.5.
"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

TILE = 8
BANDS = ("blue", "green", "red", "nir")


def _field(number: int, value: bytes | int | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    raw = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _tensor(name: str, shape: tuple[int, ...], values: list[float]) -> bytes:
    dims = b"".join(_field(1, n) for n in shape)
    return dims + _field(2, 1) + _field(8, name) + _field(9, struct.pack(f"<{len(values)}f", *values))


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1, n)) for n in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def onnx() -> bytes:
    weights = [0.0] * 4 + [1.0, 0.0, 0.0, 0.0] + [0.0] * 4
    node = _field(1, "input") + _field(1, "w") + _field(1, "b") + _field(2, "scores") + _field(4, "Conv")
    graph = (
        _field(1, node)
        + _field(2, "tiny")
        + _field(5, _tensor("w", (3, 4, 1, 1), weights))
        + _field(5, _tensor("b", (3,), [0.5, 0.0, -1.0]))
        + _field(11, _value("input", (1, 4, TILE, TILE)))
        + _field(12, _value("scores", (1, 3, TILE, TILE)))
    )
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


def write(path: Path) -> Path:
    """A model artefact with this network."""
    card = {
        "input": "input",
        "tile": TILE,
        "bands": list(BANDS),
        "scale": 10_000,
        "mean": [0.0] * 4,
        "std": [1.0] * 4,
        "classes": ["low", "high", "never"],
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.json", json.dumps(card))
        archive.writestr("model.onnx", onnx())
    return path
