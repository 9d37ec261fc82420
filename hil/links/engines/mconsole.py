"""User-Mode Linux's management console: what does not fit its command line is plugged in while it runs."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from hil.core.wait import poll_until
from hil.errors import BenchError

_MAGIC, _VERSION = 0xCAFEBABE, 2
_TEXT_B = 512
_REQUEST = struct.Struct(f"=IIi{_TEXT_B}s")
_REPLY = struct.Struct("=III")  # error, more, length; then the text
_AGAIN_S = 0.05
_DEADLINE_S = 5.0


def configure(directory: Path, settings: Sequence[str], *, nudge: Callable[[], object]) -> None:
    """Tell the User-Mode Linux whose ``umid`` directory this is each ``config`` setting, such as ``vec7:...``.

    ``nudge`` is called when an answer is late: that kernel can sleep over a request until something else comes.
    Raises BenchError when it refuses one, or does not answer.
    """
    ours = directory / "console-client"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        # a path, not an abstract name: those belong to a network namespace, and it lives in another
        sock.bind(str(ours))
        sock.settimeout(_AGAIN_S)
        try:
            sock.connect(str(directory / "mconsole"))
            for setting in settings:
                _one(sock, f"config {setting}", nudge)
        except OSError as exc:
            raise BenchError(f"the console of User-Mode Linux failed: {exc}", remedy="run `hil doctor`") from exc
        finally:
            ours.unlink(missing_ok=True)


def _one(sock: socket.socket, command: str, nudge: Callable[[], object]) -> None:
    text = command.encode()
    if len(text) >= _TEXT_B:
        raise ValueError(f"a console command of {len(text)} bytes; it takes {_TEXT_B - 1}")
    sock.send(_REQUEST.pack(_MAGIC, _VERSION, len(text), text))
    said = ""
    for _ in poll_until(_DEADLINE_S, every_s=0.0):  # recv() waits
        try:
            answer = sock.recv(_REPLY.size + _TEXT_B)
        except TimeoutError:
            nudge()
            continue
        error, more, length = _REPLY.unpack_from(answer)
        said += answer[_REPLY.size : _REPLY.size + length].rstrip(b"\0").decode(errors="replace")
        if error and not more:
            raise BenchError(f"User-Mode Linux refused {command!r}: {said}")
        if not more:
            return
    raise BenchError(f"User-Mode Linux did not answer {command!r}", remedy="run `hil doctor`")
