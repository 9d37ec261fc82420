"""A tile of a camera's picture, what a board makes of it, and the board that does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Tile:
    """One tile: ``number`` counts over the spacecraft that saw it; ``key`` says which picture it is."""

    spacecraft: str
    number: int
    key: int
    content: bytes
    check: str = ""
    """Not of the camera: a tile whose answer is known (``known``), or a second look at one (``again``)."""


@dataclass(frozen=True)
class TileResult:
    """What a board made of a tile: the mask, the digest of the network's raw output, and what it took."""

    mask: bytes
    output_sha256: str
    seconds: float


class TileServer(Protocol):
    """One board that computes tiles, asked from the spacecraft that saw them. Not shared between threads."""

    @property
    def board(self) -> str: ...
    @property
    def spacecraft(self) -> str: ...

    def compute(self, tile: Tile) -> TileResult:
        """Return the result. HilError when the board or the way to it fails."""
        ...
