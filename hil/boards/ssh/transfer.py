"""Bulk files to and from a board, over connections that break: what has arrived is not sent again.

The part that is under way is ``<name>.part`` at the receiving end.  It is kept when a connection breaks, compared by
digest before it is continued, and gets its name when all of it is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from hil.boards.ssh.login import WrongHostKeyError
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import BenchError, ConfigurationError, DeviceError, HarnessError, HilError

if TYPE_CHECKING:
    from hil.boards.capabilities import ResumableFiles
    from hil.boards.protocol import Board, Shell

Opener = Callable[[], "ResumableFiles"]
Progress = Callable[[int, int], None]
"""(bytes there, bytes in all)."""

SUFFIX = ".part"
DEADLINE_S = 900.0
RETRY_S = 1.0
HASH_TIMEOUT_S = 300.0
REFUSED = "does that file or folder exist, may it be written, and is the disk full (`df -h`)? what has arrived is kept"


@dataclass(frozen=True)
class Transferred:
    """What it took."""

    size_bytes: int
    sent_bytes: int  # over all connections; less than the size when an earlier attempt had left a part
    connections: int


def push(
    opener: Opener,
    local: Path,
    remote: str,
    *,
    deadline_s: float = DEADLINE_S,
    progress: Progress | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Transferred:
    """Put ``local`` at ``remote`` (in it, when it is a folder), and prove by digest that it is there.

    Broken connections are opened again. DeviceError or BenchError at the deadline, with the last connection's own
    words, or at once when the board refuses (no such folder, no permission, no room); the part stays for the next try.
    """
    size = local.stat().st_size
    sent = 0

    def attempt(shell: ResumableFiles) -> None:
        nonlocal sent
        is_folder = shell.run(["test", "-d", remote], check=False).returncode == 0
        target = str(PurePosixPath(remote) / local.name) if is_folder else remote
        part = target + SUFFIX
        there = shell.file_size(part)
        if not 0 < there <= size or _remote_digest(shell, part) != file_digest(local, there):
            there = 0
        for there_now in shell.send_from(local, part, there):
            sent += there_now - there
            there = there_now
            if progress:
                progress(there, size)
        if (arrived := _remote_digest(shell, part)) != (sent_digest := file_digest(local)):
            shell.run(["rm", "-f", part])
            raise DeviceError(f"{part}: arrived as {arrived[:16]}… instead of {sent_digest[:16]}…, and was removed")
        shell.run(["mv", "-f", part, target])

    connections = _persist(opener, attempt, f"push {local.name}", deadline_s, clock)
    return Transferred(size, sent, connections)


def pull(
    opener: Opener,
    remote: str,
    local: Path,
    *,
    deadline_s: float = DEADLINE_S,
    progress: Progress | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Transferred:
    """Get ``remote`` as ``local``; as :func:`push` the other way round. ConfigurationError without a folder for it."""
    if local.is_dir():
        local /= PurePosixPath(remote).name
    if not local.parent.is_dir():
        raise ConfigurationError(f"folder {local.parent} does not exist", remedy="make it, or name another one")
    part = local.with_name(local.name + SUFFIX)
    size = got = 0

    def attempt(shell: ResumableFiles) -> None:
        nonlocal size, got
        size = shell.file_size(remote)
        if size < 0:
            raise DeviceError(f"there is no {remote} on the board")
        here = part.stat().st_size if part.exists() else 0
        if not 0 < here <= size or file_digest(part) != _remote_digest(shell, remote, here):
            here = 0
        for here_now in shell.receive_from(remote, part, here):
            got += here_now - here
            here = here_now
            if progress:
                progress(here, size)
        if file_digest(part) != _remote_digest(shell, remote):
            part.unlink()
            raise DeviceError(f"{remote}: what arrived is not what is there; it was thrown away")
        part.replace(local)

    connections = _persist(opener, attempt, f"pull {PurePosixPath(remote).name}", deadline_s, clock)
    return Transferred(size, got, connections)


def opener_of(board: Board) -> Opener:
    """Return what opens shells of a board; it raises HarnessError when they cannot continue a file."""
    from hil.boards.capabilities import ResumableFiles

    def opened() -> ResumableFiles:
        shell = board.shell()
        if not isinstance(shell, ResumableFiles):
            shell.close()
            raise HarnessError(f"board {board.name}: its driver cannot continue a file that was interrupted")
        return shell

    return opened


def _persist(
    opener: Opener, attempt: Callable[[ResumableFiles], None], what: str, deadline_s: float, clock: Clock
) -> int:
    """Try until an attempt succeeds; return how many connections it took."""
    end = clock.monotonic() + deadline_s
    tries = 0
    while True:
        tries += 1
        refused = False
        try:
            shell = opener()
            with shell:
                try:
                    attempt(shell)
                except (DeviceError, BenchError) as exc:
                    refused = _is_refusal(exc, shell)
                    raise
            return tries
        except WrongHostKeyError:
            raise
        except (DeviceError, BenchError) as exc:
            if refused:
                exc.remedy = exc.remedy or REFUSED
                raise
            if clock.monotonic() >= end:
                kind = type(exc) if type(exc) in (DeviceError, BenchError) else DeviceError
                raise kind(
                    f"{what} was not done within {deadline_s:g} s, in {tries} connections; last error: {exc.message}",
                    remedy="do it again: what has arrived is kept",
                ) from exc
            clock.sleep(RETRY_S)


def _is_refusal(exc: HilError, shell: ResumableFiles) -> bool:
    """Return whether the board has answered that it does not do it, so that another connection would not help."""
    answered = exc.__cause__ is None or type(exc.__cause__) in (OSError, FileNotFoundError, PermissionError)
    return answered and shell.alive()


def file_digest(path: Path, length: int | None = None) -> str:
    """Return the SHA-256 of a file here, or of its first ``length`` bytes."""
    digest, left = hashlib.sha256(), path.stat().st_size if length is None else length
    with path.open("rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _remote_digest(shell: Shell, path: str, length: int | None = None) -> str:
    argv = ["sha256sum", path]
    if length is not None:
        argv = ["sh", "-c", 'head -c "$2" "$1" | sha256sum', "sh", path, str(length)]
    return shell.run(argv, timeout_s=HASH_TIMEOUT_S).stdout.split(" ", 1)[0]
