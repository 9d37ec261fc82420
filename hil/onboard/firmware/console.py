"""What the firmware says and hears on the serial console: the boot log, the ESC prompt and the UEFI shell.

Lines have the shape of a Jetson AGX Orin's (L4T 36.4), so that whatever reads a real console reads this one.
"""

from __future__ import annotations

import os
import select
import termios
import time
from collections.abc import Callable

from hil.onboard.boot_control import SLOTS, BootControl, Variables

ESC = 0x1B
MB1_VERSION = "1.4.0.4-t234-54845784-e89ea9bc"
MB2_VERSION = "0.0.0.0-t234-54845784-22833a33"
UEFI_VERSION = "36.4.4-gcid-41062509"
RESET_SOURCES = {"SYS_RESET_N": ("0x0", "0x0"), "MAINSWRST": ("0x2", "0x1"), "BCCPLEXWDT": ("0x1c", "0x1")}


class Console:
    """The console on two file descriptors (of the firmware: 0 and 1)."""

    def __init__(self, inward: int = 0, outward: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._in = inward
        self._out = outward
        self._clock = clock
        self._start = clock()

    def restart_clock(self) -> None:
        """A new boot: the stamps of MB1 and MB2 count from here."""
        self._start = self._clock()

    def say(self, *lines: str) -> None:
        """Lines; an empty one when there is none."""
        for line in lines or ("",):
            self.write(line + "\r\n")

    def write(self, text: str) -> None:
        """Text as it is. A console that nobody holds any more (the bench is gone) is no reason to die."""
        data = text.encode()
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except OSError:
            return

    def stamped(self, text: str) -> None:
        """One line of MB1 or MB2, with its ``[ssss.mmm] I>`` stamp."""
        elapsed = self._clock() - self._start
        self.say(f"[{int(elapsed):04d}.{int(elapsed * 1000) % 1000:03d}] I> {text}")

    def set_cooked(self, cooked: bool) -> None:
        """Line editing, echo and signals on (for a shell) or off (for the firmware's own prompts)."""
        try:
            mode = termios.tcgetattr(self._in)
        except termios.error:
            return
        lflag = termios.ICANON | termios.ECHO | termios.ECHOE | termios.ECHOK | termios.ISIG | termios.IEXTEN
        mode[0] = termios.ICRNL
        mode[1] = termios.OPOST | termios.ONLCR if cooked else 0
        mode[3] = lflag if cooked else 0
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._in, termios.TCSANOW, mode)

    def drop_input(self) -> None:
        """Forget what was typed before power came on."""
        try:
            termios.tcflush(self._in, termios.TCIFLUSH)
        except termios.error:
            return

    def byte(self, timeout_s: float) -> int | None:
        """Return the next byte typed within ``timeout_s``, or None."""
        ready, _, _ = select.select([self._in], [], [], max(0.0, timeout_s))
        if not ready:
            return None
        try:
            data = os.read(self._in, 1)
        except OSError:
            return None
        return data[0] if data else None

    def line(self) -> str:
        """Return one line, echoed as it is typed; empty when the console is gone."""
        typed = bytearray()
        while True:
            value = self.byte(3600)
            if value is None or value in (0x0A, 0x0D):
                self.say()
                return typed.decode("utf-8", "replace").strip()
            if value in (0x08, 0x7F):
                if typed:
                    typed.pop()
                    self.write("\b \b")
                continue
            typed.append(value)
            self.write(chr(value) if value < 0x80 else "?")


def announce(console: Console, control: BootControl, reason: str, cold: bool) -> None:
    """MB1, MB2 and the UEFI banner."""
    source, level = RESET_SOURCES.get(reason, ("0x0", "0x0"))
    console.say()
    console.stamped(f"MB1 (version: {MB1_VERSION})")
    console.stamped("t234-A01-0-Silicon (0x12347) Prod")
    console.stamped(f"Boot-mode : {'Coldboot' if cold else 'Warmboot'}")
    console.stamped(f"rst_source: {source}, rst_level: {level}")
    console.stamped("last_boot_error: 0x0")
    console.stamped(f"MB2 (version: {MB2_VERSION})")
    console.stamped(f"Current Boot-Chain Slot: {SLOTS.index(control.active)}")
    console.stamped("MB2 finished")
    console.say(
        "NOTICE:  BL31: v2.8(release):hil",
        "I/TC: OP-TEE version: 4.2 (virtual)",
        "I/TC: Primary CPU switching to normal world boot",
        f"Jetson UEFI firmware (version {UEFI_VERSION} built on 2025-06-08T04:43:56+00:00)",
        "ESC   to enter Setup.",
        "F11   to enter Boot Manager Menu.",
        "Enter to continue boot.",
    )


def escape_pressed(console: Console, wait_s: float) -> bool:
    """Wait for ESC (or F11, which begins with it) for ``wait_s``; Enter goes on at once."""
    deadline = time.monotonic() + wait_s
    while (left := deadline - time.monotonic()) > 0:
        value = console.byte(left)
        if value == ESC:
            while console.byte(0.02) is not None:  # the rest of a function key
                pass
            return True
        if value in (0x0A, 0x0D):
            return False
    return False


def uefi_shell(console: Console, variables: Variables) -> str:
    """Run a few commands of the UEFI shell; return what to do next: ``boot`` or ``reset``."""
    console.say("UEFI Interactive Shell v2.2")
    while True:
        console.write("Shell> ")
        words = console.line().split()
        match words:
            case []:
                continue
            case ["help"]:
                console.say("dmpstore - show variables   setvar NAME NUMBER   reset   exit - continue boot")
            case ["dmpstore"]:
                for name in variables.names():
                    console.say(f"Variable NV+RT+BS '{name}'")
                    value = variables.read(name.split("-", 1)[0])
                    console.say(f"  {(value or b'').hex(' ')}")
            case ["setvar", name, value] if name.isidentifier() and value.isdecimal():
                variables.set_number(name, int(value) & 0xFFFFFFFF)
            case ["reset"]:
                return "reset"
            case ["exit"]:
                return "boot"
            case _:
                console.say(f"'{words[0]}' is not recognized as an internal or external command")
