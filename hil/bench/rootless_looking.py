"""Looking without root: commands that only look at a bench, run by its keeper for members of the group.

A member's command line comes over a socket of the group, together with the member's own standard files.  The keeper
checks it word by word and runs it as its own command, on those files.  What changes something is not among them.
"""

from __future__ import annotations

import grp
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hil.bench.state import bench_dir
from hil.core import paths
from hil.errors import BenchError, ConfigurationError

LOOKS: dict[tuple[str, str], frozenset[str]] = {
    ("board", "list"): frozenset({"--json"}),
    ("board", "show"): frozenset({"--json"}),
    ("board", "watch"): frozenset({"--json", "--once", "--every"}),
    ("board", "logs"): frozenset({"-f", "--follow", "--since", "-n", "--lines", "--source"}),
    ("board", "console"): frozenset({"--log", "--follow", "--stamps"}),
    ("bench", "watch"): frozenset({"--json", "--once", "--every"}),
    ("link", "show"): frozenset({"--json"}),
}
"""Group and command, and the options that it may have."""
_CONSOLE_READS = frozenset({"--log", "--follow"})
MOST_AT_ONCE = 16
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.,*-]{0,63}")
_TERM = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,39}")
_REQUEST_B = 4096
_REQUEST_S = 5.0
_END_S = 3.0
_COMMAND = (sys.executable, "-m", "hil.cli")


@dataclass(frozen=True)
class Look:
    """A command line that only looks: its words without the bench, and the bench that it names, if any."""

    words: tuple[str, ...]
    bench: str = ""

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Look | None:
        """Return the command line as a look; None when it is none, or asks for help."""
        if tuple(arguments[:2]) not in LOOKS or {"-h", "--help"} & {*arguments}:
            return None
        words, bench, rest = list(arguments[:2]), "", iter(arguments[2:])
        for word in rest:
            name, _, value = word.partition("=")
            if name == "--bench":
                bench = value or next(rest, "")
            elif arguments[0] == "bench" and not word.startswith("-") and not words[-1].startswith("--every"):
                bench = word
            else:
                words.append(word)
        return cls(tuple(words), bench) if _is_allowed(words) else None


def _is_allowed(words: Sequence[str]) -> bool:
    """Return whether the words are a command of :data:`LOOKS` with its options, names and values and no more."""
    options = LOOKS.get((words[0], words[1])) if len(words) > 1 else None
    if options is None:
        return False
    if words[1] == "console" and not _CONSOLE_READS & {*words}:
        return False  # without them it writes
    for word in words[2:]:
        name, _, value = word.partition("=")
        if word.startswith("-"):
            if name not in options or (value and not _WORD.fullmatch(value)):
                return False
        elif not _WORD.fullmatch(word):
            return False
    return True


def socket_of(bench: str) -> Path:
    return bench_dir(bench) / "members.sock"


def look(bench: str, words: Sequence[str], files: Sequence[int] = (0, 1, 2)) -> int | None:
    """Have the keeper of a bench run a command that looks, on these files; return its exit code.

    None when that bench has no such socket.  ConfigurationError for who is no member, BenchError when it ends.
    """
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as line:
        try:
            line.connect(str(socket_of(bench)))
        except PermissionError as exc:
            raise ConfigurationError(
                f"bench {bench} is root's, and this user is no member of group {paths.GROUP}",
                remedy=f"as root: usermod -aG {paths.GROUP} USER; then log in again. Or run the command with sudo",
            ) from exc
        except OSError:
            return None
        request = {"words": list(words), "term": os.environ.get("TERM", ""), "no_color": "NO_COLOR" in os.environ}
        socket.send_fds(line, [json.dumps(request).encode()], list(files))
        try:
            answer = line.recv(_REQUEST_B)
        except KeyboardInterrupt:
            line.shutdown(socket.SHUT_WR)  # which ends the command
            line.settimeout(_END_S)
            with suppress(OSError):
                line.recv(_REQUEST_B)
            raise
    if not answer:
        raise BenchError(f"bench {bench} ended meanwhile")
    said = json.loads(answer)
    if "refused" in said:
        raise ConfigurationError(str(said["refused"]), remedy="run it as root")
    return int(said["code"])


class MembersService:
    """The keeper's side; closed with :meth:`close`, which ends what runs."""

    def __init__(self, bench: str, path: Path, command: Sequence[str] = _COMMAND, *, group: int | None = None) -> None:
        """``group``: the number of the group that may connect; None: only this user."""
        self._bench, self._path, self._command = bench, path, command
        self._free = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._closed = threading.Event()
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(0o660 if group is not None else 0o600)
        self._listener.listen()
        threading.Thread(target=self._accept, name="members", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        for _ in range(MOST_AT_ONCE):  # until all have ended
            self._free.acquire(timeout=_END_S)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                line, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(line,), name="member", daemon=True).start()

    def _serve(self, line: socket.socket) -> None:
        with closing(line), suppress(OSError):
            if not self._free.acquire(blocking=False):
                line.send(json.dumps({"refused": f"{MOST_AT_ONCE} commands look at this bench already"}).encode())
                return
            try:
                line.settimeout(_REQUEST_S)
                line.send(json.dumps(self._answer(line)).encode())
            finally:
                self._free.release()

    def _answer(self, line: socket.socket) -> dict[str, object]:
        with _received(line) as (content, files):
            try:
                request = json.loads(content)
                words, term, plain = request["words"], request["term"], request["no_color"]
                good = len(files) == 3 and all(isinstance(word, str) for word in words) and _is_allowed(words)
            except (ValueError, KeyError, TypeError):
                good = False
            if not good:
                return {"refused": "that is no command that only looks"}
            environment = {k: v for k, v in os.environ.items() if k not in ("HIL_BENCH", "TERM", "NO_COLOR")}
            if isinstance(term, str) and _TERM.fullmatch(term):
                environment["TERM"] = term
            if plain:
                environment["NO_COLOR"] = "1"
            setpriv = shutil.which("setpriv")
            dies_with_us = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
            child = subprocess.Popen(
                [*dies_with_us, *self._command, *words, "--bench", self._bench],
                stdin=files[0],
                stdout=files[1],
                stderr=files[2],
                env=environment,
                start_new_session=True,
            )
        return {"code": self._ended(child, line)}

    def _ended(self, child: subprocess.Popen[bytes], line: socket.socket) -> int:
        """Return the exit code of a command, which is ended when its member has gone or the bench goes down."""
        while child.poll() is None:
            gone = bool(select.select([line], [], [], 0.1)[0])  # a member says nothing more
            if gone or self._closed.is_set():
                child.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_END_S)
                child.kill()
                break
        code = child.wait()
        return code if code >= 0 else 128 - code


@contextmanager
def _received(line: socket.socket) -> Iterator[tuple[bytes, list[int]]]:
    """Receive a request with its files, which are closed again."""
    content, files, _, _ = socket.recv_fds(line, _REQUEST_B, 3)
    try:
        yield content, list(files)
    finally:
        for fd in files:
            os.close(fd)


def serve(bench: str) -> MembersService | None:
    """Serve the members of the group, where this is root's bench and there is such a group."""
    try:
        group = grp.getgrnam(paths.GROUP).gr_gid
    except KeyError:
        return None
    return MembersService(bench, socket_of(bench), group=group) if os.geteuid() == 0 else None
