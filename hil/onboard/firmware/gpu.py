"""A GPU of the host that the container was given: handed on to the OS, which has a root of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PLACE = "/gpu"
"""The container has the driver's files below it, at the paths that they are to have in the OS."""
VARIABLE = "BOARD_GPU"
"""Variable of the firmware: ``{"devices": [path], "files": [path], "links": {path: name}, "env": {name: value}}``."""


def told(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return what there is to hand on; empty without a GPU."""
    found = json.loads(environment.get(VARIABLE, "{}"))
    return found if isinstance(found, dict) else {}


def hand_on(gpu: Mapping[str, Any], root: Path, bind: Callable[..., None], hardware: Path = Path("/")) -> None:
    """Give the OS at ``root`` the nodes, files and links; ``hardware`` is the container's own root."""
    for path in gpu.get("devices", ()):
        state, node = (hardware / path.lstrip("/")).stat(), _room(root, path)
        old = os.umask(0)
        try:
            os.mknod(node, state.st_mode | 0o666, state.st_rdev)
        finally:
            os.umask(old)
    for path in gpu.get("files", ()):
        source, target = hardware / PLACE.lstrip("/") / path.lstrip("/"), _room(root, path)
        if source.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        bind(source, target, read_only=True)
    for path, name in gpu.get("links", {}).items():
        link = _room(root, path)
        if not os.path.lexists(link):
            link.symlink_to(name)


def _room(root: Path, path: str) -> Path:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
