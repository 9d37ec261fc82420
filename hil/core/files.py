"""Files that are replaced as a whole (a reader sees the old content or the new, never half of one), and digests."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from hil.errors import BenchError, ConfigurationError

MOST_TEXT = 100_000_000
"""Bytes of the largest text that is read: elements of a whole catalogue, a contact plan of a year."""


@contextmanager
def replacing(path: Path, *, mode: int = 0o644, durable: bool = True) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of ``path`` when the block ends; when it raises, ``path`` stays as it was.

    ``mode`` is subject to the umask; ``durable`` files are also whole after a power cut.  The directory must exist.
    Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):  # gone already when it has been renamed
            temporary.unlink()


def write_atomic(path: Path, content: str | bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace ``path`` by ``content`` (text as UTF-8) in one step; see :func:`replacing`."""
    with replacing(path, mode=mode, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def read_text(path: Path, *, remedy: str = "check the path", most_bytes: int = MOST_TEXT) -> str:
    """Return the text of a file that a person named. ConfigurationError says in plain words why it cannot be read."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            kind = stat.S_IFMT(os.fstat(file.fileno()).st_mode)
            content = file.read(most_bytes + 1) if kind == stat.S_IFREG else b""
        if kind != stat.S_IFREG:
            why = "is a device or a pipe; a file is wanted"
        elif len(content) > most_bytes:
            why, remedy = f"is larger than {most_bytes / 1e6:g} MB", f"is it the right file? {remedy}"
        else:
            return content.decode("utf-8")
    except IsADirectoryError:
        why = "is a folder; a file is wanted"
    except FileNotFoundError:
        why = "no such file"
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        why, remedy = f"line {line} is not UTF-8 text", f"is it the right file? Save it as UTF-8 if so; {remedy}"
    except OSError as exc:
        why = f"cannot be read: {exc.strerror or exc}"
    raise ConfigurationError(f"{path}: {why}", remedy=remedy)


def plain_bytes(path: Path, *, most_bytes: int = MOST_TEXT) -> bytes:
    """Return the content of a file that others may have put there.

    Raises OSError: also when it is a pipe, a device, or larger than that.
    """
    with open(path, "rb", opener=_at_once) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is no plain file", str(path))
        if found.st_size > most_bytes:
            raise OSError(errno.EFBIG, f"is larger than {most_bytes / 1e6:g} MB", str(path))
        return file.read(most_bytes)


def _at_once(path: str, flags: int) -> int:
    """Open a file; a FIFO without a writer does not hold this up."""
    return os.open(path, flags | os.O_NONBLOCK)


def sha256_of(path: Path) -> str:
    """Return the digest of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def on_this_machine(path: Path) -> Iterator[None]:
    """Blame this machine for what goes wrong with its file: BenchError for its disk, else ConfigurationError."""
    try:
        yield
    except OSError as exc:
        kind = BenchError if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else ConfigurationError
        remedy = "make room, or name another place" if kind is BenchError else "name another file"
        raise kind(f"{path} on this machine: {exc.strerror or exc}", remedy=remedy) from None
