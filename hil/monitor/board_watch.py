"""The state of one board: asked once, or again and again over connections that stay open."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from hil.boards.capabilities import Feature, SensesOverShell, lacks
from hil.boards.linux_board import KeptShell
from hil.boards.protocol import Board, BootState, PowerState, Shell
from hil.core import netns
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.monitor.background import BackgroundPoll, error_line
from hil.monitor.bench_health import BoardHealth, Node, Sensors, SlotHealth
from hil.onboard.node.answers import PORT, ContractError, Health
from hil.text import one_line

if TYPE_CHECKING:
    import socket

    from hil.images.flight_pki import Operator
    from hil.onboard.node.client import Peer


NODE_ANSWER_S = 1.0
SHELL_ANSWER_S = 5.0
_OS_VERSION = '. /etc/os-release; echo "$VERSION_ID"'

T = TypeVar("T")


class BoardQuestions:
    """The answers of one board so far, as its ``health``; a part that does not answer is one of its problems."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.health = BoardHealth(board.name, board.spacecraft, str(board.fidelity))
        self.stage = ""
        """The part of the board that is being asked."""

    def note(self, **changes: Any) -> None:
        """Change fields of ``health``."""
        self.health = replace(self.health, **changes)

    def ask(self, part: str, question: Callable[[], T], *, optional: bool = False) -> T | None:
        """Return the answer, or None; then the reason is a problem, unless the answer is ``optional``."""
        self.stage = part
        try:
            return question()
        except Exception as exc:  # a driver's bug must not hide the other boards
            reason = error_line(exc)
            if not (optional or any(problem.endswith(reason) for problem in self.health.problems)):
                self.note(problems=(*self.health.problems, f"{part}: {reason}"))
            return None

    def ask_power(self) -> PowerState | None:
        """Ask the supervisor for the power state."""
        power = self.ask("the supervisor", lambda: self.board.supervisor.state())
        if power is not None:
            self.note(power=str(power))
        return power

    def ask_slots(self) -> Mapping[str, SlotHealth]:
        """Ask the firmware for the slots; a board that is off need not answer."""
        optional = self.health.power == PowerState.OFF or Feature.SLOTS in lacks(self.board)
        boot = self.ask("the boot control", lambda: self.board.boot.state(), optional=optional)
        self.note(slots=slots_of(boot) if boot is not None else {})
        return self.health.slots


def read_sensors(board: Board, shell: KeptShell) -> Mapping[str, float]:
    """Read the sensors, over the kept session where the driver can; names with their unit, e.g. ``tj_c``."""
    return shell.use(board.sensors_over) if isinstance(board, SensesOverShell) else board.sensors()


@dataclass
class _Kept:
    """Answers that hold until they are due again, or until the board is switched or boots anew."""

    power: PowerState | None = None
    boot_id: str = ""
    slots: Mapping[str, SlotHealth] = field(default_factory=dict)
    sensors: Sensors | None = None
    due_s: float = -float("inf")


