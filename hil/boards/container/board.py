"""The container driver: one Docker container that behaves like an Orin module with its supervisor."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.boards.console.log_console import ConsoleLine, LogConsole
from hil.boards.container import power_cut
from hil.boards.container.os_processes import os_pid, os_processes, send, standing_still, stop_all
from hil.boards.linux_board import LinuxBoard
from hil.boards.protocol import BootState, Fidelity, Identity, PowerState, Shell, Slot, SlotState, Via
from hil.boards.ssh.shell import SshShell, Target
from hil.boards.tegrastats import parse
from hil.core.wait import poll_until, wait_until
from hil.errors import BenchError, DeviceError
from hil.evidence.events import BoardBooted, BoardPower, RestartOrdered
from hil.evidence.sink import NullSink, Sink
from hil.lab.tenant import QuotaSpec
from hil.onboard.boot_control import SLOTS, BootControl, Variables, other

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

    from hil.boards.container.gpu import Gpu

_log = logging.getLogger(__name__)

Plug = Callable[[int], None]
"""Plugs the board's NICs, given the PID of its firmware (container ``State.Pid``); called after every start."""

# Exactly what the board needs, found by dropping one at a time; never --privileged.
CAPABILITIES = [
    "SYS_ADMIN",  # mount, clone into namespaces
    "SYS_BOOT",  # reboot(2) of the OS in its own PID namespace
    "MKNOD",  # device nodes of the OS
    "SYS_CHROOT",  # into the OS; sshd's privilege separation
    "SETUID",  # sshd, dbus
    "SETGID",
    "DAC_OVERRIDE",  # overlay mounts
    "CHOWN",  # what an administrator does over SSH
    "FOWNER",
    "KILL",
    "NET_BIND_SERVICE",
    "NET_RAW",  # ping, inside its own network namespace
    "AUDIT_WRITE",  # sshd ends a session with a terminal when it cannot log the login
]
DEVICE_RULES = ["b 7:* rw", "c 10:237 rw"]  # loop devices, loop-control
MEMORY_LIMIT = 3 << 30
"""Bytes; a tenant's quota below that counts."""
PIDS_LIMIT = 512
ENGINE_LAG_S = 2.0
"""So long after a container has ended may a busy engine still say that it runs."""
FREEZE_S = 5.0
"""So long may a busy disk keep a board from being frozen before its power is cut."""
SENSORS_S = 5.0
LABEL = "hil.bench"

_IDENTITY = (
    "for f in model serial-number; do tr -d '\\000' </sys/firmware/devicetree/base/$f; echo; done; "
    'cat /proc/sys/kernel/random/boot_id; . /etc/os-release; echo "$VERSION_ID"; cat /run/boot.json'
)


@dataclass(frozen=True)
class BoardFacts:
    """What is true of one board; becomes ``/run/board.json`` in the OS."""

    name: str
    spacecraft: str
    model: str
    serial: str
    flight_address: str
    management_address: str
    hosts: Mapping[str, str]  # name -> flight address; becomes /etc/hosts
    module: str = "p3701-0005"  # part number; becomes the device tree's compatible
    twin: bool = False  # whether the bench's twin shows it sensors
    flight_security: str = "none"  # "mtls": the node service serves nobody without a certificate


@dataclass(frozen=True)
class ContainerSpec:
    """Everything needed to drive one container board, from any process."""

    bench: str
    facts: BoardFacts
    nv_dir: Path  # made by hil.boards.container.storage.prepare_nv_dir
    image_id: str
    console: ConsoleLine
    targets: Mapping[Via, Target]
    quotas: QuotaSpec = field(default_factory=QuotaSpec)
    """Of its tenant: the container is made with no more memory and processor time than that."""

    @property
    def memory_bytes(self) -> int:
        """What the board may have: the tenant's quota, or our limit."""
        return min(MEMORY_LIMIT, self.quotas.memory_bytes or MEMORY_LIMIT)

    @property
    def container(self) -> str:
        return f"hil.{self.bench}.{self.facts.name}"


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn the container engine's errors into BenchError."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException) as exc:
        raise BenchError(f"{what}: the container engine said: {exc}", remedy="see `hil doctor`") from exc


