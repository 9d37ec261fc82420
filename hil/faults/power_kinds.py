"""The loss of power: of one board for a while or for a moment, of a board that boots, or of a whole spacecraft."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from hil.boards.capabilities import Feature, lacks
from hil.boards.protocol import Board, PowerState
from hil.core.wait import poll_until
from hil.errors import DeviceError
from hil.faults.fault import Bite, Fault, Outcome, Parameter, Proof
from hil.faults.link_kinds import SPACECRAFT_DARK

if TYPE_CHECKING:
    from hil.bench.bench import Bench

BOOT_S = Parameter("boot_s", 60.0, 1.0, 1800.0, "how long a board may take to boot when its power is back, seconds")
OFF_S = Parameter("off_s", 0.2, 0.0, 60.0, "how long it has no power, seconds")
WORKS_ON = "boards with a supervisor that switches their power"
START_S = 5.0
"""The firmware shows its first line so long after the power is back."""
COLD = r"Boot-mode : Coldboot"
KERNEL = r"Booting Linux on physical CPU"
READY = r"init: .*, slot [AB]"


def switchable(bench: Bench) -> tuple[str, ...]:
    """Return the boards whose power can be switched."""
    return tuple(name for name, board in bench.boards.items() if Feature.POWER not in lacks(board))


def power_back(board: Board, boot_s: float) -> None:
    """Switch a board on if it is off, and wait until it has booted. DeviceError when it does not."""
    if board.supervisor.state() is not PowerState.ON:
        board.supervisor.on()
        board.wait_booted(deadline_s=boot_s)


class PowerCut:
    """A board loses power at once (what was not on disk is lost); healed, it is switched on and has booted."""

    description = "cuts the power of a board; what it had not written to disk is lost"
    works_on = WORKS_ON
    parameters: Sequence[Parameter] = (BOOT_S,)

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return the boards whose power can be switched."""
        return switchable(bench)

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Cut the power."""
        board = bench.boards[target]
        board.supervisor.cut()
        return Bite(lambda: _is_off(board))

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Switch it on, and wait until it has booted."""
        power_back(bench.boards[target], values[BOOT_S.name])


def _is_off(board: Board) -> Proof:
    state = board.supervisor.state()
    return Proof.of(state is PowerState.OFF, f"its supervisor says {state}")


class PowerGlitch(PowerCut):
    """A board loses power for a moment and boots again: a brown-out that the supervisor does not ride through."""

    description = "cuts the power of a board for a moment; it boots again by itself"
    parameters: Sequence[Parameter] = (BOOT_S, replace(OFF_S, drawn=(0.0, 2.0)))

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Cut the power and switch it on again."""
        board = bench.boards[target]
        before = board.console.size()
        self.cut(board, values)
        board.supervisor.on()
        return Bite(lambda: _boots_again(board, before))

    def cut(self, board: Board, values: Mapping[str, float]) -> None:
        """Cut the power at once, for ``off_s``."""
        board.supervisor.cut()
        time.sleep(values["off_s"])

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Switch it on if it is off, and wait until it has booted."""
        board = bench.boards[target]
        power_back(board, values[BOOT_S.name])
        board.wait_booted(deadline_s=values[BOOT_S.name])


def _boots_again(board: Board, since: int) -> Proof:
    """Confirm that the console shows a cold start of the firmware after ``since`` bytes."""
    try:
        seen = board.console.wait_for(COLD, deadline_s=START_S, since=since)
    except DeviceError as exc:
        return Proof(Outcome.MISMATCH, f"no start of the firmware on the console: {str(exc).splitlines()[0]}")
    return Proof(Outcome.CONFIRMED, f"the console shows a new start: {seen!r}")


