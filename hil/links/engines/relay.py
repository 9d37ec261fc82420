"""The static netlink relay: compiling it, and speaking its frames.

The relay (``native/``, whose ``relay.h`` says what it does) is the only program that runs inside User-Mode Linux,
and the same binary serves the kernel engine from inside the link box's namespace.  It is compiled on demand and kept
under its content hash.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from hil.core import paths
from hil.errors import BenchError
from hil.text import one_line

if TYPE_CHECKING:
    import paramiko

PROTOCOL_VERSION = 3
PAYLOAD_MAX = 3000
_HEADER = struct.Struct("<HBBHH")
_MAGIC = 0x4C48
_FLAG_MORE = 1
_CFLAGS = ("-O2", "-Wall", "-Wextra")
_NATIVE = Path(__file__).with_name("native")


class Kind(IntEnum):
    """What a frame asks for; ``native/relay.h`` has the payloads."""

    NUDGE = 0
    HELLO = 1
    NETLINK = 2
    MORE = 3
    CLOCK = 4
    SHAPE = 5
    HOLD = 6
    RELEASE = 7
    PLAN_ADD = 8
    PLAN_COMMIT = 9
    PLAN_LOG = 10
    PLAN_FORGET = 11
    IOCTL = 12
    UNDO = 13


def compile_relay() -> Path:
    """Compile the relay, unless these sources were compiled here before; return its binary.

    Raises BenchError when there is no C compiler or it fails.
    """
    return compiled("hil-relay", sorted(_NATIVE.glob("*.[ch]")), ("-static", "-s"))


def compile_preload() -> Path:
    """Compile the library that User-Mode Linux is started with; like :func:`compile_relay`."""
    return compiled("hil-registers.so", [_NATIVE / "preload" / "registers.c"], ("-shared", "-fPIC", "-s"))


def compiled(name: str, sources: Sequence[Path], flags: Sequence[str]) -> Path:
    """Compile C sources, unless the same were compiled here before; like :func:`compile_relay`."""
    flags = (*_CFLAGS, *flags)
    digest = hashlib.sha256(" ".join(flags).encode())
    for source in sources:
        digest.update(f"\0{source.name}\0".encode() + source.read_bytes())
    target = paths.cache() / "relay" / digest.hexdigest()[:16] / name
    if target.exists():
        return target
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise BenchError("the link box needs a C compiler for its relay", remedy="run `hil setup` as root")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        built = Path(scratch) / name
        units = [str(source) for source in sources if source.suffix == ".c"]
        done = subprocess.run([compiler, *flags, "-o", str(built), *units], capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise BenchError(
                f"compiling {name} failed: {done.stderr.strip()[-800:]}",
                remedy="install gcc and libc6-dev (`hil setup` does)",
            )
        built.replace(target)  # atomic: two benches may compile at once
    return target


def _echo(frame: bytes) -> bytes:
    """Return how a terminal that is not raw echoes the frame: control characters as ``^@``."""
    return b"".join(b"^%c" % (byte ^ 0x40) if byte < 0x20 else bytes([byte]) for byte in frame)


def _is_header(head: bytes) -> bool:
    length, *_, magic = _HEADER.unpack(head)
    return bool(magic == _MAGIC and length <= PAYLOAD_MAX)


class RelayLine:
    """Frames over a connected stream, stop-and-wait.

    ``nudge_s`` is how long to wait for an answer before sending an empty frame: User-Mode Linux 6.1 can miss that
    bytes arrived until more arrive.  Without it where the other end is an ordinary process.
    """

    def __init__(self, stream: socket.socket | paramiko.Channel, *, name: str, nudge_s: float = math.inf) -> None:
        self._stream = stream
        self._name = name
        self._nudge_s = nudge_s
        self._sequence = 0
        self._one_at_a_time = threading.Lock()
        self.nudges = 0

    def ask(self, kind: Kind, payload: bytes = b"", *, deadline_s: float = 5.0) -> bytes:
        """Send one frame; return the whole answer. BenchError when the relay is gone or silent for ``deadline_s``."""
        if len(payload) > PAYLOAD_MAX:
            raise ValueError(f"payload of {len(payload)} bytes; frames carry {PAYLOAD_MAX}")
        answer, more = b"", True
        with self._one_at_a_time:
            until = time.monotonic() + deadline_s
            self._stream.settimeout(deadline_s)
            self._sequence = (self._sequence + 1) & 0xFFFF
            try:
                while more:
                    asked = self._frame(kind, payload)
                    self._stream.sendall(asked)
                    piece, more = self._receive(until, _echo(asked))
                    answer += piece
                    kind, payload = Kind.MORE, b""
            except OSError as exc:
                raise BenchError(f"{self._name} is gone: {exc}", remedy="bring the bench up again") from exc
        return answer

    def close(self) -> None:
        """Close the line, which ends the relay (and User-Mode Linux with it)."""
        self._stream.close()

    def _frame(self, kind: Kind, payload: bytes = b"") -> bytes:
        return _HEADER.pack(len(payload), kind, 0, self._sequence, _MAGIC) + payload

    def _receive(self, until: float, echo: bytes) -> tuple[bytes, bool]:
        while True:
            head = self._exactly(_HEADER.size, until)
            if echo.startswith(head):  # the relay had not set its terminal to raw when we asked
                while not _is_header(head):
                    head = head[1:] + self._exactly(1, until)
            if not _is_header(head):
                said = one_line(head.decode("latin-1"), 80)
                raise OSError(f"the line carries something else than frames, here {said!r}")
            length, _kind, flags, sequence, _magic = _HEADER.unpack(head)
            payload = self._exactly(length, until)
            if sequence == self._sequence:  # else the late answer to a request that was given up
                return payload, bool(flags & _FLAG_MORE)

    def _exactly(self, length: int, until: float) -> bytes:
        data = b""
        patience = self._nudge_s
        while len(data) < length:
            left = until - time.monotonic()
            if left <= 0:
                raise BenchError(f"{self._name} did not answer in time", remedy="bring the bench up again")
            self._stream.settimeout(min(left, patience))
            try:
                piece = self._stream.recv(length - len(data))
            except TimeoutError:
                if patience < left:
                    self._stream.sendall(self._frame(Kind.NUDGE))
                    self.nudges += 1
                    patience = min(2 * patience, 0.2)  # unread nudges must stay below the line's 4 KB
                continue
            if not piece:
                raise OSError("it closed the line")
            data += piece
        return data
