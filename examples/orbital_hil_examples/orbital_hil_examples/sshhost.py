"""A board driver: any Linux machine with an SSH server, with a power switch where it has one.

It has no second root file system, no sensors and nothing of a Jetson.  It says so (``lacks``), and tests that need
these are skipped with that reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Literal, NoReturn, Self

from pydantic import Field, model_validator

from hil.boards.capabilities import Feature
from hil.boards.console.log_console import ConsoleLine, LogConsole
from hil.boards.kinds import BoardKind, Equipment, Rack, Site
from hil.boards.power.build import supervisor_of
from hil.boards.protocol import BootState, Fidelity, Identity, PowerState, Slot, Supervisor, Via
from hil.boards.ssh.shell import SshShell, Target
from hil.core.wait import poll_until, wait_until
from hil.errors import BenchError, DeviceError, HilError
from hil.lab.model import BoardSpec
from hil.lab.real_board import BudgetSpec, RealBoard
from hil.lab.yamlfile import with_example

_IDENTITY = """
cat /sys/class/dmi/id/product_name 2>/dev/null || uname -m
cat /etc/machine-id 2>/dev/null || hostname
cat /proc/sys/kernel/random/boot_id
. /etc/os-release; echo "$VERSION_ID"
"""
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4R5vKfJ0iFIEXjzV0jW9sZsV0s8Zt8xj3W0kz2Xh1J"


class SshHostSection(RealBoard):
    """How the machine is reached; ``ssh`` is required, and what is left out is not tested."""

    model_config = with_example(f"""\
ssh: {{address: 192.0.2.31, key_file: ~/.ssh/lab, host_key: {_KEY}}}
supervisor: {{power: {{kind: acme, address: 192.0.2.23, outlet: 3}}}}
""")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.ssh is None:
            raise ValueError("needs ssh")
        return self


class SshHostSpec(BoardSpec):
    """A Linux machine with an SSH server."""

    model_config = with_example(f"""\
