"""What ``hil doctor`` looks at: gathered here once, judged in :mod:`hil.host.doctor.this_host` by pure functions."""

from __future__ import annotations

import ctypes
import grp
import importlib.metadata
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hil.core import paths
from hil.core.command import run
from hil.core.sysfs import text_of
from hil.errors import HilError
from hil.host.packages import SYSTEM_PATH, missing

FILESYSTEMS = ("squashfs", "ext4", "overlay", "tmpfs")
NETWORK = ("network namespaces", "pid, mount, UTS and IPC namespaces", "veth", "bridge")
CLONE_NEWNET = 0x40000000
CLONE_BOARD = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000
"""Mount, UTS, IPC and pid namespace: what a board's OS needs."""
CONTROLLERS = ("cpu", "memory", "pids", "devices", "freezer")


@dataclass(frozen=True)
class HostFacts:
    """This host as found, without judgement."""

    root: bool
    apt: bool
    python: tuple[int, int, int]
    missing_distributions: tuple[str, ...]
    """Python packages of pyproject.toml that are not installed."""
    kernel_release: str
    kernel_lacks: tuple[str, ...]
    """Of :data:`NETWORK`, what was tried and did not work; all of it for a plain user."""
    filesystems: tuple[str, ...]
    """Of :data:`FILESYSTEMS`, those the kernel can mount."""
    loop: bool
    controllers: tuple[str, ...]
    cgroup_version: int
    """1, 2, or 0 when none is mounted."""
    missing_packages: tuple[str, ...]
    group: Literal["none", "member", "stranger"]
    """Whether there is the group of those who share this machine, and whether this process is in it (as root is)."""
    links_lack: Mapping[str, str]
    """What this host lacks for each link engine that need not be named, first choice first; empty: nothing."""
    engine_url: str
    """Docker Engine that answers; empty when none does."""
    engine_version: str
    engine_problem: str
    dockerd: bool
    free_disk_bytes: int
    free_memory_bytes: int
    total_memory_bytes: int
    cpus: int
    clock_unix: float
    source_unix: float
    """When this checkout's files were written: a clock that is earlier is wrong."""
    apparmor: bool
    home: str
    gpus: tuple[str, ...] = ()
    """CDI devices of NVIDIA GPUs."""
    gpu_problem: str = ""
    """Why a GPU of this host cannot be given to boards; empty: it can, or there is none."""
    cuda: bool = False
    """Whether ONNX Runtime with CUDA is here for boards with a GPU."""


def gather(*, root: Path = Path("/")) -> HostFacts:
    """Look at this host; takes well under a second and changes nothing."""
    from hil.host.engine import engine

    engine_url = engine_version = engine_problem = ""
    try:
        if found := engine.find():
            engine_url, engine_version = found.url, found.version
    except HilError as exc:
        engine_problem = exc.message
    version, controllers = _cgroups(root)
    memory = _memory(root)
    known = text_of(root / "proc/filesystems").split()
    return HostFacts(
        root=os.geteuid() == 0,
        apt=shutil.which("apt-get") is not None,
        python=sys.version_info[:3],
        missing_distributions=tuple(_missing_distributions()),
        kernel_release=os.uname().release,
        kernel_lacks=_kernel_lacks(),
        filesystems=tuple(name for name in FILESYSTEMS if name in known or _loadable(f"fs-{name}")),
        loop=(root / "dev/loop-control").exists() or _loadable("loop"),
        controllers=controllers,
        cgroup_version=version,
        missing_packages=tuple(p.name for p in missing()),
        group=_group(),
        links_lack=_links_lack(),
        engine_url=engine_url,
        engine_version=engine_version,
        engine_problem=engine_problem,
        dockerd=shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}") is not None,
        free_disk_bytes=_free_disk(paths.home()),
        free_memory_bytes=memory.get("MemAvailable", 0),
        total_memory_bytes=memory.get("MemTotal", 0),
        cpus=len(os.sched_getaffinity(0)),
        clock_unix=time.time(),
        source_unix=Path(__file__).stat().st_mtime,
        apparmor=text_of(root / "sys/module/apparmor/parameters/enabled") == "Y",
        home=str(paths.home()),
        **_gpus(root),
    )


