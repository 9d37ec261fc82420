"""Faults of clocks: the time of day jumps, to and fro, back to 1970 or forth to 2038.

Container boards share this host's clock, which must not be moved.  So what is moved is the time of day as a board's
processes see it: a small library stands in front of libc (``clock.c``) in every process that begins after the fault,
and the services are started again with it.  Monotonic clocks go on, as they do when a real board's clock is set.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hil.boards.protocol import Board, Fidelity
from hil.faults.fault import Bite, Fault, Parameter, Proof
from hil.faults.os_kinds import BACK_S, NODE, on_board
from hil.links.engines.relay import compiled

if TYPE_CHECKING:
    from hil.bench.bench import Bench

ON_BOARD, FILE, PRELOAD = "/run/hil-fault/clock.so", "/run/hil-fault/clock", "/etc/ld.so.preload"
DAY_S = 86_400
END_2038_S = 2**31
"""The first second that 32 bits with a sign cannot count."""
NEAR_S = 5.0
"""The board's answer may be so old, and the host's own clock slewed by so much."""
SERVICES = (NODE, "[r]auc service")

_SET = "import struct, sys; open(sys.argv[1], 'r+b').write(struct.pack('<q', int(float(sys.argv[2]))))"
_STROBE = (
    "import struct, sys, time\n"
    "file, off, half = open(sys.argv[1], 'r+b', buffering=0), int(float(sys.argv[2])), float(sys.argv[3])\n"
    "while True:\n"
    "    for each in (off, 0):\n"
    "        file.seek(0); file.write(struct.pack('<q', each)); time.sleep(half)\n"
)
_PIDS = f'for s in {" ".join(repr(each) for each in SERVICES)}; do pids "$s"; done'
_NOW = "import sys, time\nfor _ in range(12): print(time.time(), flush=True); time.sleep(float(sys.argv[1]))\n"


class ClockMoved:
    """The time of day of a board's processes is off by some seconds, or jumps to and fro by as many."""

    works_on = "container boards; the time of day as their processes see it (a real board: `date -s` over SSH)"

    def __init__(
        self,
        description: str,
        off_s: Callable[[Mapping[str, float], float], float],
        *,
        parameters: Sequence[Parameter] = (),
        strobes: bool = False,
    ) -> None:
        """``off_s`` returns the seconds from the values and this host's time of day."""
        self.description = description
        self.parameters = tuple(parameters)
        self._off_s = off_s
        self._strobes = strobes

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return the container boards."""
        return tuple(name for name, board in bench.boards.items() if board.fidelity is Fidelity.VIRTUAL)

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Move it, and start node service and updater again, so that they see it too."""
        board = bench.boards[target]
        off_s = float(int(self._off_s(values, time.time())))
        half_s = values.get("period_s", 0.0) / 2
        with board.shell() as shell:
            shell.run(["mkdir", "-p", str(Path(FILE).parent)])
            shell.write(FILE, struct.pack("<q", 0))
            shell.push(library(), ON_BOARD)
        self.bite(board, off_s, half_s)
        return Bite(lambda: self._proof(board, off_s, half_s))

    def bite(self, board: Board, off_s: float, half_s: float) -> None:
        """Move the clock of what begins from now on, and begin the services again."""
        script = f"echo {ON_BOARD} >{PRELOAD}\n"
        if self._strobes:
            script += f'(exec python3 -S -c "{_STROBE}" {FILE} {off_s:.0f} {half_s:g}) >/dev/null 2>&1 &\n'
        else:
            script += f'python3 -S -c "{_SET}" {FILE} {off_s:.0f}\n'
        on_board(board, script + _again())

    def _proof(self, board: Board, off_s: float, half_s: float) -> Proof:
        """Read the time of day on the board, and which of its services see the moved one."""
        said = on_board(
            board,
            f'python3 -S -c "{_NOW}" {half_s / 4 or 0.001:g}; m=0; n=0; for p in $({_PIDS}); do n=$((n+1)); '
            f"grep -q {ON_BOARD} /proc/$p/maps && m=$((m+1)); done; echo $m of $n",
        )
        *times, services = said.splitlines()
        apart = [float(each) - time.time() for each in times]
        moved = sum(abs(each - off_s) < NEAR_S for each in apart)
        right = sum(abs(each) < NEAR_S for each in apart)
        count, _, whole = services.partition(" of ")
        seen = f"the time of day of {board.name} is {apart[-1]:+,.0f} s from this host's"
        if self._strobes:
            seen = f"of {len(apart)} looks at the time of day of {board.name}, {moved} were off by {off_s:+,.0f} s"
        reached = moved and (right if self._strobes else moved == len(apart)) and abs(off_s) > NEAR_S
        proven = bool(reached) and count == whole == str(len(SERVICES))
        return Proof.of(proven, f"{seen}; {services} services see that")

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Take the library away and start the services again; nothing on a board without it."""
        board = bench.boards[target]
        undo = f"for p in $(pids '[f]ile, off, half'); do kill -KILL $p; done; rm -f {PRELOAD} {FILE} {ON_BOARD}\n"
        on_board(board, f"[ -e {PRELOAD} ] || exit 0\n{undo}{_again()}")


def library() -> Path:
    """Return the library that moves a clock, compiled when needed. BenchError without a C compiler."""
    return compiled("hil-clock.so", [Path(__file__).with_name("clock.c")], ("-shared", "-fPIC", "-s"))


def _again() -> str:
    """Return the script that ends node service and updater, and waits until init has started them again."""
    return (
        f"kill -KILL $({_PIDS}) 2>/dev/null; sleep 0.3\n"
        f'for i in $(seq {BACK_S * 10:.0f}); do [ "$({_PIDS} | wc -l)" = {len(SERVICES)} ] && break; '
        "sleep 0.1; done; true"
    )


CLOCK_PLACE = "HIL_FAULT_CLOCK"
"""Environment: the file by which the clock of this host's process is off."""


