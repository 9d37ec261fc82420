"""``nvpmodel`` of an AGX Orin, as far as a campaign asks: ``-q``, ``-q --verbose``, ``-m N``, ``-f FILE``.

As on the real one, a mode with other parts of the GPU switched off (TPC_PG_MASK) takes a reboot, for which it asks.
A mode's ``GPU MAX_FREQ`` is written to the GPU's ``max_freq``, where there is one: on a bench with a twin that caps
power and speed.  ``-f``, at boot, applies the mode that was chosen last.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hil.onboard.tools.sysfs_sensors import set_gpu_cap

CONF = Path("/etc/nvpmodel.conf")
STATE = Path("/data/nvpmodel.status")
PROMPT = (
    "NVPM WARN: Golden image context is already created\n"
    "NVPM WARN: Reboot required for changing to this power mode: {mode}\n"
    "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
)


def read_conf(conf: str) -> tuple[int, dict[int, str], dict[int, str]]:
    """Return the default mode, and by mode its name and the mask of switched-off parts of the GPU.

    From lines ``< PM_CONFIG DEFAULT=2 >``, ``< POWER_MODEL ID=0 NAME=MAXN >`` and ``TPC_POWER_GATING TPC_PG_MASK 240``.
    """
    default, mode = 0, -1
    names: dict[int, str] = {}
    gated: dict[int, str] = {}
    for row in conf.splitlines():
        words = dict(word.split("=", 1) for word in row.strip("<> ").split() if "=" in word)
        if "POWER_MODEL" in row and {"ID", "NAME"} <= words.keys():
            mode = int(words["ID"])
            names[mode] = words["NAME"]
        elif "PM_CONFIG" in row and "DEFAULT" in words:
            default = int(words["DEFAULT"])
        elif row.startswith("TPC_POWER_GATING"):
            gated[mode] = row.split()[-1]
    return default, names, gated


def gpu_caps(conf: str) -> dict[int, int]:
    """Return the highest clock of the GPU by mode, Hz: from lines ``GPU MAX_FREQ 624750000``."""
    caps: dict[int, int] = {}
    mode = -1
    for row in conf.splitlines():
        words = row.strip("<> ").split()
        if words[:1] == ["POWER_MODEL"]:
            mode = int(next((word[3:] for word in words if word.startswith("ID=")), "-1"))
        elif words[:2] == ["GPU", "MAX_FREQ"] and len(words) == 3 and words[2].isdecimal():
            caps[mode] = int(words[2])
    return caps


def run(
    argv: Sequence[str],
    conf: str,
    state: Path = STATE,
    reboot_now: Callable[[str], bool] = lambda asked: False,
    set_cap: Callable[[int], object] = set_gpu_cap,
) -> str:
    """What to print. ``reboot_now`` puts the tool's question. ValueError with the real tool's ``NVPM ERROR`` form."""
    mode, known, off = read_conf(conf)
    with contextlib.suppress(OSError, ValueError):
        mode = int(state.read_text())

    def cap(number: int) -> None:
        if hertz := gpu_caps(conf).get(number):
            set_cap(hertz)

    match list(argv):
        case ["-q"]:
            return f"NV Power Mode: {known[mode]}\n{mode}"
        case ["-q", "--verbose"] | ["--verbose", "-q"]:
            return f"NVPM VERB: Config file: {CONF}\nNVPM VERB: Current mode: NV Power Mode: {known[mode]}\n{mode}"
        case ["-m", number] if number.isdecimal() and int(number) in known:
            if off.get(int(number)) == off.get(mode) or reboot_now(PROMPT.format(mode=number)):
                state.write_text(number + "\n")
                cap(int(number))
            return ""
        case ["-f", _]:
            cap(mode)
            return ""
        case _:
            raise ValueError("NVPM ERROR: Error parsing options: -q [--verbose] | -m ID | -f FILE")


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
