"""A guest of a bench in a container: a machine from outside with its own network and certificate, and no more."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.boards.container.board import LABEL, engine_errors
from hil.core.files import write_atomic
from hil.core.paths import PACKAGE
from hil.core.wait import wait_until
from hil.errors import DeviceError
from hil.onboard.node.answers import ContractError, json_object
from hil.onboard.node.flight import OWN, TRUST
from hil.text import clean, one_line

if TYPE_CHECKING:
    from docker import DockerClient

    from hil.images.flight_pki import FlightPki

_log = logging.getLogger(__name__)

INSIDE = "/guest"
"""The guest's folder, in its container; on this machine :attr:`GuestSite.folder`."""
MEMORY_LIMIT = "256m"
PIDS_LIMIT = 64
LONGEST_OUTPUT = 1 << 20
LONGEST_MASK = 8 << 20
LATE_S = 10.0
"""A guest that gives up at its deadline has so long to say so."""


@dataclass(frozen=True)
class GuestSite:
    """What a guest is made with, in any process that uses the bench."""

    name: str
    bench: str
    folder: Path
    board: str
    """Who serves it."""
    address: str
    """``ip:port`` of that board's node service."""
    client: DockerClient = field(repr=False)
    image_id: str = field(repr=False)

    @property
    def container(self) -> str:
        return f"hil.{self.bench}.{self.name}"


@dataclass(frozen=True)
class GuestEvent:
    """What a guest said: at ``mono_s`` (CLOCK_MONOTONIC, of this machine), ``what``, and its facts."""

    mono_s: float
    what: str
    facts: dict[str, Any] = field(default_factory=dict)


class Guest:
    """A guest that is up.  What its programs say is hostile: bounded, cleaned."""

    def __init__(self, site: GuestSite) -> None:
        self.site = site
        self.name = site.name

    def make(self, pki: FlightPki, plug: Callable[[int], None]) -> None:
        """Start its container, with a certificate of its own, and ``plug`` its network. BenchError."""
        from docker.types import LogConfig

        site = self.site
        site.folder.mkdir(parents=True, mode=0o700)
        (site.folder / TRUST).write_bytes(pki.trust.read_bytes())
        (site.folder / OWN).write_bytes(pki.tls("guest", self.name).read_bytes())
        with engine_errors(f"guest {self.name}"):
            made = site.client.containers.run(
                site.image_id,
                entrypoint=["/bin/busybox", "sleep", "infinity"],
                name=site.container,
                hostname=self.name,
                labels={LABEL: site.bench, "hil.guest": self.name},
                detach=True,
                init=True,
                network_mode="none",
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                volumes={
                    str(site.folder): {"bind": INSIDE, "mode": "rw"},
                    str(PACKAGE / "onboard"): {"bind": "/usr/lib/hil/hil/onboard", "mode": "ro"},
                },
                log_config=LogConfig(type="none"),
                mem_limit=MEMORY_LIMIT,
                memswap_limit=MEMORY_LIMIT,
                pids_limit=PIDS_LIMIT,
            )
            made.reload()
        plug(int(made.attrs["State"]["Pid"]))

    def remove(self) -> None:
        """End its container. Idempotent."""
        from docker.errors import NotFound

        with engine_errors(f"guest {self.name}"):
            try:
                self.site.client.api.remove_container(self.site.container, force=True, v=True)
            except NotFound:
                return

    def start(self, argv: list[str]) -> GuestProgram:
        """Start a program on it; what it says goes to a file of its folder. BenchError."""
        number = len([*self.site.folder.glob("said-*")])
        said = f"said-{number}"
        write_atomic(self.site.folder / said, b"", durable=False)
        script = 'said="$1"; shift; exec "$@" >"$said" 2>&1'
        command = ["/bin/busybox", "sh", "-c", script, "-", f"{INSIDE}/{said}", *argv]
        with engine_errors(f"guest {self.name}"):
            made = self.site.client.api.exec_create(self.site.container, command, workdir=INSIDE)
            self.site.client.api.exec_start(made["Id"], detach=True)
        _log.debug("guest %s: started %s", self.name, argv[:3])
        return GuestProgram(self, str(made["Id"]), self.site.folder / said)

    def run(self, argv: list[str], *, timeout_s: float = 10.0) -> tuple[int, str]:
        """Return exit status (137: it was ended at ``timeout_s``) and output of a program on it."""
        program = self.start(["/bin/busybox", "timeout", "-s", "KILL", f"{timeout_s:g}", *argv])
        return program.wait(timeout_s + LATE_S), program.output()

    def ask(self, scene: bytes, *, deadline_s: float) -> GuestProgram:
        """Have it ask its board for the mask of a scene (``.npy``); it gives up after ``deadline_s``."""
        write_atomic(self.site.folder / "scene.npy", scene, durable=False)
        (self.site.folder / "mask.npy").unlink(missing_ok=True)
        argv = ["/usr/bin/python3", "-S", "-m", "hil.onboard.guest", "--keys", INSIDE]
        argv += ["--board", self.site.board, "--address", self.site.address, "--deadline-s", f"{deadline_s:g}"]
        return self.start([*argv, "--scene", f"{INSIDE}/scene.npy", "--mask", f"{INSIDE}/mask.npy"])


class GuestProgram:
    """A program that runs on a guest, or has run."""

    def __init__(self, guest: Guest, exec_id: str, said: Path) -> None:
        self._guest, self._id, self._said = guest, exec_id, said

    def output(self) -> str:
        """Return what it has said so far, cleaned, 1 MiB at most."""
        return clean(_read(self._said, LONGEST_OUTPUT).decode(errors="replace"))

    def events(self) -> list[GuestEvent]:
        """Return what a program has said that speaks in lines of JSON; what is none is left out."""
        found = []
        for line in self.output().splitlines():
            try:
                facts = json_object(line.encode())
                found.append(GuestEvent(float(facts.pop("mono_s")), one_line(str(facts.pop("what")), 40), facts))
            except (ContractError, KeyError, TypeError, ValueError, OverflowError):
                continue
        return found

    def status(self) -> int | None:
        """Return its exit status; None while it runs. BenchError."""
        with engine_errors(f"guest {self._guest.name}"):
            found = self._guest.site.client.api.exec_inspect(self._id)
        return None if found["Running"] or found["ExitCode"] is None else int(found["ExitCode"])

    def wait(self, deadline_s: float) -> int:
        """Return its exit status. BenchError when it goes on for longer."""
        what = f"a program on guest {self._guest.name} to end"
        wait_until(lambda: self.status() is not None, what=what, deadline_s=deadline_s, every_s=0.1)
        status = self.status()
        assert status is not None
        return status

    def mask(self, deadline_s: float) -> bytes:
        """Return the mask that :meth:`Guest.ask` got. DeviceError, with its last words, when it got none."""
        content = b""
        if self.wait(deadline_s + LATE_S) == 0:
            content = _read(self._guest.site.folder / "mask.npy", LONGEST_MASK)
        if not content:
            last = one_line(self.output().strip().rpartition("\n")[2], 300)
            raise DeviceError(
                f"guest {self._guest.name} got no mask: {last}", remedy="is its board's cluster configured?"
            )
        return content


def _read(path: Path, limit: int) -> bytes:
    """Return the begin of a file that a guest wrote; nothing of what is no plain file."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(file, "rb") as opened:
        return opened.read(limit) if stat.S_ISREG(os.fstat(file).st_mode) else b""
