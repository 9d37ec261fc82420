"""Processes of a made-up ``/proc``."""

from __future__ import annotations

from pathlib import Path


def proc_entry(
    proc: Path, pid: int, *, ticks: int, state: str = "S", name: str = "x", argv: str = "x", ppid: int = 1
) -> None:
    """Add process ``pid`` to ``proc``; ``ticks`` is its start time since boot."""
    (proc / str(pid)).mkdir(parents=True)
    fields = [state, str(ppid), *["0"] * 17, str(ticks), "0"]
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
    (proc / str(pid) / "cmdline").write_bytes(argv.replace(" ", "\0").encode() + b"\0" if argv else b"")
