"""The way it is done without this rollout: scp to one board after another, over the same links."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

from hil.boards.protocol import Via
from hil.core import netns
from hil.errors import BenchError
from hil.rollout.fleet import Fleet


class HasSsh(Protocol):
    """What this needs from a board's driver beyond the board protocol: the key files."""

    @property
    def ssh_key(self) -> Path: ...
    @property
    def host_key(self) -> str:
        """``ssh-ed25519 AAAA...``"""
        ...


def scp_to_all(fleet: Fleet, path: Path, *, keys: HasSsh | None = None, deadline_s: float = 600.0) -> str:
    """Copy a file from the ground to every board with OpenSSH's scp, one after another; where it lies there.

    The host's own SSH configuration, agent and known hosts are not used.  BenchError when a copy fails.
    """
    remote = f"/data/{path.name}"
    for member in fleet:
        namespace, address = member.address(Via.FLIGHT)
        key, host_key = _keys(member if keys is None else keys)
        with tempfile.TemporaryDirectory(prefix="hil-scp-") as scratch:
            known = Path(scratch) / "known_hosts"
            known.write_text(f"{address} {host_key}\n")
            options = {
                "UserKnownHostsFile": str(known),
                "GlobalKnownHostsFile": "/dev/null",
                "StrictHostKeyChecking": "yes",
                "IdentitiesOnly": "yes",
                "IdentityAgent": "none",
                "BatchMode": "yes",
                "ConnectTimeout": "10",
                "Ciphers": "aes128-gcm@openssh.com",
            }
            argv = ["scp", "-q", "-F", "/dev/null", "-i", str(key)]
            for name, value in options.items():
                argv += ["-o", f"{name}={value}"]
            argv += [str(path), f"root@{address}:{remote}"]
            try:
                done = subprocess.run(
                    netns.argv_inside(namespace, argv), capture_output=True, text=True, timeout=deadline_s
                )
            except subprocess.TimeoutExpired as exc:
                raise BenchError(f"scp to {member.name} did not end within {deadline_s:g} s") from exc
        if done.returncode != 0:
            raise BenchError(f"scp to {member.name} failed: {done.stderr.strip()[-300:]}")
    return remote


def _keys(holder: object) -> tuple[Path, str]:
    """The harness's key and the board's host key, from the driver or its ``spec``."""
    for source in (holder, getattr(holder, "spec", None)):
        key, host_key = getattr(source, "ssh_key", None), getattr(source, "host_key", None)
        if isinstance(key, Path) and isinstance(host_key, str):
            return key, host_key
    raise BenchError("this board's driver does not say which SSH key it takes", remedy="pass keys=...")
