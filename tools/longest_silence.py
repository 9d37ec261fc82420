"""Run a command on a terminal of its own and print the longest times without a sign of life.

    python tools/longest_silence.py .venv/bin/hil campaign run six_gpu --lab virtual

What it prints goes to ``--log FILE`` (default: nowhere).  The exit code is the command's.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from pathlib import Path

SHOWN = 5
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\x1b]")


def main() -> int:
    """Run the command line; return the exit code of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, default=Path(os.devnull))
    parser.add_argument("command", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(chosen.command[0], chosen.command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    begun = last = time.monotonic()
    silences: list[tuple[float, float, str]] = []
    tail = ""
    with chosen.log.open("wb") as log:
        while True:
            select.select([terminal], [], [])
            try:
                data = os.read(terminal, 1 << 16)
            except OSError:  # the command has ended
                break
            now = time.monotonic()
            silences.append((now - last, last - begun, tail))
            last = now
            log.write(data)
            lines = [line for line in ESCAPES.sub("", data.decode("utf-8", "replace")).split("\n") if line.strip()]
            tail = lines[-1].strip() if lines else tail
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(f"exit code {code} after {time.monotonic() - begun:.1f} s; longest silences:")
    for seconds, at_s, before in sorted(silences, reverse=True)[:SHOWN]:
        print(f"  {seconds:5.2f} s, from {at_s:6.1f} s on, after: {before[:100]!r}")
    return code


if __name__ == "__main__":
    sys.exit(main())
