"""The surroundings of a run: commit, kernel, packages, lab.  Gathered once at its start for ``run.json``."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from hil.core import paths
from hil.core.files import sha256_of
from hil.lab.model import Lab

DISTRIBUTION = "orbital-hil"
NO_COMMIT: dict[str, Any] = {"commit": None, "dirty": None}

_OF_BOARD = ("driver", "module", "model", "stand_in", "fidelity")
_OF_LINK = (
    *("kind", "one_way_delay_us", "rate_bps", "nominal_rate_bps", "rate_scaled"),
    *("loss_ppm", "loss_burst_packets", "jitter_us", "source"),
)


def host_facts(*inputs: Path) -> dict[str, Any]:
    """Return software and machine: versions, commit of what is run, kernel, processors, memory.

    ``inputs``: folders of what is run (plan, lab file).  The commit is that of the first one that is in a repository;
    without any, that of the checkout of this package.
    """
    own = paths.checkout()
    return {
        "hil_version": _version(DISTRIBUTION),
        "hil_commit": git_facts(own)["commit"] if own else None,
        "git": next((facts for facts in map(git_facts, inputs or [paths.ROOT]) if facts["commit"]), NO_COMMIT),
        "python": platform.python_version(),
        "packages": package_versions(),
        "kernel": platform.release(),
        "kernel_build": platform.version(),
        "machine": platform.machine(),
        "os": _os_name(),
        "cpus": os.cpu_count() or 0,
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "argv": [_program(sys.argv[0]), *sys.argv[1:]],
        "euid": os.geteuid(),
    }


def git_facts(folder: Path) -> dict[str, Any]:
    """Return the commit of the repository that holds ``folder``, and whether its files differ from it.

    :data:`NO_COMMIT` outside of git and for what an installed package brought: a repository around its environment
    says nothing about it.
    """
    if paths.checkout() is None and folder.resolve().is_relative_to(paths.ROOT):
        return NO_COMMIT
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return NO_COMMIT
    changes = _git(folder, "status", "--porcelain")
    return {"commit": commit.strip(), "dirty": None if changes is None else bool(changes.strip())}


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that this project depends on."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    names = {re.split(r"[^\w.-]", r)[0] for r in requirements if "extra ==" not in r}
    return {name: _version(name) for name in sorted(names, key=str.lower)}


def lab_facts(lab: Lab, path: Path) -> dict[str, Any]:
    """Return what the report says about the lab: boards and links with fidelity, scaled rates, assumed figures."""
    boards = {
        board.name: {"spacecraft": craft.name} | {name: getattr(board, name) for name in _OF_BOARD}
        for craft in lab.spacecraft
        for board in craft.boards
    }
    classes = {b["fidelity"] for b in boards.values()}
    return {
        "lab": lab.name,
        "lab_file": str(path),
        "lab_sha256": sha256_of(path),
        "lab_description": lab.description,
        "gateway": lab.gateway,
        "boards": boards,
        "links": {
            link.name: {"between": list(link.between)} | {name: getattr(link, name) for name in _OF_LINK}
            for link in lab.links
        },
        "bench_config": lab.bench.model_dump(),
        "seed": lab.bench.seed,
        # The lowest class decides what a result is worth.
        "fidelity": "hardware" if classes == {"hardware"} else "virtual",
    }


def _program(argv0: str) -> str:
    """Return the command's name: ``pytest`` also when it was started as ``python -m pytest``."""
    path = Path(argv0)
    return path.parent.name if path.name == "__main__.py" else path.name


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return platform.system()