class BoardWatch:
    """``begin`` a poll of the board, ``wait`` for it.  Answers so far count even when the rest hangs."""

    def __init__(
        self,
        board: Board,
        *,
        sensors_every_s: float,
        stagger_s: float = 0.0,
        clock: Clock = SYSTEM_CLOCK,
        operator: Operator | None = None,
    ) -> None:
        """``sensors_every_s``: sensors and slots are kept for so long, because asking costs the board something.

        ``stagger_s``: the first ones are kept for so much longer, so that boards are not all asked at once for ever.
        """
        self._board = board
        self._operator = operator
        self._every_s = sensors_every_s
        self._stagger_s = stagger_s
        self._clock = clock
        self._poll: BackgroundPoll[BoardHealth] = BackgroundPoll(board.name, self._ask_all)
        self._questions = BoardQuestions(board)
        self._shell = KeptShell(board.shell)
        self._peer: Peer | None = None
        self._kept = _Kept()

    def begin(self) -> None:
        """Start a poll, unless the last one still runs."""
        self._poll.begin()

    def wait(self, timeout_s: float) -> BoardHealth:
        """Return the poll's result; after ``timeout_s`` the answers so far, and the part that has not answered yet."""
        result = self._poll.wait(timeout_s)
        if result is not None:
            return result
        questions = self._questions
        if questions.health.power == str(PowerState.OFF):
            return questions.health
        waits_for = f"no answer yet from {questions.stage}"
        return replace(questions.health, problems=(*questions.health.problems, waits_for))

    def close(self) -> None:
        """Close the connections; a poll that still runs meets that and ends."""
        self._shell.close()
        self._close_peer()

    def _ask_all(self) -> BoardHealth:
        questions = self._questions = BoardQuestions(self._board)
        power = questions.ask_power()
        off = power is PowerState.OFF
        if power is not self._kept.power:
            self._forget(power=power)
        if off:
            self._shell.drop()
            self._close_peer()
        else:
            self._ask_node(questions)
        due = self._clock.monotonic() >= self._kept.due_s
        if due:
            self._kept.slots = questions.ask_slots()
        questions.note(slots=self._kept.slots)
        if not off:
            self._ask_shell(questions, due)
        if due and (off or self._kept.sensors is not None):  # what failed is due again at the next poll
            self._kept.due_s = self._clock.monotonic() + self._every_s + self._stagger_s
            self._stagger_s = 0.0
        return questions.health

    def _ask_node(self, questions: BoardQuestions) -> None:
        questions.stage = "the node service"
        try:
            if self._peer is None:
                self._peer = _connect(self._board, self._operator)
            health = Health.from_json(self._peer.json("GET", "/health"))
            if health.board != self._board.name:
                raise ContractError(f"it answers as board {one_line(health.board)!r}")
        except OSError:  # not every OS has one; the shell tells whether the board answers at all
            return
        except Exception as exc:  # what it says is no health page, or another board's
            questions.note(problems=(*questions.health.problems, f"{questions.stage}: {error_line(exc)}"))
            return
        if health.boot_id != self._kept.boot_id:
            self._forget(power=self._kept.power, boot_id=health.boot_id)
        node = Node.of(health)
        questions.note(reachable=True, node=node, os_version=node.os_version)

    def _ask_shell(self, questions: BoardQuestions, due: bool) -> None:
        """Read sensors when they are due; without a node service ask whether the OS is there."""
        if due:
            optional = Feature.SENSORS in lacks(self._board)
            readings = questions.ask("the sensors", lambda: read_sensors(self._board, self._shell), optional=optional)
            self._kept.sensors = Sensors.of(readings, time.time()) if readings is not None else None
        sensors = self._kept.sensors
        if due and sensors is not None:
            questions.note(reachable=True)
        if questions.health.node is None:
            version = questions.ask("the OS", lambda: self._shell.use(_version), optional=due and sensors is None)
            if version is not None:
                questions.note(reachable=True, os_version=version or None)
        questions.note(sensors=sensors if questions.health.reachable else None)

    def _forget(self, *, power: PowerState | None, boot_id: str = "") -> None:
        """Drop answers of the time before the board was switched or booted anew."""
        self._shell.drop()
        self._kept = _Kept(power, boot_id)

    def _close_peer(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            peer.close()


def _connect(board: Board, operator: Operator | None) -> Peer:
    """Return the node service of a board, whose connection is kept."""
    from hil.onboard.node.client import Peer

    namespace, address = board.address()

    def dial(host: str, port: int, timeout_s: float) -> socket.socket:
        sock = netns.connect(namespace, (host, port), timeout_s=timeout_s)
        return sock if operator is None else operator.secure(sock, board.name)

    return Peer(f"{address}:{PORT}", timeout_s=NODE_ANSWER_S, whole_s=2 * NODE_ANSWER_S, connector=dial)


def node_health(board: Board, operator: Operator | None = None) -> Health:
    """Ask the node service of a board once. Raises what the connection or the answer gives: BenchError, DeviceError."""
    peer = _connect(board, operator)
    try:
        return Health.from_json(peer.json("GET", "/health"))
    finally:
        peer.close()


def _version(shell: Shell) -> str:
    said = shell.run(["sh", "-c", _OS_VERSION], timeout_s=SHELL_ANSWER_S).stdout
    return one_line(said)


def slots_of(boot: BootState) -> Mapping[str, SlotHealth]:
    """Return the slots of a boot state by name."""
    return {
        slot.slot: SlotHealth(
            running=slot.slot == boot.running,
            next=slot.slot == boot.active,
            bootable=slot.bootable,
            confirmed=slot.good,
            retries=slot.retries,
        )
        for slot in boot.slots
    }
