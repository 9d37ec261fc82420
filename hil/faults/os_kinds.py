"""Faults inside a board's OS, caused over SSH: its node service, its sshd, its memory, its console, its data partition.

Each is a few lines of shell: what bites, what is read back as proof, what heals.  They need a login as root, and the
reference OS (or one with the same node service and a data partition at ``/data``).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from hil.boards.capabilities import MemoryBounded, Reachable
from hil.boards.protocol import Board
from hil.core import netns
from hil.core.wait import wait_until
from hil.errors import DeviceError, HilError
from hil.faults.fault import Bite, Fault, Parameter, Proof
from hil.faults.power_kinds import BOOT_S

if TYPE_CHECKING:
    from hil.bench.bench import Bench

WORKS_ON = "any board over SSH that runs the reference OS"
SHELL_S = 30.0
BACK_S = 20.0
"""So long may a service take to answer again once it is healed."""
MARGIN_B = 96 << 20
"""What a board may still take when its memory is bounded, bytes."""

# Scripts share: a folder for their state, the processes whose command line matches, and the state of one.
# A pattern begins with a letter in brackets, so that no shell with the script in its command line matches itself.
PRELUDE = r"""
D=/run/hil-fault; mkdir -p $D
pids() { for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline 2>/dev/null | grep -q -- "$1" && echo ${p#/proc/}; done; }
stat() { sed 's/.*) //' /proc/$1/stat 2>/dev/null | cut -c1; }
"""
NODE = "[h]il.onboard.node"
SSHD = "[s]shd.*-D"


def on_board(board: Board, script: str, *, check: bool = True, timeout_s: float = SHELL_S) -> str:
    """Run a script as root on a board; its output, stripped. Raises what the session raises."""
    with board.shell() as shell:
        return shell.run(["sh", "-c", PRELUDE + script], timeout_s=timeout_s, check=check).stdout.strip()


Judge = Callable[[str, str], bool]
"""Says from what the bite printed and what the probe prints whether the effect is there."""


class Scripted:
    """A fault that shell scripts cause, prove and heal on one board."""

    works_on = WORKS_ON

    def __init__(
        self,
        description: str,
        *,
        bite: str,
        probe: str,
        reached: Judge,
        heal: str = "",
        parameters: Sequence[Parameter] = (),
        restart: bool = False,
    ) -> None:
        """The scripts take the parameters by their names in ``{}``.

        Without a ``probe`` what the bite prints is what is seen.  ``restart``: only a restart heals it, and ``heal``
        prints something as long as it is needed.
        """
        self.description = description
        self.parameters = (*parameters, BOOT_S) if restart else tuple(parameters)
        self._bite, self._probe, self._heal = bite, probe, heal
        self._reached = reached
        self._restart = restart

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return all boards."""
        return tuple(bench.boards)

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Run the script that bites."""
        board = bench.boards[target]
        printed = self.bite(board, values)

        def prove() -> Proof:
            seen = on_board(board, _filled(self._probe, values), check=False) if self._probe else printed
            return Proof.of(self._reached(printed, seen), f"{target} says {seen!r} (when it was hit: {printed!r})")

        return Bite(prove)

    def bite(self, board: Board, values: Mapping[str, float]) -> str:
        """Return what the script prints."""
        return on_board(board, _filled(self._bite, values))

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Run the script that heals; a board that only a restart heals is restarted if it still shows the fault."""
        board = bench.boards[target]
        if not self._restart:
            on_board(board, _filled(self._heal, values))
            return
        try:
            needed = bool(on_board(board, self._heal, check=False))
        except DeviceError:  # without its data partition nobody can log in
            needed = True
        if needed:
            board.supervisor.reset()
            board.wait_booted(deadline_s=values[BOOT_S.name])


def _filled(script: str, values: Mapping[str, float]) -> str:
    for name, value in values.items():
        script = script.replace("{" + name + "}", f"{value:.12g}")
    return script


class SshdGone:
    """A board takes no new logins: its sshd's listener is frozen."""

    description = "lets a board take no new logins: the listener of its sshd is frozen"
    works_on = WORKS_ON
    parameters = (
        Parameter("for_s", 10.0, 1.0, 3600.0, "when it goes on by itself, because nobody can log in, seconds", (2, 6)),
        BOOT_S,
    )

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return the boards of which it is known how to reach sshd."""
        return tuple(name for name, board in bench.boards.items() if isinstance(board, Reachable))

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Freeze it; a process left on the board lets it go on after ``for_s``."""
        board = bench.boards[target]
        self.bite(board, values)

        def prove() -> Proof:
            greeting = _greeting(board)
            return Proof.of(not greeting, f"sshd of {target} says {greeting or 'nothing'}")

        return Bite(prove)

    def bite(self, board: Board, values: Mapping[str, float]) -> None:
        """Freeze the listener."""
        thaw = f"sleep {values['for_s']:g}; kill -CONT $p"
        on_board(board, f"p=$(pids '{SSHD}' | head -n1); ({thaw}) >/dev/null 2>&1 & kill -STOP $p")

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Wait until sshd greets again; a board whose sshd does not is restarted."""
        board = bench.boards[target]
        if _greeting(board):
            return
        try:
            wait_until(
                lambda: _greeting(board),
                what=f"sshd of {target} to greet",
                deadline_s=values["for_s"] + 2.0,
                every_s=0.2,
                error=DeviceError,
            )
        except DeviceError:
            board.supervisor.reset()
            board.wait_booted(deadline_s=values[BOOT_S.name])


def _greeting(board: Board) -> str:
    """Return what sshd says first, within a second; empty when it says nothing."""
    assert isinstance(board, Reachable)
    target = board.target()
    address = target.address, target.port
    with suppress(OSError, HilError), netns.connect(target.namespace, address, timeout_s=1.0) as connection:
        connection.settimeout(1.0)
        return connection.recv(64).decode("ascii", "replace").strip()
    return ""


class MemoryFull(Scripted):
    """Processes take all memory of a board again and again, and the kernel ends them."""

    def bite(self, board: Board, values: Mapping[str, float]) -> str:
        """Bound the board's memory where that can be, so that the host keeps its own, and begin to take it."""
        if isinstance(board, MemoryBounded):
            board.bound_memory(MARGIN_B)
        return super().bite(board, values)

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """End the processes, and give the board its memory back."""
        board = bench.boards[target]
        if isinstance(board, MemoryBounded):
            board.bound_memory(None)
        super().heal(bench, target, values)


class ConsoleFlood:
    """A board writes to its console without end."""

    description = "floods the console of a board with text"
    works_on = "any board over SSH with a console"
    parameters = (Parameter("for_s", 10.0, 0.5, 600.0, "when it ends by itself, seconds", (1, 5)),)
    least_b = 2_000
    """What the console must grow by in half a second, bytes."""

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return all boards."""
        return tuple(bench.boards)

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Begin to write."""
        board = bench.boards[target]
        before = board.console.size()
        self.bite(board, values)

        def prove() -> Proof:
            wanted = before + self.least_b
            with suppress(HilError):
                wait_until(lambda: board.console.size() >= wanted, what="the flood", deadline_s=2.0, every_s=0.05)
            grown = board.console.size() - before
            return Proof.of(grown >= self.least_b, f"the console of {target} has grown by {grown} bytes")

        return Bite(prove)

    def bite(self, board: Board, values: Mapping[str, float]) -> None:
        """Write to the console until ``for_s`` have passed or the fault is healed."""
        text = "hil-fault: " + "flood " * 12
        script = f"""touch $D/flood; c=/dev/console; [ -e /dev/ttyTCU0 ] && c=/dev/ttyTCU0
        (end=$(( $(cut -d. -f1 /proc/uptime) + {max(1, round(values["for_s"]))} ))
         while [ -e $D/flood ] && [ $(cut -d. -f1 /proc/uptime) -lt $end ]; do
             i=0; while [ $i -lt 20 ]; do echo '{text}'; i=$((i + 1)); done; sleep 0.02
         done >$c) >/dev/null 2>&1 &"""
        on_board(board, script)

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """End the writing."""
        on_board(bench.boards[target], "rm -f $D/flood")


_HOG = "x=[]\nwhile True: x.append(b'1' * (1 << 20))"
_FILL = "import os,sys; f=os.open(sys.argv[1],os.O_CREAT|os.O_WRONLY); os.posix_fallocate(f,0,int(sys.argv[2]))"
_SHUT = "import fcntl,os; fcntl.ioctl(os.open('/data',os.O_RDONLY),0x8004587D,b'\\2\\0\\0\\0')"
"""EXT4_IOC_SHUTDOWN without a flush of the log (include/uapi/linux/ext4.h): every later access fails with EIO."""
_WRITE = 'f=/data/.hil-fault-probe; sh -c "echo x >$f && sync $f" 2>&1 && echo written; rm -f $f 2>/dev/null'


def _all(printed: str, seen: str) -> bool:
    """Return whether all processes that were hit are in the state that the probe counts: ``N of N``, N above 0."""
    count, _, whole = seen.partition(" of ")
    return count == whole and count not in ("", "0")


_COUNT = (
    f"n=0; m=0; for p in $(pids '{NODE}'); do n=$((n+1)); [ \"$(stat $p)\" = T ] && m=$((m+1)); done; echo $m of $n"
)

SERVICE_KILLED: Fault = Scripted(
    "kills the node service of a board; its OS starts it again",
    bite=f"for p in $(pids '{NODE}'); do kill -KILL $p && echo $p; done >$D/killed; cat $D/killed",
    probe="n=0; for p in $(cat $D/killed); do n=$((n+1)); grep -q onboard.node /proc/$p/cmdline 2>/dev/null && "
    "echo lives: $p; done; echo killed $n",
    reached=lambda printed, seen: bool(printed) and seen.startswith("killed ") and seen != "killed 0",
    heal=f"i=0; while [ -z \"$(pids '{NODE}')\" ] && [ $i -lt {BACK_S * 5:.0f} ]; do sleep 0.2; i=$((i+1)); done",
)
SERVICE_FROZEN: Fault = Scripted(
    "freezes the node service of a board (SIGSTOP)",
    bite=f"for p in $(pids '{NODE}'); do kill -STOP $p && echo $p; done",
    probe=_COUNT,
    reached=_all,
    heal=f"for p in $(pids '{NODE}'); do kill -CONT $p; done",
)
SERVICE_SLOW: Fault = Scripted(
    "slows the node service of a board down: it may run only a share of the time",
    bite=f"""touch $D/slow; (while [ -e $D/slow ]; do
        for p in $(pids '{NODE}'); do kill -STOP $p; done; sleep {{off_s}}
        for p in $(pids '{NODE}'); do kill -CONT $p; done; sleep {{on_s}}
    done) >/dev/null 2>&1 & echo $!""",
    probe=f"p=$(pids '{NODE}' | head -n1); n=0; for i in 1 2 3 4 5 6 7 8 9 10; do "
    '[ "$(stat $p)" = T ] && n=$((n+1)); sleep 0.07; done; echo stopped $n of 10',
    reached=lambda printed, seen: seen.startswith("stopped ") and seen != "stopped 0 of 10",
    heal=f"rm -f $D/slow; sleep 0.3; for p in $(pids '{NODE}'); do kill -CONT $p; done",
    parameters=(
        Parameter("off_s", 0.2, 0.02, 10.0, "how long it stands still each time, seconds", (0.05, 0.4)),
        Parameter("on_s", 0.1, 0.02, 10.0, "how long it may run each time, seconds", (0.05, 0.2)),
    ),
)
MEMORY_FULL: Fault = MemoryFull(
    "lets processes take all memory of a board; the kernel ends them, again and again",
    bite="touch $D/memory; rm -f $D/memory.log; (while [ -e $D/memory ]; do "
    f"sh -c 'echo 1000 >/proc/self/oom_score_adj; exec python3 -S -c \"$0\"' {shlex.quote(_HOG)}; "
    "echo $? >>$D/memory.log; sleep 0.3; done) >/dev/null 2>&1 & "
    "for i in $(seq 60); do [ -s $D/memory.log ] && break; sleep 0.1; done; cat $D/memory.log",
    probe="sort $D/memory.log | uniq -c | sed 's/^ *//'",
    # 137: SIGKILL by the kernel; 1: the allocation itself was refused (MemoryError)
    reached=lambda printed, seen: any(line.split()[-1:] == ["137"] for line in seen.splitlines()),
    heal="rm -f $D/memory; for p in $(pids '[x]=\\[\\]'); do kill -KILL $p; done; true",
)
DATA_FULL: Fault = Scripted(
    "fills the data partition of a board",
    bite=f"left=$(printf %.0f {{left_mb}}); free=$(df -Pk /data | tail -n1 | tr -s ' ' | cut -d' ' -f4); "
    f"python3 -S -c {shlex.quote(_FILL)} /data/.hil-fault-ballast $(( (free - left * 1024) * 1024 )); echo $left",
    probe="df -Pk /data | tail -n1 | tr -s ' ' | cut -d' ' -f4",
    reached=lambda printed, seen: seen.isdigit() and int(seen) <= (int(printed) + 1) * 1024,
    heal="rm -f /data/.hil-fault-ballast",
    parameters=(Parameter("left_mb", 1.0, 0.0, 1e6, "MiB that stay free", (0, 8)),),
)
DATA_READ_ONLY: Fault = Scripted(
    "makes the data partition of a board read-only, as ext4 does after an error; a restart heals it",
    bite="mount -o remount,abort /data; mount -o remount,ro /data; true",
    probe=_WRITE,
    reached=lambda printed, seen: "Read-only file system" in seen and "written" not in seen,
    heal=f"({_WRITE}) | grep -e Read-only -e error",
    restart=True,
)
DATA_IO_ERRORS: Fault = Scripted(
    "lets every access to the data partition of a board fail; a restart heals it",
    bite=f"python3 -S -c {shlex.quote(_SHUT)}; {_WRITE}; true",
    probe="",  # nobody can log in any more
    reached=lambda printed, seen: "Input/output error" in seen and "written" not in seen,
    heal=f"({_WRITE}) | grep -e Read-only -e error",
    restart=True,
)
SSHD_GONE: Fault = SshdGone()
CONSOLE_FLOOD: Fault = ConsoleFlood()