name: h1
driver: sshhost
sshhost: {{ssh: {{address: 192.0.2.31, key_file: ~/.ssh/lab, host_key: {_KEY}}}}}
""")
    driver: Literal["sshhost"] = Field(description="a plain machine over SSH")
    sshhost: SshHostSection = Field(description="ssh, and supervisor where its power can be switched")

    @property
    def model(self) -> str:
        return "Linux machine"

    @property
    def real(self) -> RealBoard:
        return self.sshhost


class SshHost:
    """``hil.boards.protocol.Board`` as far as :attr:`lacks` says nothing else."""

    fidelity = Fidelity.HARDWARE

    def __init__(self, spec: SshHostSpec, site: Site, console: ConsoleLine) -> None:
        section, ssh = spec.sshhost, spec.sshhost.ssh
        assert ssh is not None  # the section's own rule
        self.name = spec.name
        self.spacecraft = site.spacecraft
        self.console = LogConsole(console.url, console.log)
        self.boot = NoSlots(self.name)
        self._budgets = section.budgets or BudgetSpec()
        self._addresses = site.addresses
        self._ssh = ssh
        self.supervisor: Supervisor = NoPower(self.name)
        self.lacks = _lacks(spec)
        if section.supervisor is not None:
            self.supervisor = supervisor_of(
                self.name,
                section.supervisor,
                namespace=site.addresses[Via.MANAGEMENT][0],
                shut_down=self._shut_down,
                shutdown_s=self._budgets.shutdown_s,
                sink=site.sink,
            )

    @property
    def boot_budget_s(self) -> float:
        """Power-on until it answers over SSH, at most."""
        return self._budgets.boot_s

    @property
    def fall_back_budget_s(self) -> float:
        """The same: there is no other OS to fall back to."""
        return self._budgets.boot_s

    def target(self, via: Via = Via.MANAGEMENT) -> Target:
        """Return how an SSH client gets to it."""
        namespace, address = self.address(via)
        known = Target.of(self.name, self._ssh)
        return Target(self.name, namespace, address, known.key, known.host_key, known.port, known.user, known.jump)

    def shell(self, via: Via = Via.MANAGEMENT) -> SshShell:
        """Open a new SSH session. BenchError when there is no route, DeviceError when sshd does not answer."""
        return SshShell(self.target(via))

    def address(self, via: Via = Via.MANAGEMENT) -> tuple[str, str]:
        """Return (network namespace to connect from, IPv4 address of the machine)."""
        try:
            return self._addresses[via]
        except KeyError:
            raise BenchError(f"board {self.name} has no {via.value} address on this bench") from None

    def identity(self) -> Identity:
        with self.shell() as shell:
            model, serial, boot_id, version = shell.run(["sh", "-c", _IDENTITY]).stdout.splitlines()[:4]
        return Identity(model, serial, boot_id, "A", version, image_sha256="")

    def wait_booted(self, *, deadline_s: float = 30.0) -> Identity:
        """Wait until the machine answers over SSH; DeviceError at the deadline."""
        return wait_until(self.identity, what=f"board {self.name} to boot", deadline_s=deadline_s, error=DeviceError)

    def sensors(self) -> dict[str, float]:
        """BenchError: see :attr:`lacks`."""
        _absent(self.name, self.lacks[Feature.SENSORS])

    def _shut_down(self, deadline_s: float) -> bool:
        """Ask for an orderly shutdown; tell whether sshd was gone in time."""
        with suppress(DeviceError), self.shell() as shell:  # the connection may die before the answer
            shell.run(["poweroff"], check=False, timeout_s=deadline_s)
        for _ in poll_until(deadline_s):
            try:
                self.shell().close()
            except HilError:
                return True
        return False


class NoPower:
    """``hil.boards.protocol.Supervisor`` of a machine whose power cannot be switched: it is on."""

    def __init__(self, board: str) -> None:
        self._board = board

    def state(self) -> PowerState:
        return PowerState.ON

    def on(self) -> None:
        """Return: it is on."""

    def off(self, *, deadline_s: float | None = None) -> None:
        _absent(self._board, "its power cannot be switched")

    def cut(self) -> None:
        _absent(self._board, "its power cannot be switched")

    def reset(self) -> None:
        _absent(self._board, "its power cannot be switched")


class NoSlots:
    """``hil.boards.protocol.BootControl`` of a machine with one root file system."""

    def __init__(self, board: str) -> None:
        self._board = board

    def state(self) -> BootState:
        _absent(self._board, "it has one root file system")

    def set_active(self, slot: Slot) -> None:
        _absent(self._board, "it has one root file system")


def _absent(board: str, why: str) -> NoReturn:
    raise BenchError(f"board {board}: {why}", remedy="ask hil.boards.capabilities.lacks(board) before")


def _equip(spec: SshHostSpec, site: Site, rack: Rack) -> Equipment:
    """Open its serial port where it has one; it is left as it was found, but for its power."""
    url, log = "", rack.directory / "consoles" / f"{spec.name}.console.log"
    if line := spec.sshhost.console:
        from hil.boards.console.serial_console import SerialConsole

        port = SerialConsole(spec.name, line.url, log.parent, baudrate=line.baudrate, sink=site.sink)
        rack.stack.enter_context(port)
        port.release()  # there is no firmware menu that a key could open
        url = port.url
    console = ConsoleLine("", url, log)
    board = SshHost(spec, site, console)
    take_down = board.supervisor.off if Feature.POWER not in board.lacks else lambda: None
    return Equipment(board, console, board.supervisor.on, take_down)


def _lacks(spec: SshHostSpec) -> Mapping[Feature, str]:
    """Return what such a board does not have; campaigns that need it are refused before they begin."""
    found = {
        Feature.SLOTS: "it has one root file system",
        Feature.SENSORS: "this driver reads none",
        Feature.ORIN: "it is no Jetson",
    }
    if spec.sshhost.console is None:
        found[Feature.CONSOLE] = "sshhost.console is not in the lab file"
    if spec.sshhost.supervisor is None:
        found[Feature.POWER] = "sshhost.supervisor is not in the lab file"
    return found


SSHHOST = BoardKind(SshHostSpec, SshHost, _equip, lacks=_lacks)
