"""Places in this checkout that tests read from."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
"""Recorded output of real tools and boards."""
