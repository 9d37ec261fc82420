"""Which operating system the boards run: the reference OS, or it with another updater beside RAUC."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hil.core import kinds
from hil.core.paths import PACKAGE

Updater = Literal["rauc", "swupdate"]


@dataclass(frozen=True)
class Recipe:
    """One OS. ``extra``: the folder below ``hil/images/os`` with what it has beyond the reference OS.

    ``packages.txt`` (Debian packages, resolved with all dependencies), ``prune.txt`` (globs to leave out of them)
    and ``rootfs/`` (files on top).  ``sources``: modules of this project that only this OS has.
    """

    name: str
    updater: Updater  # which format its bundles have
    extra: str = ""
    sources: tuple[Path, ...] = ()


REFERENCE = Recipe("reference", "rauc")
SWUPDATE = Recipe(
    "swupdate",
    "swupdate",
    extra="swupdate",
    sources=tuple(PACKAGE / "onboard/updaters" / name for name in ("__init__.py", "swupdate_slots.py")),
)


def recipe_of(adapter: str) -> Recipe:
    """Return the OS that container boards run with an updater (``os.adapter`` of a lab file)."""
    recipe: Recipe = kinds.load(kinds.UPDATERS, adapter).recipe
    return recipe
