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
from hil.core.files import on_this_machine, sha256_of
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import BenchError, ConfigurationError, DeviceError, HarnessError

if TYPE_CHECKING:
    from hil.boards.capabilities import ResumableFiles
    from hil.boards.protocol import Board, Shell

Opener = Callable[[], "ResumableFiles"]
Progress = Callable[[int, int], None]
"""(bytes there, bytes in all)."""

SUFFIX = ".part"
DEADLINE_S = 900.0
RETRY_S = 1.0
DIGEST_S = 300.0
MADE_WHEN_READ = 1 << 20
"""So much is taken of a file that says it has no bytes, as those in /proc do."""
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
    """Put ``local``, a file or a folder, at ``remote`` (in it, when it is a folder), and prove it by digest.

    Broken connections are opened again. DeviceError or BenchError at the deadline, with the last connection's own
    words, or at once when the board refuses (no permission, no room); the part stays for the next try.
    ConfigurationError when ``local`` cannot be read, or the folder for it does not exist.
    """
    with on_this_machine(local):
        folders, sizes = _tree(local)
    total, sent = _Total(sum(sizes.values()), progress), 0

    def attempt(shell: ResumableFiles) -> None:
        nonlocal sent
        target = _target(shell, local.name, remote)
        if folders:
            shell.run(["mkdir", "-p", *(str(target / folder) for folder in folders)])
        for name in list(sizes):
            with on_this_machine(local / name):
                sent += _push_file(shell, local / name, str(target / name), total)
            total.done += sizes.pop(name)

    connections = _persist(opener, attempt, f"push {local.name}", deadline_s, clock)
    return Transferred(total.size, sent, connections)


