"""Where things are kept.  Nothing here touches the disk at import."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The installed package: code, templates, recipes of images."""

ROOT = PACKAGE.parent
"""Where the package lies: the checkout, or `site-packages`."""


def home() -> Path:
    """Everything worth keeping between runs: cache, development PKI, container engine data, board disks.

    ``HIL_HOME`` overrides; else ``/var/lib/hil`` for root and ``~/.local/share/hil`` for others.
    """
    if env := os.environ.get("HIL_HOME"):
        return Path(env)
    return Path("/var/lib/hil") if os.geteuid() == 0 else Path.home() / ".local/share/hil"


def run_dir() -> Path:
    """Run-time state (sockets, pids); ``HIL_RUN`` overrides; else ``/run/hil`` for root."""
    if env := os.environ.get("HIL_RUN"):
        return Path(env)
    return Path("/run/hil") if os.geteuid() == 0 else home() / "run"


def cache() -> Path:
    """Images, bundles and downloads, each under its content hash."""
    return home() / "cache"


def pki() -> Path:
    """The development PKI, generated here and never committed."""
    return home() / "pki"


def reports_out() -> Path:
    """What runs produce; ``HIL_REPORTS`` overrides (tests use it)."""
    return Path(os.environ.get("HIL_REPORTS") or ROOT / "reports" / "out")
