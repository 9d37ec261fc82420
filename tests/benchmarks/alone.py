"""Run a program with a home, an engine and namespaces of its own, so that it may break and count what is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hil.core import paths

SIGN = "HIL_ALONE"
"""Environment: the folder of a program that is alone."""
_MOUNT = 'mount -o loop "$HIL_ALONE/disk" "$HIL_HOME" && mount -t tmpfs netns /run/netns && exec "$@"'


def alone(argv: Sequence[str], *, home_gb: float = 4.0, environment: Mapping[str, str] | None = None) -> int:
    """Run a module with its arguments in mount and process namespaces of its own; return its exit code.

    Named network namespaces are its own, too.  Its ``HIL_HOME`` is a file system of its own in a sparse file, with this
    home's cache and PKI; all of it is gone afterwards.
    """
    place = Path(tempfile.mkdtemp(prefix="hil-alone-"))
    home, disk = place / "home", place / "disk"
    try:
        home.mkdir()
        with disk.open("wb") as file:
            file.truncate(int(home_gb * (1 << 30)))
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(disk)], check=True)
        Path("/run/netns").mkdir(parents=True, exist_ok=True)
        own = {SIGN: place, "HIL_HOME": home, "HIL_RUN": place / "run", "HIL_LEASES": place / "leases.db"}
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", _MOUNT, "sh"]
        words += [sys.executable, "-m", *argv]
        real = {"HIL_ALONE_CACHE": str(paths.home())}
        env = {**os.environ, **real, **{name: str(value) for name, value in own.items()}, **(environment or {})}
        return subprocess.run(words, cwd=paths.ROOT, env=env).returncode
    finally:
        shutil.rmtree(place, ignore_errors=True)


def is_alone() -> bool:
    """Return whether this process was started by :func:`alone`; then its home gets the cache and the PKI."""
    if SIGN not in os.environ:
        return False
    for name in ("cache", "pki"):
        link = paths.home() / name
        if not link.is_symlink():
            link.symlink_to(Path(os.environ["HIL_ALONE_CACHE"]) / name)
    return True
