"""Anything that pyserial opens, behind two verbs: what is there now, and send this."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hil.errors import BenchError, ConfigurationError

BY_PATH = Path("/dev/serial/by-path")
_CHUNK = 65536
_POLLED_WAIT_S = 0.02


class SerialPort:
    """An open port: ``/dev/serial/by-path/...``, ``rfc2217://host:port``, ``socket://host:port``, ``loop://``."""

    def __init__(self, url: str, *, baudrate: int, write_timeout_s: float = 5.0) -> None:
        """Open it, 8N1, no flow control, locked against a second program.

        ConfigurationError when the URL is none; BenchError when nothing opens (within pyserial's own 5 s).
        """
        import serial

        self.url = url
        self._errors: tuple[type[Exception], ...] = (serial.SerialException, OSError, TypeError)
        options: dict[str, Any] = {"timeout": 0, "write_timeout": write_timeout_s, "exclusive": True}
        if url.startswith("rfc2217:"):  # pyserial has no write time-out there; its socket has one of 5 s
            options = {"timeout": _POLLED_WAIT_S}
        elif url.startswith("loop:"):
            options["timeout"] = _POLLED_WAIT_S
        try:
            self._port: Any = serial.serial_for_url(url, baudrate=baudrate, do_not_open=True, **options)
            if "://" in url:
                # pyserial throws away what a network port has said by the time it is open; nobody else logs that.
                self._port.reset_input_buffer = lambda: None
            self._port.open()
        except serial.SerialException as exc:
            raise BenchError(f"serial port {url} does not open: {exc}", remedy=_remedy(url)) from exc
        except ValueError as exc:
            raise ConfigurationError(
                f"{url!r} is no serial port: {exc}",
                remedy="/dev/serial/by-path/..., rfc2217://host:port, socket://host:port or loop://",
            ) from exc
        try:
            self.descriptor: int | None = self._port.fileno()
        except (OSError, ValueError, AttributeError):
            self.descriptor = None  # rfc2217 and loop have none: their read waits itself

    def read(self) -> bytes:
        """Return what is there now; waits 20 ms at most where it cannot be polled. BenchError when it is gone."""
        try:
            size = _CHUNK if self.descriptor is not None else max(1, self._port.in_waiting)
            data: bytes = self._port.read(size)
        except self._errors as exc:  # TypeError: pyserial's, when the port is closed while it reads
            raise BenchError(f"serial port {self.url} is gone: {exc}") from exc
        return data

    def write(self, data: bytes) -> None:
        """Send all of it. BenchError when it does not leave within the write time-out, or the port is gone."""
        try:
            self._port.write(data)
        except self._errors as exc:
            raise BenchError(f"serial port {self.url} took nothing: {exc}") from exc

    def close(self) -> None:
        try:
            self._port.close()
        except self._errors:
            return  # an adapter that was pulled cannot be closed in order


def _remedy(url: str) -> str:
    if "://" in url:
        return "is the console server up, and does nobody else hold this line?"
    present = sorted(p.name for p in BY_PATH.iterdir()) if BY_PATH.is_dir() else []
    there = ", ".join(present) if present else "nothing"
    return f"is the adapter plugged in and free? {BY_PATH} has {there}; `fuser {url}` names who holds it"
