"""Finds the kinds of things that a lab may name: boards, outlets, link engines, updaters, faults, APIs of models.

Each kind is an entry point of an installed package, in the group of its sort; the built-in kinds are entry points of
this package.  The name of the entry point is the word that a lab file uses.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hil.errors import ConfigurationError

BOARDS = "hil.boards"
OUTLETS = "hil.outlets"
ENGINES = "hil.engines"
UPDATERS = "hil.updaters"
FAULTS = "hil.faults"
ENGINEERING_MODELS = "hil.engineering_models"


@cache
def _points(group: str) -> tuple[EntryPoint, ...]:
    """Return the entry points of ``group``; to find them, the files of all installed packages are read."""
    return tuple(entry_points(group=group))


@cache
def names(group: str) -> tuple[str, ...]:
    """Return the names of all installed kinds of ``group``, sorted."""
    return tuple(sorted({point.name for point in _points(group)}))


@cache
def load(group: str, name: str) -> Any:
    """Import and return the kind ``name`` of ``group``.

    ConfigurationError when no installed package has it (with the names that there are), when two packages claim the
    name, or when the package that has it cannot be imported.
    """
    points = [point for point in _points(group) if point.name == name]
    if not points:
        close = get_close_matches(name, names(group), n=1)
        raise ConfigurationError(
            f"no installed package has {name!r} in {group}" + (f"; did you mean {close[0]!r}?" if close else ""),
            remedy=f"there are: {', '.join(names(group)) or 'none'}",
        )
    if len({point.value for point in points}) > 1:
        raise ConfigurationError(
            f"two packages claim {name!r} in {group}: {', '.join(sorted(map(_package, points)))}",
            remedy="uninstall one of them",
        )
    try:
        return points[0].load()
    except Exception as exc:
        raise ConfigurationError(
            f"{name!r} of {group} cannot be loaded from {_package(points[0])} ({points[0].value}): "
            f"{type(exc).__name__}: {exc}",
            remedy="install or mend that package",
        ) from exc


def all_of(group: str) -> dict[str, Any]:
    """Load every kind of ``group``: name to object."""
    return {name: load(group, name) for name in names(group)}


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