class ContainerBoard(LinuxBoard):
    """``hil.boards.protocol.Board`` on a container ``hil.<bench>.<board>`` labelled ``hil.bench=<bench>``."""

    fidelity = Fidelity.VIRTUAL

    def __init__(self, spec: ContainerSpec, client: DockerClient, plug: Plug, sink: Sink | None = None) -> None:
        super().__init__(spec.facts.name, spec.targets, LogConsole(spec.console.url, spec.console.log))
        self.spec = spec
        self.spacecraft = spec.facts.spacecraft
        self._client = client
        self._sink = sink or NullSink()
        self.supervisor = ContainerSupervisor(self, plug, self._sink)
        self.boot = ContainerBootControl(self)

    def create(self, gpu: Gpu | None = None) -> None:
        """Make the container, powered off, with a GPU of this host; no error when it is there already."""
        from docker.errors import NotFound
        from docker.types import LogConfig

        spec = self.spec
        with engine_errors(f"board {self.name}"):
            try:
                self._client.containers.get(spec.container)
                return
            except NotFound:
                pass
            self._client.containers.create(
                spec.image_id,
                name=spec.container,
                hostname=self.name,
                labels={LABEL: spec.bench, "hil.board": self.name},
                network_mode="none",
                cap_drop=["ALL"],
                cap_add=CAPABILITIES,
                device_cgroup_rules=DEVICE_RULES,
                # Where AppArmor is on, Docker's default profile forbids mount, whatever the capabilities.
                security_opt=["apparmor=unconfined"],
                volumes={
                    str(spec.nv_dir): {"bind": "/nv", "mode": "rw"},
                    spec.console.board_tty: {"bind": "/dev/ttyTCU0", "mode": "rw"},
                },
                log_config=LogConfig(type="none"),
                mem_limit=spec.memory_bytes,
                memswap_limit=spec.memory_bytes,
                nano_cpus=round(spec.quotas.cpu_cores * 1e9) if spec.quotas.cpu_cores else None,
                pids_limit=PIDS_LIMIT,
                **(gpu.options() if gpu else {}),
            )

    def remove(self) -> None:
        """Power off at once and remove the container (its loop devices clear themselves). Idempotent."""
        from docker.errors import NotFound

        with engine_errors(f"board {self.name}"), contextlib.suppress(NotFound):
            self._client.api.remove_container(self.spec.container, force=True, v=True)

    def identity(self) -> Identity:
        with self.shell() as shell:
            return _identity(shell)

    def wait_booted(self, *, deadline_s: float = 30.0) -> Identity:
        """Wait until the OS answers over SSH; DeviceError at the deadline with the console's last lines."""
        identity = self._wait_answer(self.identity, deadline_s)
        _log.info("board %s: booted %.80r from slot %s", self.name, identity.os_version, identity.slot)
        self._sink.emit(BoardBooted(self.name, identity.slot, identity.os_version))
        return identity

    def sensors_over(self, shell: Shell) -> dict[str, float]:
        """Return readings from ``tegrastats`` on the board."""
        done = shell.run(["tegrastats", "--interval", "200", "--count", "1"], timeout_s=SENSORS_S)
        return parse(done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "").sensors()

    def container(self) -> Container:
        """Return the container itself. BenchError when it is not there."""
        with engine_errors(f"board {self.name}"):
            return self._client.containers.get(self.spec.container)

    def firmware_pid(self) -> int | None:
        """Return the host PID of the firmware, from which everything on this board descends; None while off."""
        return int(self.container().attrs["State"]["Pid"]) or None

    def os_pid(self) -> int | None:
        """Return the host PID of the OS's init; None while off, in firmware or in the recovery shell."""
        pid = self.firmware_pid()
        return os_pid(pid) if pid else None

    # --- faults (hil.boards.capabilities.Crashable, MemoryBounded)

    can_freeze = True

    def panic(self) -> None:
        """Kill the OS's init: its kernel panics; what was not synced to the data partition is lost.

        BenchError when no OS runs.
        """
        pid = self.os_pid()
        if pid is None:
            raise BenchError(f"board {self.name}: no OS runs that could panic")
        power_cut.crash_file_system(Path(f"/proc/{pid}/root/data"))
        os.kill(pid, signal.SIGKILL)

    def freeze(self, *, only_init: bool = False) -> None:
        """Stop the processes of the OS, or only its init. BenchError when no OS runs."""
        pid = self.os_pid()
        if pid is None:
            raise BenchError(f"board {self.name}: no OS runs that could be frozen")
        if only_init:
            send([pid], signal.SIGSTOP)
        else:
            stop_all(pid)

    def frozen(self) -> tuple[bool, str]:
        """Return whether all processes of the OS are stopped, and how many are."""
        return standing_still(self.os_pid())

    def thaw(self) -> None:
        """Let all processes of the OS go on."""
        if pid := self.os_pid():
            send(os_processes(pid), signal.SIGCONT)

    def bound_memory(self, margin_b: int | None) -> None:
        """Bound the container's memory to what it uses and ``margin_b`` more; None: as it was made."""
        limit = self.spec.memory_bytes
        with engine_errors(f"board {self.name}: memory"):
            if margin_b is not None:
                stats = self._client.api.stats(self.spec.container, stream=False, one_shot=True)
                limit = int(stats["memory_stats"]["usage"]) + margin_b
            self.container().update(mem_limit=limit, memswap_limit=limit)