def pull(
    opener: Opener,
    remote: str,
    local: Path,
    *,
    deadline_s: float = DEADLINE_S,
    progress: Progress | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Transferred:
    """Get ``remote`` as ``local``; as :func:`push` the other way round.

    ConfigurationError when it is not there or there is no folder for it; BenchError when this machine's disk is full.
    """
    if local.is_dir():
        local /= PurePosixPath(remote).name
    if not local.parent.is_dir():
        raise ConfigurationError(f"folder {local.parent} does not exist", remedy="make it, or name another one")
    total, got = _Total(0, progress), 0
    sizes: dict[PurePosixPath, int] = {}
    arrived: set[PurePosixPath] = set()

    def attempt(shell: ResumableFiles) -> None:
        nonlocal got
        if not sizes:
            folders, names = _remote_tree(shell, remote)
            sizes.update((name, shell.file_size(str(PurePosixPath(remote) / name))) for name in names)
            total.size = sum(sizes.values())
            for folder in folders:
                with on_this_machine(local / folder):
                    (local / folder).mkdir(exist_ok=True)
        for name in [name for name in sizes if name not in arrived]:
            with on_this_machine(local / name):
                got += _pull_file(shell, str(PurePosixPath(remote) / name), local / name, sizes[name], total)
            arrived.add(name)
            total.done += sizes[name]

    connections = _persist(opener, attempt, f"pull {PurePosixPath(remote).name}", deadline_s, clock)
    return Transferred(total.size, got, connections)


@dataclass
class _Total:
    """How far all files together are."""

    size: int
    progress: Progress | None
    done: int = 0  # bytes of whole files

    def show(self, there: int) -> None:
        if self.progress:
            self.progress(self.done + there, self.size)


def _push_file(shell: ResumableFiles, local: Path, target: str, total: _Total) -> int:
    """Send one file and prove it by digest; return the bytes sent."""
    size, digest = local.stat().st_size, sha256_of(local)
    part, sent = target + SUFFIX, 0
    there = shell.file_size(part)
    if not 0 < there <= size or _remote_digest(shell, part) != _digest_here(local, there):
        there = 0
    for there_now in shell.send_from(local, part, there):
        sent += there_now - there
        there = there_now
        total.show(there)
    if (arrived := _remote_digest(shell, part)) != digest:
        shell.run(["rm", "-f", part])
        raise DeviceError(f"{part}: arrived as {arrived[:16]}… instead of {digest[:16]}…, and was removed")
    shell.run(["mv", "-f", part, target])
    return sent


def _pull_file(shell: ResumableFiles, remote: str, local: Path, size: int, total: _Total) -> int:
    """Get as much of one file as it had (``size``) and prove that by digest; return the bytes received."""
    part, got = local.with_name(local.name + SUFFIX), 0
    here = part.stat().st_size if part.exists() else 0
    if not 0 < here <= size or sha256_of(part) != _remote_digest(shell, remote, here):
        here = 0
    for here_now in shell.receive_from(remote, part, here, size or MADE_WHEN_READ):
        got += here_now - here
        here = here_now
        total.show(here)
    if sha256_of(part) != _remote_digest(shell, remote, max(size, here)):  # it may have grown meanwhile
        part.unlink()
        raise DeviceError(f"{remote}: what arrived is not what is there; it was thrown away")
    part.replace(local)
    return got


def _tree(local: Path) -> tuple[list[PurePosixPath], dict[PurePosixPath, int]]:
    """Return the folders of ``local`` from itself on, and its files with their sizes; of a file, itself alone."""
    if not local.is_dir():
        return [], {PurePosixPath(): local.stat().st_size}
    folders, sizes = [PurePosixPath()], {}
    for path in sorted(local.rglob("*")):
        name = PurePosixPath(path.relative_to(local))
        if path.is_dir() and not path.is_symlink():
            folders.append(name)
        elif path.is_file():
            sizes[name] = path.stat().st_size
        else:
            raise ConfigurationError(f"{path} is neither a file nor a folder", remedy="only these travel; take it out")
    return folders, sizes


def _remote_tree(shell: ResumableFiles, remote: str) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    """Return the same of a board's file or folder. ConfigurationError when there is none."""
    found = shell.run(["test", "-d", remote], check=False).returncode
    if found != 0:
        if shell.file_size(remote) < 0:
            raise ConfigurationError(f"there is no {remote} on the board", remedy="look with `hil board run`, ls")
        return [], [PurePosixPath()]
    lists = []
    for kind in "df":
        said = shell.run(["find", "-L", remote, "-type", kind, "-print0"], timeout_s=DIGEST_S).stdout
        lists.append([PurePosixPath(path) for path in sorted(said.split("\0")) if path])
    inside = PurePosixPath(remote)
    for path in [*lists[0], *lists[1]]:
        if not path.is_relative_to(inside) or ".." in path.relative_to(inside).parts:
            raise DeviceError(f"the board lists {str(path)[:200]!r} in {remote}")
    folders, names = ([path.relative_to(inside) for path in paths] for paths in lists)
    return folders, names


def _target(shell: ResumableFiles, name: str, remote: str) -> PurePosixPath:
    """Return where a file or folder of that name goes. ConfigurationError when there is no folder for it."""
    ask = '[ -d "$1" ] && exit 0; [ -d "$(dirname "$1")" ] && exit 3; exit 4'
    answer = shell.run(["sh", "-c", ask, "sh", remote], check=False).returncode
    target = PurePosixPath(remote)
    if answer == 0:
        return target / name
    if answer == 4 or remote.endswith("/"):
        folder = remote if remote.endswith("/") else target.parent
        raise ConfigurationError(f"folder {folder} does not exist on the board", remedy="make it, or name another one")
    return target


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
                    refused = exc.__cause__ is None and shell.alive()  # it was answered: asking again does not help
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


def _digest_here(path: Path, length: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while length and (block := file.read(min(length, 1 << 20))):
            digest.update(block)
            length -= len(block)
    return digest.hexdigest()


def _remote_digest(shell: Shell, path: str, length: int | None = None) -> str:
    first = "cat" if length is None else f"head -c {length}"
    argv = ["sh", "-c", f'{first} <"$1" | sha256sum', "sh", path]
    words = shell.run(argv, timeout_s=DIGEST_S).stdout.split()
    return next((word for word in words if len(word) == 64), "")
