"""A supervisor microcontroller on a serial line: power, reset and force-recovery of one board.

The protocol is ours (docs/power.md): one line asks, one line answers::

    who            -> ok who hil-supervisor 1 NAME
    power on|off   -> ok power on
    reset          -> ok reset                       (pressed and released)
    recovery on|off-> ok recovery on                 (held until told off)
    state          -> ok state power=on recovery=off
    anything else  -> error WHY

Answers repeat the command, so that one that comes late is not taken for another's.  Lines that begin with ``#`` are the
controller's own log.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

from pydantic import Field

from hil.boards.power.kinds import OutletKind, Surroundings
from hil.boards.power.switch import NoAnswerError, Reading
from hil.boards.protocol import PowerState
from hil.errors import BenchError
from hil.lab.power import Device, OutletSpec, RequestS
from hil.lab.yamlfile import with_example

_log = logging.getLogger(__name__)

PROTOCOL = "hil-supervisor 1"
MAX_LINE = 200
"""Bytes; what is longer is noise."""


class MicrocontrollerSpec(OutletSpec):
    """A supervisor microcontroller that speaks the protocol of docs/power.md."""

    model_config = with_example("""\
kind: microcontroller
port: /dev/serial/by-path/pci-0000:00:14.0-usb-0:5:1.0-port0
baud: 115200
""")
    kind: Literal["microcontroller"]
    port: Device
    baud: int = Field(default=115_200, ge=1200, le=4_000_000, description="8N1")
    request_timeout_s: RequestS = 2.0


class Microcontroller:
    """One controller: outlet, reset pin and recovery pin of a board, whichever of them is wired.

    The port is opened for each request, so that several programs can share it in turn.
    """

    def __init__(self, port: str, *, baud: int = 115_200, timeout_s: float = 2.0) -> None:
        """Use the device ``port``, best ``/dev/serial/by-path/...``: by its place, not by the order of plugging."""
        self._port = port
        self._baud = baud
        self._timeout_s = timeout_s
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return f"supervisor on {self._port}"

    def ask(self, command: str) -> str:
        """Send one command; what follows it in the answer. Sent once.

        NoAnswerError when it may have been obeyed; BenchError when it was refused, or something else is on the port.
        """
        end = time.monotonic() + self._timeout_s
        with self._lock, self._opened(end) as line:
            who = self._exchange(line, "who", end)
            if not who.startswith(PROTOCOL):
                raise BenchError(
                    f"{self.name}: says it is {who!r}, not a {PROTOCOL!r}",
                    remedy="the port is another device's, or the controller needs the firmware of docs/power.md",
                )
            return self._exchange(line, command, end)

    def state(self) -> dict[str, str]:
        """Return ``{"power": "on", "recovery": "off"}``, and what else the controller tells."""
        said = self.ask("state")
        return dict(part.split("=", 1) for part in said.split() if "=" in part)

    def command(self, wanted: PowerState) -> None:
        self.ask(f"power {wanted.value}")

    def read(self) -> Reading:
        state = self.state()
        if (power := state.get("power")) not in ("on", "off"):
            raise BenchError(f"{self.name}: its state {state!r} says nothing of power on or off")
        return Reading(PowerState(power))

    def pulse(self) -> None:
        """Press reset; the controller releases it by itself."""
        self.ask("reset")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold FC_REC; BenchError when it may still be held afterwards."""
        try:
            # Inside: a lost answer may mean that the pin is held.
            self.ask("recovery on")
            yield
        finally:
            try:
                self.ask("recovery off")
            except BenchError as exc:
                raise BenchError(
                    f"{exc.message}; force-recovery may still be held",
                    remedy=f"{exc.remedy}; a module whose FC_REC is held boots into recovery",
                ) from exc

    @contextmanager
    def _opened(self, end: float) -> Iterator[Any]:
        import serial

        line = serial.Serial(baudrate=self._baud, exclusive=True)
        line.port = self._port
        line.dtr = line.rts = False  # on many boards these lines reset the controller
        while True:
            try:
                line.open()
                break
            except serial.SerialException as exc:
                busy = "exclusively lock" in str(exc)
                if busy and time.monotonic() < end:
                    time.sleep(0.02)
                    continue
                raise BenchError(
                    f"{self.name}: {'in use by another program' if busy else exc}",
                    remedy="close the program that holds it: fuser " + self._port
                    if busy
                    else "is it plugged, into the USB port the lab file names? see ls -l /dev/serial/by-path",
                ) from exc
        try:
            _keep_dtr(line)
            line.reset_input_buffer()
            yield line
        except (serial.SerialException, OSError) as exc:
            raise NoAnswerError(
                f"{self.name}: lost in the middle of a command: {exc}", remedy="look at its cable and at dmesg"
            ) from exc
        finally:
            with suppress(OSError, serial.SerialException):
                line.close()

    def _exchange(self, line: Any, command: str, end: float) -> str:
        _log.debug("%s: send %r", self.name, command)
        line.write_timeout = max(0.05, end - time.monotonic())
        line.write(f"{command}\n".encode("ascii"))
        other = ""
        for answer in self._lines(line, end):
            _log.debug("%s: answers %.200r", self.name, answer)
            if answer == f"ok {command}" or answer.startswith(f"ok {command} "):
                return answer.removeprefix(f"ok {command}").strip()
            if answer.startswith("error"):
                raise BenchError(
                    f"{self.name}: refused {command!r}: {answer.removeprefix('error').strip() or 'no reason given'}",
                    remedy="see what its firmware supports (docs/power.md)",
                )
            other = answer
        raise NoAnswerError(
            f"{self.name}: did not answer {command!r} within {self._timeout_s:g} s"
            + (f"; it said {other[:80]!r}" if other else ""),
            remedy="is it powered, at this baud rate, and does its firmware speak the protocol of docs/power.md?",
        )

    def _lines(self, line: Any, end: float) -> Iterator[str]:
        """Return whole lines until ``end``, without the controller's log."""
        buffer = b""
        while (left := end - time.monotonic()) > 0:
            line.timeout = min(left, 0.1)
            buffer += line.read(max(1, line.in_waiting))
            *whole, buffer = buffer.split(b"\n")
            buffer = buffer[-MAX_LINE:]
            for raw in whole:
                text = raw[-MAX_LINE:].decode("utf-8", "replace").strip()
                if text and not text.startswith("#"):
                    yield text


def _keep_dtr(line: Any) -> None:
    """Leave DTR alone when the port is closed: its edge would reset many a controller, and its board with it."""
    import termios

    with suppress(termios.error):
        settings = termios.tcgetattr(line.fd)
        settings[2] &= ~termios.HUPCL
        termios.tcsetattr(line.fd, termios.TCSANOW, settings)


def _micro(spec: MicrocontrollerSpec, here: Surroundings) -> Microcontroller:
    """Return the one object of a port: its lock keeps power and pins from talking at once."""
    if spec.port not in here.shared:
        here.shared[spec.port] = Microcontroller(spec.port, baud=spec.baud, timeout_s=spec.request_timeout_s)
    micro: Microcontroller = here.shared[spec.port]
    return micro


MICROCONTROLLER = OutletKind(MicrocontrollerSpec, _micro, _micro, _micro, devices=lambda spec: (spec.port,))
