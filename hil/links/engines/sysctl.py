"""The one host setting the link box touches, for as long as it takes to open its sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hil.core.locks import is_locked, locked
from hil.errors import BenchError

SOCKET_BUFFER_B = 16 * 1024 * 1024
_DIRECTORY = Path("/proc/sys/net/core")
_NAMES = ("rmem_default", "wmem_default")
NOTE = Path("/run/hil-socket-buffers.json")
"""Not in the run directory: the settings are the host's, and benches with different run directories share them."""

_DEADLINE_S = 20.0
_OTHER = "another bench to open its sockets"


@contextmanager
def big_socket_buffers(
    size_b: int = SOCKET_BUFFER_B, *, directory: Path = _DIRECTORY, note: Path = NOTE
) -> Iterator[None]:
    """Give sockets opened inside ``size_b`` bytes of buffer each way; the host's values are back afterwards.

    User-Mode Linux opens its packet sockets with the host's defaults (208 KB), which overflow and cost 40 % of
    the throughput; the settings exist only host-wide.  Takes a lock, because two benches that start together
    would each save the other's raised value, and notes the host's values in a file, so that the next bench puts
    them back when this process is killed in between.
    """
    with locked(note.with_suffix(".lock"), deadline_s=_DEADLINE_S, what=_OTHER):
        saved = _restore_note(note, directory) or {name: int((directory / name).read_text()) for name in _NAMES}
        note.write_text(json.dumps(saved))
        try:
            _write(directory, {name: max(value, size_b) for name, value in saved.items()})
            yield
        finally:
            _write(directory, saved)
            note.unlink(missing_ok=True)


def left_raised(note: Path = NOTE) -> bool:
    """Return whether a killed run left the host's values raised: the note is there and nobody holds its lock."""
    return note.exists() and not is_locked(note.with_suffix(".lock")) and note.exists()


def restore_socket_buffers(*, directory: Path = _DIRECTORY, note: Path = NOTE) -> bool:
    """Put back what a killed run left raised; True when there was something to put back."""
    if not note.exists():
        return False
    with locked(note.with_suffix(".lock"), deadline_s=_DEADLINE_S, what=_OTHER):
        restored = _restore_note(note, directory) is not None
        note.unlink(missing_ok=True)
        return restored


def _restore_note(note: Path, directory: Path) -> dict[str, int] | None:
    try:
        left = json.loads(note.read_text())
        saved = {name: int(left[name]) for name in _NAMES}
    except (OSError, ValueError, KeyError):
        return None
    _write(directory, saved)
    return saved


def _write(directory: Path, values: dict[str, int]) -> None:
    try:
        for name, value in values.items():
            (directory / name).write_text(f"{value}\n")
    except OSError as exc:
        raise BenchError(
            f"cannot set {exc.filename}: {exc.strerror}",
            remedy="the User-Mode Linux link engine needs root in the host's own network namespace",
        ) from exc
