"""Places in this checkout that tests read from."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
"""Recorded output of real tools and boards."""
TWO_BOARDS = DATA / "two_boards.yaml"
"""A lab file: boards a1 and b1, links ``ground`` and ``isl-ab``."""
