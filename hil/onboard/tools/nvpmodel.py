"""``nvpmodel`` of an AGX Orin, as far as a campaign asks: ``-q``, ``-q --verbose``, ``-m N``.

As on the real one, a mode with other parts of the GPU switched off (TPC_PG_MASK) takes a reboot, for which it asks.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

CONF = Path("/etc/nvpmodel.conf")
STATE = Path("/data/nvpmodel.status")
PROMPT = (
    "NVPM WARN: Golden image context is already created\n"
    "NVPM WARN: Reboot required for changing to this power mode: {mode}\n"
    "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
)


def modes(conf: str) -> dict[int, str]:
    """Power modes by id, from lines ``< POWER_MODEL ID=0 NAME=MAXN >``."""
    found: dict[int, str] = {}
    for row in conf.splitlines():
        words = dict(word.split("=", 1) for word in row.strip("<> ").split() if "=" in word)
        if "POWER_MODEL" in row and {"ID", "NAME"} <= words.keys():
            found[int(words["ID"])] = words["NAME"]
    return found


def default_mode(conf: str) -> int:
    """Return the id after ``PM_CONFIG DEFAULT=``."""
    for row in conf.splitlines():
        if "PM_CONFIG" in row and "DEFAULT=" in row:
            return int(row.split("DEFAULT=", 1)[1].split()[0])
    return 0


def gated(conf: str) -> dict[int, str]:
    """Return the mask of switched-off parts of the GPU by mode, from lines ``TPC_POWER_GATING TPC_PG_MASK 240``."""
    found: dict[int, str] = {}
    mode = -1
    for row in conf.splitlines():
        if "POWER_MODEL" in row:
            mode = int(row.split("ID=", 1)[1].split()[0])
        elif row.startswith("TPC_POWER_GATING"):
            found[mode] = row.split()[-1]
    return found


def run(
    argv: Sequence[str],
    conf: str,
    state: Path = STATE,
    reboot_now: Callable[[str], bool] = lambda asked: False,
) -> str:
    """What to print. ``reboot_now`` puts the tool's question. ValueError with the real tool's ``NVPM ERROR`` form."""
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
            off = gated(conf)
            if off.get(int(number)) == off.get(mode) or reboot_now(PROMPT.format(mode=number)):
                state.write_text(number + "\n")
            return ""
        case _:
            raise ValueError("NVPM ERROR: Error parsing options: -q [--verbose] | -m ID")


def main() -> int:
    agreed = False

    def ask(question: str) -> bool:
        nonlocal agreed
        print(question, flush=True)
        agreed = sys.stdin.readline().strip() in ("YES", "yes")
        return agreed

    try:
        answer = run(sys.argv[1:], CONF.read_text(), reboot_now=ask)
    except (ValueError, OSError) as exc:
        print(exc, file=sys.stderr)
        return 1
    if answer:
        print(answer)
    if agreed:
        subprocess.run(["sync"], check=True)
        subprocess.run(["reboot"], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
