"""What this host's kernel can do for a bench, found out by doing it in a throw-away namespace.

``python -m hil.host.doctor.kernel`` leaves for new namespaces and prints what worked as JSON; :func:`probe` runs that
in a child process, so that nothing remains and the caller's own namespaces never change.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hil.core.command import Runner, run
from hil.errors import BenchError

CLONE_NEWNET = 0x40000000
CLONE_REST = (
    0x00020000 | 0x04000000 | 0x08000000 | 0x20000000
)  # mount, UTS, IPC, pid: what a board's OS needs


@dataclass(frozen=True)
class KernelFacts:
    """True: tried, and it worked."""

    network_namespace: bool = False
    board_namespaces: bool = False
    veth: bool = False
    bridge: bool = False


def probe(*, runner: Runner = run) -> KernelFacts:
    """Try what a bench needs; all False for a plain user. BenchError when the probe itself does not run."""
    done = runner([sys.executable, "-m", "hil.host.doctor.kernel"], timeout_s=60)
    try:
        known = {field.name for field in fields(KernelFacts)}
        return KernelFacts(**{k: bool(v) for k, v in json.loads(done.stdout).items() if k in known})
    except (ValueError, AttributeError) as exc:
        raise BenchError(f"the kernel probe did not run: {done.tail()}") from exc


def filesystem(name: str, *, runner: Runner = run, root: Path = Path("/")) -> bool:
    """Return True when the kernel can mount ``name``: built in, loaded, or a module that it can load by itself."""
    try:
        known = (root / "proc/filesystems").read_text().split()
    except OSError:
        known = []
    return name in known or runner(["modprobe", "--dry-run", "--quiet", f"fs-{name}"]).ok


def loop_devices(*, root: Path = Path("/"), runner: Runner = run) -> bool:
    """Return True when loop devices can be made."""
    return (root / "dev/loop-control").exists() or runner(["modprobe", "--dry-run", "--quiet", "loop"]).ok


def _try() -> KernelFacts:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return KernelFacts()
    veth = _works(["ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"])
    return KernelFacts(
        network_namespace=True,
        veth=veth,
        bridge=_works(["ip", "link", "add", "br0", "type", "bridge"]),
        board_namespaces=libc.unshare(CLONE_REST) == 0,
    )


def _works(argv: Sequence[str]) -> bool:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        return (
            subprocess.run(
                list(argv), capture_output=True, timeout=10, env={**os.environ, "PATH": path}
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


if __name__ == "__main__":
    print(json.dumps(asdict(_try())))