def _identity(shell: SshShell) -> Identity:
    """Read who answers in one command. DeviceError when the answer is not what our firmware hands over."""
    text = shell.run(["sh", "-c", _IDENTITY]).stdout
    try:
        model, serial, boot_id, version, document = text.split("\n", 4)
        boot = json.loads(document)
        slot: Slot = "B" if boot["slot"] == "B" else "A"
        return Identity(model, serial, boot_id, slot, version, str(boot["image_sha256"]))
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise DeviceError(f"{shell.target.name}: cannot read who it is from {text[:300]!r}: {exc}") from exc


class ContainerSupervisor:
    """``hil.boards.protocol.Supervisor``: power through the container engine."""

    def __init__(self, board: ContainerBoard, plug: Plug, sink: Sink) -> None:
        self._board = board
        self._plug = plug
        self._sink = sink

    def state(self) -> PowerState:
        return PowerState.ON if self._state()["Running"] else PowerState.OFF

    def on(self) -> None:
        if self.state() is PowerState.ON:
            return
        self._order("power on")
        with engine_errors(f"board {self._board.name}: power on"):
            self._board._client.api.start(self._board.spec.container)
        pid = int(self._state()["Pid"])
        if not pid:
            raise BenchError(f"board {self._board.name}: the firmware died at power-on:\n{self._board.console.tail()}")
        self._plug(pid)
        self._note("on")

    def off(self, *, deadline_s: float = 10.0) -> None:
        """Ask the OS to shut down (power button); cut power if it has not within ``deadline_s``."""
        if self.state() is PowerState.OFF:
            return
        self._order("power button")
        with contextlib.suppress(BenchError), engine_errors(f"board {self._board.name}: power button"):
            self._board._client.api.kill(self._board.spec.container, signal="SIGTERM")
        for _ in poll_until(deadline_s, every_s=0.03):
            if self.state() is PowerState.OFF:
                self._note("off")
                return
        self.cut()

    def cut(self) -> None:
        state = self._state()
        if not state["Running"]:
            return
        self._order("power cut")
        pid = int(state["Pid"])
        engine, container = self._board._client.api, self._board.spec.container
        with engine_errors(f"board {self._board.name}: power cut"):
            if not state["Paused"] and not self._unless_off(self._freeze, container):
                return
            copies = self._as_on_disk(pid)
            _log.debug("board %s: what is on its disks is kept: %d images", self._board.name, len(copies))
            if not self._unless_off(engine.kill, container):
                for copy, _ in copies:  # what it wrote on its way down counts
                    copy.unlink()
                return
            engine.wait(container, timeout=30)
        for copy, image in copies:
            copy.replace(image)
        self._note("cut")

    def reset(self) -> None:
        self.cut()
        self.on()

    def discard(self) -> None:
        """Cut the power of a board whose disks nobody needs any more; cheaper than :meth:`cut`, which keeps them."""
        state = self._state()
        if not state["Running"]:
            return
        self._order("power cut")
        engine, container = self._board._client.api, self._board.spec.container
        with engine_errors(f"board {self._board.name}: power cut"):
            if pid := os_pid(int(state["Pid"])):
                power_cut.crash_file_system(Path(f"/proc/{pid}/root/data"))  # or all of it is written back first
            if self._unless_off(engine.kill, container):
                engine.wait(container, timeout=30)
        self._note("cut")

    def _freeze(self, container: str) -> None:
        """Pause the container; runc gives up soon on a process that waits for a disk, so it is tried again."""
        from docker.errors import APIError

        end = time.monotonic() + FREEZE_S
        while True:
            try:
                self._board._client.api.pause(container)
                return
            except APIError as refusal:
                if "unable to freeze" not in str(refusal) or time.monotonic() > end:
                    raise

    def _unless_off(self, order: Callable[[str], Any], container: str) -> bool:
        """Carry it out; False when the board powers itself off this very moment."""
        from docker.errors import APIError

        try:
            order(container)
        except APIError as refusal:
            try:
                wait_until(
                    lambda: not self._state()["Running"],
                    what=f"container {container} to end",
                    deadline_s=ENGINE_LAG_S if "not running" in str(refusal) else 0.0,
                )
            except BenchError:
                raise refusal from None
            return False
        return True

    def _as_on_disk(self, firmware_pid: int) -> list[tuple[Path, Path]]:
        """Make sure the kill writes nothing back: (copy, image) pairs to put in place after it."""
        nv = self._board.spec.nv_dir
        images = []
        pid = os_pid(firmware_pid)
        if pid is None:
            return []  # firmware mounts nothing and writes only variables, durably
        if not power_cut.crash_file_system(Path(f"/proc/{pid}/root/data")):
            images.append(nv / "data.img")
        idle = other(BootControl(Variables(nv / "vars")).current)
        images.append(nv / f"slot_{idle.lower()}.img")
        return [(power_cut.snapshot(image), image) for image in images]

    def _state(self) -> dict[str, Any]:
        with engine_errors(f"board {self._board.name}"):
            inspected: dict[str, Any] = self._board._client.api.inspect_container(self._board.spec.container)
        state: dict[str, Any] = inspected["State"]
        return state

    def _order(self, what: str) -> None:
        """Record, before it is done, that the board's container is to be switched."""
        self._sink.emit(RestartOrdered(self._board.name, what))

    def _note(self, action: str) -> None:
        _log.info("board %s: power %s", self._board.name, action)
        self._sink.emit(BoardPower(self._board.name, action))


class ContainerBootControl:
    """``hil.boards.protocol.BootControl`` on the firmware's variables, as a debug probe would read them."""

    def __init__(self, board: ContainerBoard) -> None:
        self._board = board
        self._control = BootControl(Variables(board.spec.nv_dir / "vars"))

    def state(self) -> BootState:
        slots = [self._control.slot(slot) for slot in SLOTS]
        first, second = (SlotState(s.slot, s.bootable, s.retries, s.confirmed) for s in slots)
        running = self._control.current if self._board.os_pid() else None
        return BootState(running, self._control.active, (first, second))

    def set_active(self, slot: Slot) -> None:
        self._control.set_active(slot)
