"""The Jetson driver: a real Orin through its SSH port, its serial console and its power switch, and nothing else.

Whether it is the board the lab file means (module, serial) is checked before anything on it is changed: at the first
shell after every power verb, at every boot, and before its boot order is touched.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hil.boards.console.log_console import ConsoleLine, LogConsole
from hil.boards.console.serial_console import SerialConsole
from hil.boards.jetson.flash.recovery import SYSFS, UsbDevice, UsbPort, by_linux, enter_recovery
from hil.boards.jetson.identity import check_identity
from hil.boards.jetson.inspection import BoardReport, inspect
from hil.boards.jetson.modules import sku_of
from hil.boards.jetson.remote_files import BoardFiles
from hil.boards.jetson.sensors import Provision, Reading, SysfsSensors
from hil.boards.jetson.slots import NvBootControl, failover_budget_s
from hil.boards.linux_board import KeptShell, LinuxBoard
from hil.boards.power.build import supervisor_of
from hil.boards.protocol import BootState, Fidelity, Identity, PowerState, Shell, Slot, Via
from hil.boards.ssh.shell import SshShell, Target, WrongHostKeyError
from hil.boards.tegrastats import parse
from hil.core import netns
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import BenchError, ConfigurationError, DeviceError, HilError
from hil.evidence.events import BoardBooted
from hil.evidence.sink import NullSink, Sink
from hil.lab.power import SupervisorSpec
from hil.lab.real_board import BudgetSpec

_log = logging.getLogger(__name__)

LAST_WORDS = r"reboot: Power down"
TEGRASTATS = ("timeout", "10", "sh", "-c", "tegrastats --interval 200 | head -n 1")
"""The real tool prints for ever: its first line is enough."""


@dataclass(frozen=True)
class JetsonFacts:
    """Everything needed to drive one Jetson, from any process."""

    name: str
    spacecraft: str
    module: str  # part number, as in the lab file
    serial: str  # empty: not compared
    targets: Mapping[Via, Target]
    console: ConsoleLine
    supervisor: SupervisorSpec
    fidelity: Fidelity = Fidelity.HARDWARE
    supervisor_namespace: str = netns.HOST  # where its power switch is reached from
    usb_path: str = ""  # where it enumerates in force-recovery mode; empty: not cabled
    budgets: BudgetSpec = field(default_factory=BudgetSpec)


class JetsonBoard(LinuxBoard):
    """``hil.boards.protocol.Board`` on a Jetson Orin."""

    def __init__(
        self,
        facts: JetsonFacts,
        *,
        console: SerialConsole | None = None,
        sink: Sink | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Drive the board; ``console`` is for the one process that has the serial port, any other follows its log."""
        log = console or LogConsole(facts.console.url, facts.console.log, clock)
        super().__init__(facts.name, facts.targets, log, clock)
        self.facts = facts
        self.spacecraft = facts.spacecraft
        self.fidelity = facts.fidelity
        self._sink = sink or NullSink()
        self.supervisor = supervisor_of(
            facts.name,
            facts.supervisor,
            namespace=facts.supervisor_namespace,
            shut_down=self._shut_down,
            shutdown_s=facts.budgets.shutdown_s,
            before_restart=self._goes_down,
            sink=self._sink,
            clock=clock,
        )
        self.boot = JetsonBootControl(self)
        self._sku = sku_of(facts.module)
        self._checked = False
        self._retry_count_max: int | None = None
        self._without_sysfs = False

    def shell(self, via: Via = Via.MANAGEMENT) -> SshShell:
        """Open a new SSH session.

        BenchError when there is no route, DeviceError when sshd does not answer, ConfigurationError when the board is
        not the one the lab file means.
        """
        opened = super().shell(via)
        try:
            if not self._checked:
                self.inspect_over(opened)
        except BaseException:
            opened.close()
            raise
        return opened

    def inspect(self) -> BoardReport:
        """Report who it is, which boot this is and which slots it has, over a session of its own, and check it."""
        with self.open_shell() as shell:
            return self.inspect_over(shell)

    def inspect_over(self, shell: Shell) -> BoardReport:
        """Report the same over a session that is open already."""
        report = inspect(shell, board=self.name, timeout_s=self.facts.budgets.answer_s)
        check_identity(report.who, board=self.name, module=self.facts.module, serial=self.facts.serial)
        self._checked = True
        self._retry_count_max = report.retry_count_max
        self.boot.remember(report.boot)
        return report

    def open_shell(self) -> SshShell:
        """Open a session whose board has not been checked yet."""
        return super().shell()

    def identity(self) -> Identity:
        return self.inspect().identity

    @property
    def boot_budget_s(self) -> float:
        """Power-on until it answers over SSH, at most."""
        return self.facts.budgets.boot_s

    @property
    def fall_back_budget_s(self) -> float:
        """A restart into an OS that does not come up, until the one before it answers, at most: minutes."""
        budgets = self.facts.budgets
        if budgets.fall_back_s is not None:
            return budgets.fall_back_s
        return failover_budget_s(budgets.boot_s, self._retry_count_max)

    def wait_booted(self, *, deadline_s: float | None = None) -> Identity:
        """Wait until the OS answers over SSH.

        A board that has power is given the lab file's ``boot_s`` at least: campaigns are written for boards that boot
        in a second.  One without power is given ``deadline_s`` (None: ``boot_s``).

        DeviceError at the deadline with the console's last lines; at once when another host key answers, and
        ConfigurationError at once when it is another board.
        """
        budget_s = self.facts.budgets.boot_s
        if deadline_s is not None and (deadline_s > budget_s or not self._has_power()):
            budget_s = deadline_s

        def answers() -> tuple[BoardReport | None, HilError | None]:
            try:
                return self.inspect(), None
            except (ConfigurationError, WrongHostKeyError) as exc:
                return None, exc  # waiting will not change it

        report, refused = self._wait_answer(answers, budget_s)
        if report is None:
            raise refused or DeviceError(f"board {self.name} did not say who it is")
        self.console.release()
        _log.info("board %s: booted %.80r from slot %s", self.name, report.os_version, report.proof.slot)
        self._sink.emit(
            BoardBooted(
                self.name, report.proof.slot, report.os_version, report.proof.boot_id, report.proof.reset_reason
            )
        )
        return report.identity

    @property
    def module(self) -> str:
        return self.facts.module

    @property
    def usb_path(self) -> str:
        return self.facts.usb_path

    @property
    def has_recovery_pin(self) -> bool:
        return self.facts.supervisor.recovery_pin is not None

    def enter_recovery(self, *, deadline_s: float = 30.0, sysfs: Path = SYSFS) -> UsbDevice:
        """Enter force-recovery mode by the pin where one is wired, else by its Linux; returns once USB proves it.

        ConfigurationError when another module is on the port, or when the one that runs is another.
        """
        if not self.usb_path:
            raise BenchError(
                f"board {self.name}: no USB port is known for it",
                remedy="cable its USB device port and give recovery.usb_path in the lab file",
            )
        port = UsbPort(self.usb_path, sysfs)
        enter = self.supervisor.force_recovery if self.has_recovery_pin else self._by_linux
        return enter_recovery(port, self.facts.module, enter, deadline_s=deadline_s, clock=self._clock)

    def _by_linux(self) -> None:
        with self.shell() as shell:
            self.inspect_over(shell)  # never resets a board that is not the one meant
            self._goes_down()
            by_linux(shell)

    def sensors_over(self, shell: Shell) -> dict[str, float]:
        """Return readings from sysfs, or from ``tegrastats`` where sysfs has no Orin's sensors."""
        if not self._without_sysfs:
            try:
                reading = self.reading_over(shell)
                if "tj" in reading.zones_c:  # every Orin has it; another kernel's zones are not the module's
                    return reading.sensors()
            except DeviceError as exc:
                if exc.__cause__ is not None:  # the session broke: that says nothing of sysfs
                    raise
        done = shell.run(TEGRASTATS, timeout_s=self.facts.budgets.answer_s + 10, check=False)
        sensors = parse(done.stdout.strip().split("\n")[-1]).sensors()
        self._without_sysfs = True
        return sensors

    def reading_over(self, shell: Shell) -> Reading:
        """Read everything that sysfs has: throttling, over-current, alarms. DeviceError when it has nothing."""
        return SysfsSensors(BoardFiles(shell), self._sku, board=self.name).read()

    def provision(self) -> Provision:
        """Read trip points, rails and limits, once when a board is brought in. DeviceError where sysfs has none."""
        with self.shell() as shell:
            return SysfsSensors(BoardFiles(shell), self._sku, board=self.name).provision()

    def _has_power(self) -> bool:
        """Tell whether its switch is on, or cannot be asked."""
        try:
            return self.supervisor.state() is PowerState.ON
        except BenchError:
            return True

    def _goes_down(self) -> None:
        """Send nothing to the console until ``login:``, and forget what was known of the running OS."""
        self.console.silence()
        self._checked = self._without_sysfs = False
        self.boot.drop()

    def _shut_down(self, deadline_s: float) -> bool:
        """Ask the OS to power off; whether its kernel said its last words in time."""
        end = self._clock.monotonic() + deadline_s
        since = self.console.size()
        with self.shell() as shell, contextlib.suppress(DeviceError):  # the connection may die before the answer
            shell.run(["poweroff"], check=False, timeout_s=deadline_s)
        self.console.wait_for(LAST_WORDS, deadline_s=max(0.0, end - self._clock.monotonic()), since=since)
        return True


