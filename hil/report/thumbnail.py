"""Small pictures for the page as data URIs: PNG files as they are, masks (npy, npz) painted in three colours."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

LARGEST_PNG = 400_000
LARGEST_MASK = 64_000_000
"""Bytes of a mask, also of one that is packed."""
WIDEST = 320
"""Pixels; masks are thinned out to this width and height."""

_PALETTE = ((27, 94, 74), (244, 246, 248), (70, 84, 110), (192, 57, 43))
"""Colours of class 0 (surface), 1 (cloud), 2 (cloud shadow) and of any other."""


def picture(path: Path) -> str | None:
    """Return a ``data:`` URI of the file; None when it is missing, too large or not a picture or mask."""
    try:
        if path.suffix == ".png" and path.stat().st_size <= LARGEST_PNG:
            return _uri(path.read_bytes())
        if path.suffix in (".npy", ".npz") and path.stat().st_size <= LARGEST_MASK:
            return _uri(_painted(_load(path)))
    except Exception:  # reading a damaged mask raises almost anything
        return None
    return None


def _load(path: Path) -> Any:
    import numpy

    array = numpy.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, numpy.ndarray):
        if array.zip.infolist()[0].file_size > LARGEST_MASK:
            raise ValueError(f"{path}: its first mask is too large")
        array = array[array.files[0]]
    if array.ndim != 2:
        raise ValueError(f"{path}: a mask has two dimensions, this has {array.ndim}")
    return array


def _painted(mask: Any) -> bytes:
    stride = max(1, -(-max(mask.shape) // WIDEST))
    small = mask[::stride, ::stride]
    rows = b"".join(b"\0" + bytes(min(int(v), 3) if v >= 0 else 3 for v in row) for row in small)
    height, width = small.shape
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(v for colour in _PALETTE for v in colour)),
            _chunk(b"IDAT", zlib.compress(rows, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(tag: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
