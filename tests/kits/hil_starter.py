"""Starts the `hil` command in processes that need not import it: a process that has done so forks one for each.

``python -m hil.cli`` imports for a second of a core before it does anything, and tests run it a hundred times.  What
is forked is a process like any other: arguments, environment, working directory, standard streams and exit code are
its own.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TextIO

from hil.core import paths

PRELOADED = (
    *(
        "hil.cli.app",
        "hil.cli.bench.group",
        "hil.cli.board.group",
        "hil.cli.fault",
        "hil.cli.host",
        "hil.cli.lab.group",
    ),
    *("hil.cli.lease", "hil.cli.link", "hil.bench.bench", "hil.bench.ownership", "hil.monitor.board_watch"),
    *("cryptography.x509", "docker", "paramiko", "rich.console", "rich.live", "rich.table"),
)
"""No module that notes who or where its process is while it is imported (`hil.rollout.upload` does)."""
_LONGEST_REQUEST_B = 1 << 18


class Starter:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            for end in (self._control, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _LONGEST_REQUEST_B)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.kits.hil_starter", str(theirs.fileno())],
                cwd=paths.ROOT,
                stdin=subprocess.PIPE,  # as what is forked has them: no terminal
                stdout=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
            )
        self._lock = Lock()

    def run(
        self, arguments: tuple[str, ...], env: dict[str, str], streams: tuple[int, TextIO, TextIO], timeout_s: float
    ) -> int:
        """Run a command with these standard streams, and return its exit code as `subprocess` has it."""
        request = json.dumps({"arguments": arguments, "env": env, "cwd": str(Path.cwd())}).encode()
        told, tell = os.pipe()
        with os.fdopen(told, encoding="ascii") as status:
            try:
                with self._lock:
                    socket.send_fds(self._control, [request], [streams[0], *(s.fileno() for s in streams[1:]), tell])
            finally:
                os.close(tell)
            pid = int(status.readline())
            with selectors.DefaultSelector() as selector:
                selector.register(status, selectors.EVENT_READ)
                if not selector.select(timeout_s):
                    os.kill(pid, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(["hil", *arguments], timeout_s)
            return int(status.readline())


@cache
def starter() -> Starter:
    """The one of this process."""
    return Starter()


def _serve(control: socket.socket) -> bool:
    """Fork a process for each request; True in one that was forked, False when nobody can ask any more."""
    running: dict[int, tuple[int, int]] = {}  # pidfd: (pid, where its end is told)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd in running:
                pid, tell = running.pop(key.fd)
                _, status = os.waitpid(pid, 0)
                selector.unregister(key.fd)
                os.close(key.fd)
                _tell(tell, os.waitstatus_to_exitcode(status))
                os.close(tell)
                continue
            request, fds, _, _ = socket.recv_fds(control, _LONGEST_REQUEST_B, 4)
            if not request:
                return False
            *streams, tell = fds
            if pid := os.fork():
                _tell(tell, pid)
                pidfd = os.pidfd_open(pid)
                running[pidfd] = (pid, tell)
                selector.register(pidfd, selectors.EVENT_READ)
                for fd in streams:
                    os.close(fd)
                continue
            selector.close()
            control.close()
            for pidfd, (_, other) in running.items():
                os.close(pidfd)
                os.close(other)
            os.close(tell)
            _become(request, streams)
            return True


def _tell(where: int, number: int) -> None:
    with suppress(BrokenPipeError):  # whoever asked waited long enough
        os.write(where, f"{number}\n".encode())


def _become(request: bytes, streams: list[int]) -> None:
    """Take the place of a process that was started with these streams, arguments and environment."""
    wanted = json.loads(request)
    for standard, fd in enumerate(streams):
        os.dup2(fd, standard)
        os.close(fd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["cwd"])
    sys.argv = [str(paths.PACKAGE / "cli/__main__.py"), *wanted["arguments"]]


def main() -> int:
    """Import, then fork; in a forked process be `hil`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal: tests still take down what they brought up
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    if not _serve(control):
        return 0
    from hil.cli import main as hil

    return hil()


if __name__ == "__main__":
    sys.exit(main())