class JetsonBootControl:
    """``hil.boards.protocol.BootControl`` through the board's OS, over a session that stays open.

    A Jetson tells its slots only while its OS runs: at other times they are what they were when it last told, with
    no slot running.
    """

    def __init__(self, board: JetsonBoard) -> None:
        self._board = board
        self._last: BootState | None = None
        self._shell = KeptShell(board.open_shell)

    def remember(self, state: BootState) -> None:
        self._last = state

    def drop(self) -> None:
        """Close the kept session: its boot is over."""
        self._shell.drop()

    def state(self) -> BootState:
        """Return the slots; BenchError when the board is down and this process has not read them before."""
        if self._board.supervisor.state() is PowerState.OFF:
            return self._remembered("is off")
        try:
            return self._shell.use(self._board.inspect_over).boot
        except DeviceError as exc:
            return self._remembered(f"does not answer ({exc.message})")

    def set_active(self, slot: Slot) -> None:
        """Try ``slot`` first at the next boot, and read that back. DeviceError when it did not take."""
        with self._board.open_shell() as shell:
            report = self._board.inspect_over(shell)
            control = NvBootControl(
                shell,
                board=self._board.name,
                timeout_s=self._board.facts.budgets.answer_s,
                retry_count_max=report.retry_count_max,
            )
            control.set_active(slot)
            self.remember(control.state())

    def _remembered(self, why: str) -> BootState:
        if self._last is None:
            raise BenchError(
                f"board {self._board.name} {why}: only its OS can tell its slots",
                remedy="power it on and wait until it has booted",
            )
        return replace(self._last, running=None)
