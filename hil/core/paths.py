"""Places of files and folders.  Nothing here touches the disk at import."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
"""The installed package: code, templates, recipes of images."""

ROOT = PACKAGE.parent
"""Where the package lies: the checkout, or `site-packages`."""


def checkout() -> Path | None:
    """Return the checkout that this package runs from; None when it was installed from a wheel."""
    return ROOT if (ROOT / "pyproject.toml").is_file() else None


def shipped(folder: str) -> Path:
    """Return a folder that comes with the package (``lab``, ``testplans``): in the wheel, else in the checkout."""
    inside = PACKAGE / "shipped" / folder
    return inside if inside.is_dir() else ROOT / folder


def shipped_file(folder: str, text: str | Path) -> Path:
    """Return the YAML file of that path, or the one of that name in a shipped folder; paths win."""
    named = shipped(folder) / f"{text}.yaml"
    return named if _is_name(text) and named.is_file() else Path(text)


def lab_file(text: str | Path) -> Path:
    """Return the lab file of that path, or the shipped one of that name (``virtual``); paths win."""
    return shipped_file("lab", text)


def plan_folder(text: str | Path) -> Path:
    """Return the campaign folder of that path, or the shipped one of that name (``six_gpu``); paths win."""
    named = shipped("testplans") / text
    return named if _is_name(text) and (named / "plan.yaml").is_file() else Path(text)


def _is_name(text: str | Path) -> bool:
    """Return whether the text can only be a name: one word, and nothing of that name is in the working directory."""
    path = Path(text)
    return len(path.parts) == 1 and path.name == str(text) and path.name != ".." and not path.exists()


def is_folder_name(text: str) -> bool:
    """Return whether the text names one folder and nothing above it, and can be shown: what ids of runs may be."""
    plain = bool(text) and text.isprintable() and not text.startswith(".")
    return plain and Path(text).name == text and len(text.encode()) <= LONGEST_NAME


LONGEST_NAME = 200
"""Bytes of a folder's name; file systems take 255, and some names get an ending."""

SYSTEM_HOME, SYSTEM_RUN = Path("/var/lib/hil"), Path("/run/hil")
"""Places of root, and of all users where the machine was set up for several."""
GROUP = "hil"
"""Its members share the leases of this machine."""


def leases() -> Path:
    """Return the lease store: the one of all users of this machine where there is one, else that of this home.

    ``HIL_LEASES`` and ``HIL_HOME`` override.  A plain user gets root's store as soon as there is one, never an empty
    one of his own beside it.
    """
    if env := os.environ.get("HIL_LEASES"):
        return Path(env)
    shared, of_root = SYSTEM_HOME / "leases" / "leases.db", SYSTEM_HOME / "leases.db"
    if not os.environ.get("HIL_HOME"):
        for store, sign in ((shared, shared.parent), (of_root, of_root)):
            try:
                if sign.exists():
                    return store
            except PermissionError:  # it is there, and not for this user: whoever opens it says so
                return store
    return home() / "leases.db"


def home() -> Path:
    """Return the folder for what is kept between runs: cache, development PKI, container engine data, board disks.

    ``HIL_HOME`` overrides; else ``/var/lib/hil`` for root and ``~/.local/share/hil`` for others.
    """
    if env := os.environ.get("HIL_HOME"):
        return Path(env)
    return SYSTEM_HOME if os.geteuid() == 0 else Path.home() / ".local/share/hil"


def run_dir() -> Path:
    """Return the folder of run-time state (sockets, pids); ``HIL_RUN`` overrides.

    Else ``/run/hil`` for root, and for others who look while root has a bench; a place below their home otherwise.
    """
    if env := os.environ.get("HIL_RUN"):
        return Path(env)
    if os.geteuid() == 0 or (not os.environ.get("HIL_HOME") and (SYSTEM_RUN / "bench").is_dir()):
        return SYSTEM_RUN
    return home() / "run"


def cache() -> Path:
    """Return the folder of images, bundles and downloads, each under its content hash."""
    return home() / "cache"


def pki() -> Path:
    """Return the folder of the development PKI, which is generated here and never committed.

    Its number grows when a PKI of an earlier release lacks something that only its CA could add.
    """
    return home() / "pki" / "3"


def reports_out() -> Path:
    """Return the folder for what runs produce.

    ``HIL_REPORTS``, else ``reports/out`` of the checkout for one who works in it, else ``reports/out`` of the working
    directory; never a place beside an installed package.
    """
    if env := os.environ.get("HIL_REPORTS"):
        return Path(env)
    here, root = Path.cwd(), checkout()
    return (root if root and here.is_relative_to(root) else here) / "reports" / "out"
