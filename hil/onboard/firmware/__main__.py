"""PID 1 of a container board: power-on to power-off.

One pass of :func:`Machine.run` is one boot: announce, measure the slot, choose, hand over, supervise.  The OS runs
in its own PID namespace, so its reboot(2) ends it with SIGHUP (restart) or SIGINT (power off); any other end of its
init is a kernel panic.  A watchdog that is not fed kills it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import termios
import time
import uuid
from pathlib import Path
from typing import Any

from hil.onboard.boot_control import BootControl, Slot, Variables, other
from hil.onboard.files import read_object
from hil.onboard.firmware import handoff, kernel
from hil.onboard.firmware.console import Console, announce, escape_pressed, uefi_shell
from hil.onboard.firmware.watchdog import Watchdog
from hil.onboard.squashfs import image_sha256, image_size


def measure(image: Path, memory: Path) -> tuple[str, int]:
    """(sha256, size) of the root image in a slot, as a measured boot would take it.

    ``memory`` remembers the digest for as long as the slot's modification time and size stay the same.
    """
    try:
        state = image.stat()
        with image.open("rb") as file:
            size = image_size(file.read(96))
            key = f"{state.st_mtime_ns}:{state.st_size}:{size}"
            known = read_object(memory)
            if known.get("key") == key and "sha256" in known:
                return str(known["sha256"]), size
            sha256 = image_sha256(file)
    except OSError:
        return "", 0
    if sha256:
        with contextlib.suppress(OSError):
            memory.write_text(json.dumps({"key": key, "sha256": sha256}))
    return sha256, size


class Machine:
    """The module from power-on until power is gone."""

    def __init__(self, nv: Path = handoff.NV) -> None:
        self.nv = nv
        self.variables = Variables(nv / "vars")
        self.control = BootControl(self.variables)
        self.console = Console()
        self.power_button = False

    def main(self) -> int:
        self._open_console()
        wakeup_read, wakeup_write = os.pipe()
        os.set_blocking(wakeup_read, False)
        os.set_blocking(wakeup_write, False)
        signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_power_button)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the bench let go of the console
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        handoff.HARDWARE.mkdir(parents=True, exist_ok=True)
        watchdog = Watchdog(handoff.WATCHDOG)
        reason, cold = "SYS_RESET_N", True
        while not self.power_button:
            outcome = self.boot(reason, cold, watchdog, wakeup_read)
            if outcome == "off":
                break
            reason, cold = outcome, False
        self.console.say("reboot: Power down")
        return 0

    def boot(self, reason: str, cold: bool, watchdog: Watchdog, wakeup: int) -> str:
        """Boot once; return the reset reason of the next one, or ``off``."""
        console = self.console
        console.restart_clock()
        console.set_cooked(False)
        console.drop_input()
        count = self.variables.number("BootCount") + 1
        self.variables.set_number("BootCount", count)
        self.variables.set_text("ResetReason", reason)
        announce(console, self.control, reason, cold)
        until = time.monotonic() + self.variables.number("EscPromptMs") / 1000
        probable: Slot = self.control.active
        if not self.control.slot(probable).bootable:
            probable = other(probable)
        measured = measure(self._slot_image(probable), self.nv / f"measured_{probable.lower()}.json")
        if escape_pressed(console, until - time.monotonic()) and uefi_shell(console, self.variables) == "reset":
            return "MAINSWRST"
        if self.power_button:
            return "off"
        slot = self.control.choose()
        if slot is None:
            return self._recovery()
        if slot != probable:
            measured = measure(self._slot_image(slot), self.nv / f"measured_{slot.lower()}.json")
        model = handoff._text(self.facts(), "model", "Jetson (virtual)")
        console.say(
            "L4TLauncher: Attempting Direct Boot",
            "EFI stub: Booting Linux Kernel...",
            "EFI stub: Using DTB from configuration table",
            "EFI stub: Exiting boot services...",
            "[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x410fd421]",
            f"[    0.000000] Machine model: {model}",
        )
        console.set_cooked(True)
        return self._operate(slot, measured, count, reason, watchdog, wakeup)

    def facts(self) -> dict[str, Any]:
        """Return the board's facts; an unreadable or odd file gives an anonymous board, never a dead one."""
        return read_object(self.nv / "board.json")

    def _slot_image(self, slot: Slot) -> Path:
        return self.nv / ("slot_a.img" if slot == "A" else "slot_b.img")

    def _operate(
        self, slot: Slot, measured: tuple[str, int], count: int, reason: str, watchdog: Watchdog, wakeup: int
    ) -> str:
        loops: dict[str, str] = {}
        descriptors: list[int] = []
        try:
            for partition, image in handoff.PARTITIONS.items():
                descriptor, loops[partition] = kernel.attach_loop(self.nv / image)
                descriptors.append(descriptor)
            boot = handoff.Boot(slot, *measured, str(uuid.uuid4()), count, reason, loops=loops, facts=self.facts())
            watchdog.arm(self.variables.number("WatchdogBootMs") / 1000)
            child = kernel.clone_machine()
            if child == 0:
                signal.set_wakeup_fd(-1)
                handoff.enter(boot)
            return self._supervise(child, watchdog, wakeup)
        except OSError as exc:
            self.console.say(f"L4TLauncher: {exc}")
            time.sleep(0.2)
            return "MAINSWRST"
        finally:
            for descriptor in descriptors:
                kernel.close_quietly(descriptor)

    def _supervise(self, child: int, watchdog: Watchdog, wakeup: int) -> str:
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        poll.register(watchdog.descriptor, select.POLLIN)
        while True:
            self._reap_others(child)
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid == child:
                return self._why(status)
            if self.power_button:
                # Again and again: an init that has not set up its handlers yet does not hear the first one.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGPWR)
            asked = min(1.0, watchdog.left())
            before = time.monotonic()
            poll.poll(max(1.0, asked * 1000))
            late = time.monotonic() - before - asked
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, 4096)
            if late > 0.5:
                watchdog.extend(late)  # this process was not running either: the host stalled, not the OS
            watchdog.drain(self.variables.number("WatchdogTimeoutMs") / 1000)
            if watchdog.expired():
                self.console.say("watchdog: tegra-wdt: CPU watchdog expired, resetting")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return "BCCPLEXWDT"

    def _reap_others(self, child: int) -> None:
        """PID 1 adopts orphans; leave the OS's own init to the caller."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid == child:
                return
            os.waitpid(found.si_pid, 0)

    def _why(self, status: int) -> str:
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGHUP:
            self.console.say("reboot: Restarting system")
            return "MAINSWRST"
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT:
            return "off"
        self.console.say(f"Kernel panic - not syncing: Attempted to kill init! exitcode=0x{status & 0xFFFF:08x}")
        self.console.say("Rebooting in 0 seconds..")
        return "MAINSWRST"

    def _recovery(self) -> str:
        """Give a shell on the console, because both slots are exhausted, until somebody mends the variables."""
        console = self.console
        console.say("L4TLauncher: Attempting Recovery Boot")
        console.say("recovery: no bootable slot. Variables are in /nv/vars; leave the shell to reset.")
        console.set_cooked(True)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            os.setsid()
            with contextlib.suppress(OSError):
                fcntl.ioctl(0, termios.TIOCSCTTY, 1)
            os.environ.update(TERM="dumb", PS1="recovery# ", PYTHONPATH="/usr/lib/hil")
            os.execv("/usr/bin/busybox", ["sh", "-i"])
        while not self.power_button:
            done, _ = os.waitpid(pid, os.WNOHANG)
            if done == pid:
                return "MAINSWRST"
            time.sleep(0.05)
        return "off"

    def _on_power_button(self, *_: object) -> None:
        self.power_button = True

    @staticmethod
    def _open_console() -> None:
        if not Path(handoff.CONSOLE).exists():
            return
        descriptor = os.open(handoff.CONSOLE, os.O_RDWR | os.O_NOCTTY)
        for target in (0, 1, 2):
            os.dup2(descriptor, target)
        if descriptor > 2:
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(Machine().main())