class BootCut(PowerGlitch):
    """Power goes while the OS boots: the kernel runs, and its services are not up yet."""

    description = "cuts the power of a board while its OS boots, the next time that it does"
    parameters = (
        BOOT_S,
        OFF_S,
        Parameter("within_s", 30.0, 0.0, 3600.0, "longest time until the board boots; then it is made to, seconds"),
    )

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Wait until the board boots (after ``within_s`` restart it), and cut its power then."""
        board = bench.boards[target]
        since = board.console.size()
        tries = {slot.slot: slot.retries for slot in board.boot.state().slots}
        for waited_s in poll_until(values["within_s"], every_s=0.02):
            if _shows(board, KERNEL, since) or waited_s >= values["within_s"]:
                break
        if not _shows(board, KERNEL, since):
            board.supervisor.reset()
            board.console.wait_for(KERNEL, deadline_s=values[BOOT_S.name], since=since)
        self.cut(board, {OFF_S.name: 0.0})
        size, state = board.console.size(), board.supervisor.state()
        taken = [s for s in board.boot.state().slots if s.retries < tries[s.slot]]
        ready = _shows(board, READY, since, until=size)
        time.sleep(values["off_s"])
        board.supervisor.on()
        slots = ", ".join(f"{s.slot} has {s.retries} tries left" for s in taken) or "no try of a slot was taken"
        seen = f"the kernel ran, services {'ran' if ready else 'did not'}; then the power was {state}; {slots}"
        proof = Proof.of(bool(taken) and not ready and state is PowerState.OFF, seen)
        return Bite(lambda: proof)


def _shows(board: Board, pattern: str, since: int, until: int | None = None) -> bool:
    """Return whether the console has shown the regex between two offsets of its log."""
    with board.console.log.open("rb") as log:
        log.seek(since)
        text = log.read() if until is None else log.read(max(0, until - since))
    return re.search(pattern, text.decode("utf-8", "replace")) is not None


class SpacecraftLost:
    """As ``spacecraft-dark``, and the boards lose power; healed, all of them are on and have booted."""

    description = "loses all links of a spacecraft, and the power of its boards"
    works_on = f"every link engine; {WORKS_ON}"
    parameters: Sequence[Parameter] = (BOOT_S,)

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return the spacecraft with boards that can be switched."""
        can = switchable(bench)
        names = {board.spacecraft for name, board in bench.boards.items() if name in can}
        return tuple(name for name in SPACECRAFT_DARK.targets(bench) if name in names)

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Cut the links and the power of the boards that are on."""
        dark = SPACECRAFT_DARK.inject(bench, target, values)
        boards = [b for b in self._boards(bench, target) if b.supervisor.state() is PowerState.ON]
        _at_once(boards, lambda board: board.supervisor.cut())

        def prove() -> Proof:
            links = dark.prove()
            on = [b.name for b in boards if b.supervisor.state() is PowerState.ON]
            if links.outcome is not Outcome.CONFIRMED:
                return links
            off = ", ".join(b.name for b in boards)
            return Proof.of(bool(boards) and not on, f"{links.seen}; off: {off}" + (f"; still on: {on}" if on else ""))

        return Bite(prove)

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Switch the boards on, bring the links back, and wait until the boards have booted."""
        SPACECRAFT_DARK.heal(bench, target, values)
        boot_s = values[BOOT_S.name]
        _at_once(self._boards(bench, target), lambda board: power_back(board, boot_s))

    def _boards(self, bench: Bench, spacecraft: str) -> list[Board]:
        can = switchable(bench)
        return [board for name, board in bench.boards.items() if board.spacecraft == spacecraft and name in can]


def _at_once(boards: Sequence[Board], work: Callable[[Board], object]) -> None:
    with ThreadPoolExecutor(max(1, len(boards))) as pool:
        list(pool.map(work, boards))


POWER_CUT: Fault = PowerCut()
POWER_GLITCH: Fault = PowerGlitch()
BOOT_CUT: Fault = BootCut()
SPACECRAFT_LOST: Fault = SpacecraftLost()
