"""``nvpmodel`` of an AGX Orin, as far as a campaign asks: ``-q``, ``-q --verbose``, ``-m N``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

CONF = Path("/etc/nvpmodel.conf")
STATE = Path("/data/nvpmodel.status")


def modes(conf: str) -> dict[int, str]:
    """Power modes by id, from lines ``< POWER_MODEL ID=0 NAME=MAXN >``."""
    found: dict[int, str] = {}
    for row in conf.splitlines():
        words = dict(word.split("=", 1) for word in row.strip("<> ").split() if "=" in word)
        if "POWER_MODEL" in row and {"ID", "NAME"} <= words.keys():
            found[int(words["ID"])] = words["NAME"]
    return found


def default_mode(conf: str) -> int:
    """The id after ``PM_CONFIG DEFAULT=``."""
    for row in conf.splitlines():
        if "PM_CONFIG" in row and "DEFAULT=" in row:
            return int(row.split("DEFAULT=", 1)[1].split()[0])
    return 0


def run(argv: Sequence[str], conf: str, state: Path = STATE) -> str:
    """What to print. ValueError with the real tool's ``NVPM ERROR`` form."""
    known = modes(conf)
    try:
        mode = int(state.read_text())
    except (OSError, ValueError):
        mode = default_mode(conf)
    match list(argv):
        case ["-q"]:
            return f"NV Power Mode: {known[mode]}\n{mode}"
        case ["-q", "--verbose"] | ["--verbose", "-q"]:
            return f"NVPM VERB: Config file: {CONF}\nNVPM VERB: Current mode: NV Power Mode: {known[mode]}\n{mode}"
        case ["-m", number] if number.isdecimal() and int(number) in known:
            state.write_text(number + "\n")
            return ""
        case _:
            raise ValueError("NVPM ERROR: Error parsing options: -q [--verbose] | -m ID")


def main() -> int:
    try:
        answer = run(sys.argv[1:], CONF.read_text())
    except (ValueError, OSError) as exc:
        print(exc, file=sys.stderr)
        return 1
    if answer:
        print(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