class BenchClockJump:
    """The time of day of this process jumps, as when somebody sets this host's clock in mid-trial."""

    description = "lets the time of day of the process that judges jump (it must have been started for that)"
    works_on = "a process that has `hil.faults.clock_kinds.library()` in front of libc"
    parameters = (Parameter("by_s", 3600.0, -1e9, 1e9, "seconds that it jumps by", (-7200, 7200)),)

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return ``clock`` where the clock of this process can be moved."""
        return ("clock",) if can_move_own_clock() else ()

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Move it."""
        before = time.time() - time.monotonic()
        self.bite(values["by_s"])

        def prove() -> Proof:
            moved_s = time.time() - time.monotonic() - before
            return Proof.of(abs(moved_s - values["by_s"]) < 1.0, f"the time of day of this process is {moved_s:+.0f} s")

        return Bite(prove)

    def bite(self, by_s: float) -> None:
        """Move it."""
        move_own_clock(by_s)

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Move it back."""
        move_own_clock(0.0)


def can_move_own_clock() -> bool:
    """Return whether this process was started so that its clock can be moved."""
    return CLOCK_PLACE in os.environ and "hil-clock.so" in Path("/proc/self/maps").read_text()


def move_own_clock(by_s: float) -> None:
    """Set the seconds by which the time of day of this process is off."""
    with Path(os.environ[CLOCK_PLACE]).open("r+b") as file:
        file.write(struct.pack("<q", int(by_s)))


BUMP = Parameter("by_s", -3600.0, -1e9, 1e9, "seconds that it jumps by", (-DAY_S, DAY_S))
CLOCK_BUMP: Fault = ClockMoved(
    "lets a board's time of day jump", lambda values, now: values["by_s"], parameters=(BUMP,)
)
CLOCK_STROBE: Fault = ClockMoved(
    "lets a board's time of day jump forth and back, again and again",
    lambda values, now: values["by_s"],
    parameters=(BUMP, Parameter("period_s", 0.4, 0.02, 60.0, "of one jump forth and back, seconds", (0.1, 1.0))),
    strobes=True,
)
CLOCK_1970: Fault = ClockMoved(
    "sets a board's time of day to the second day of 1970, as after a loss of its battery",
    lambda values, now: DAY_S - now,
)
CLOCK_2038: Fault = ClockMoved(
    "sets a board's time of day to just before the end of 32-bit time in January 2038, which it then passes",
    lambda values, now: END_2038_S - values["lead_s"] - now,
    parameters=(Parameter("lead_s", 2.0, 0.0, 3600.0, "so long before, seconds", (0, 5)),),
)
BENCH_CLOCK_JUMP: Fault = BenchClockJump()