def _gpus(root: Path) -> dict[str, Any]:
    try:
        from hil.boards.container.gpu import NVIDIA, described
        from hil.images.rootfs import cuda_tree
    except ImportError:  # Python packages are missing, which another check says
        return {}
    problem, found = "", tuple[str, ...]()
    try:
        found = tuple(sorted(name for name in described(root) if name.startswith(f"{NVIDIA}=")))
    except HilError as exc:
        problem = exc.message
    if not problem and not found and (root / "dev/nvidiactl").exists():
        problem = "there is a GPU, and no CDI description of it in /etc/cdi or /var/run/cdi"
    return {"gpus": found, "gpu_problem": problem, "cuda": cuda_tree(paths.cache()).is_dir()}


def _group() -> Literal["none", "member", "stranger"]:
    try:
        number = grp.getgrnam(paths.GROUP).gr_gid
    except KeyError:
        return "none"
    return "member" if os.geteuid() == 0 or number in {*os.getgroups(), os.getegid()} else "stranger"


def _kernel_lacks() -> tuple[str, ...]:
    """Try what a bench needs in a child process, so that nothing remains and our own namespaces never change."""
    try:
        works = json.loads(run([sys.executable, "-m", __name__], timeout_s=60).stdout)
    except (HilError, ValueError):
        works = []
    return tuple(name for name in NETWORK if name not in works)


def try_kernel() -> list[str]:
    """Leave for new namespaces, of which nothing comes back; return what of :data:`NETWORK` worked there."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return []
    path = {"PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"}
    veth, bridge = "ip link add v0 type veth peer name v1", "ip link add br0 type bridge"
    worked = [True, *(run(each.split(), timeout_s=10, env=path).ok for each in (veth, bridge))]
    worked.insert(1, libc.unshare(CLONE_BOARD) == 0)
    return [name for name, ok in zip(NETWORK, worked, strict=True) if ok]


def _loadable(module: str) -> bool:
    """Return whether the kernel can load it by itself."""
    return run(["modprobe", "--dry-run", "--quiet", module]).ok


def _links_lack() -> dict[str, str]:
    from hil.links.engines.kinds import automatic

    lacking = {}
    for name, kind in automatic().items():
        try:
            lacking[name] = kind.lacking()
        except HilError as exc:
            lacking[name] = exc.message
    return lacking


def _missing_distributions() -> list[str]:
    """Return names of our own distribution's requirements that are not installed (versions are pip's business)."""
    try:
        requirements = importlib.metadata.requires("orbital-hil") or []
    except importlib.metadata.PackageNotFoundError:
        return ["orbital-hil"]
    lacking = []
    for requirement in requirements:
        elsewhere = "platform_machine" in requirement and os.uname().machine not in requirement
        if "extra ==" in requirement or elsewhere:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            lacking.append(name)
    return lacking


def _cgroups(root: Path) -> tuple[int, tuple[str, ...]]:
    """(version, controllers of :data:`CONTROLLERS` that a container engine can use)."""
    base = root / "sys/fs/cgroup"
    unified = text_of(base / "cgroup.controllers")
    if (base / "cgroup.controllers").exists():
        # Version 2 has the freezer built in and limits devices with BPF programs.
        return 2, tuple(c for c in CONTROLLERS if c in unified.split() or c in ("freezer", "devices"))
    found = tuple(c for c in CONTROLLERS if (base / c / "cgroup.procs").exists())
    return (1, found) if found else (0, ())


def _memory(root: Path) -> dict[str, int]:
    """Return bytes by name, from /proc/meminfo."""
    lines = re.finditer(r"^(\w+): +(\d+) kB$", text_of(root / "proc/meminfo"), re.MULTILINE)
    return {line[1]: int(line[2]) * 1024 for line in lines}


def _free_disk(directory: Path) -> int:
    there = next(place for place in (directory, *directory.parents) if place.exists())
    return shutil.disk_usage(there).free


if __name__ == "__main__":
    print(json.dumps(try_kernel()))
