"""Looking at one board again and again over connections that stay open."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from hil.boards.protocol import Board, BootState, PowerState, Shell
from hil.core import netns
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import BenchError, DeviceError, HilError
from hil.monitor.background import Looker, told
from hil.monitor.health import BoardHealth, Node, Sensors, SlotHealth
from hil.onboard.node.contract import PORT, ContractError, Health

if TYPE_CHECKING:
    import socket

NODE_ANSWER_S = 1.0
SHELL_ANSWER_S = 5.0
_OS_VERSION = '. /etc/os-release; echo "$VERSION_ID"'

T = TypeVar("T")


@runtime_checkable
class SensesOverShell(Protocol):
    """A board whose sensors can be read over a session that is open already."""

    def sensors_over(self, shell: Shell) -> dict[str, float]: ...


class BoardWatch:
    """``begin`` a look, ``wait`` for it.  What has been found so far counts even when the rest hangs."""

    def __init__(
        self,
        board: Board,
        *,
        sensors_every_s: float,
        stagger_s: float = 0.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """``sensors_every_s``: readings and slots are kept for so long, because asking costs the board something.

        ``stagger_s``: the first ones are kept for so much longer, so that boards do not go on being asked all at once.
        """
        self._board = board
        self._every_s = sensors_every_s
        self._stagger_s = stagger_s
        self._clock = clock
        self._looker: Looker[BoardHealth] = Looker(board.name, self._look)
        self._blank = BoardHealth(board.name, board.spacecraft, str(board.fidelity))
        self._seen = self._blank
        self._stage = ""
        self._shell: Shell | None = None
        self._peer: _NodePeer | None = None
        self._power: PowerState | None = None
        self._boot_id = ""
        self._slots: Mapping[str, SlotHealth] = {}
        self._sensors: Sensors | None = None
        self._due_s = -float("inf")
        self._closed = False

    def begin(self) -> None:
        """Start a look, unless the last one still goes on."""
        self._looker.begin()

    def wait(self, timeout_s: float) -> BoardHealth:
        """What the look found; after ``timeout_s`` what it has found by then, and what it waits for."""
        found = self._looker.wait(timeout_s)
        if found is not None:
            return found
        seen, stage = self._seen, self._stage
        if seen.power == str(PowerState.OFF):
            return seen
        return replace(seen, problems=(*seen.problems, f"no answer yet from {stage}"))

    def close(self) -> None:
        """Close the connections; a look that still goes on meets that and ends."""
        self._closed = True
        self._hang_up()

    def _look(self) -> BoardHealth:
        self._seen = self._blank
        board = self._board
        power = self._ask("the supervisor", lambda: board.supervisor.state())
        if power is not None:
            self._seen = replace(self._seen, power=str(power))
        off = power is PowerState.OFF
        if power is not self._power:
            self._power = power
            self._forget()
        if off:
            self._hang_up()
        else:
            self._ask_node()
        due = self._clock.monotonic() >= self._due_s
        if due:
            boot = self._ask("the boot control", board.boot.state, optional=off)
            self._slots = _slots(boot) if boot is not None else {}
        self._seen = replace(self._seen, slots=self._slots)
        if not off:
            self._ask_shell(due)
        if due and (off or self._sensors is not None):  # what failed is due again at the next look
            self._due_s = self._clock.monotonic() + self._every_s + self._stagger_s
            self._stagger_s = 0.0
        return self._seen

    def _ask(self, whom: str, question: Callable[[], T], *, optional: bool = False) -> T | None:
        """The answer, or None and the reason among the problems: a board that does not answer is a fact."""
        self._stage = whom
        try:
            return question()
        except Exception as exc:  # a driver's bug must not blind us for the other boards
            if not optional:
                self._seen = replace(self._seen, problems=(*self._seen.problems, f"{whom}: {told(exc)}"))
            return None

    def _ask_node(self) -> None:
        self._stage = "the node service"
        if self._peer is None:
            self._peer = _NodePeer(self._board)
        try:
            boot_id, node = self._peer.health()
        except Exception:  # not every OS has one; whether the board answers at all, the shell tells
            return
        if boot_id != self._boot_id:
            self._boot_id = boot_id
            self._forget()
        self._seen = replace(self._seen, reachable=True, node=node, os_version=node.os_version)

    def _ask_shell(self, due: bool) -> None:
        """Sensors when they are due; and whether the OS is there when its node service does not say so."""
        if due:
            self._sensors = None
            readings = self._ask("the sensors", self._read_sensors)
            if readings is not None:
                self._sensors = Sensors.of(readings, time.time())
                self._seen = replace(self._seen, reachable=True)
        if self._seen.node is None:
            version = self._ask(
                "the OS", lambda: self._over_shell(_version), optional=due and self._sensors is None
            )
            if version is not None:
                self._seen = replace(self._seen, reachable=True, os_version=version or None)
        self._seen = replace(self._seen, sensors=self._sensors if self._seen.reachable else None)

    def _read_sensors(self) -> dict[str, float]:
        board = self._board
        if not isinstance(board, SensesOverShell):
            return board.sensors()
        return self._over_shell(board.sensors_over)

    def _over_shell(self, use: Callable[[Shell], T]) -> T:
        """Use the kept session; one that broke since it was last used is replaced once."""
        kept = self._shell
        if kept is not None:
            try:
                return use(kept)
            except HilError:
                self._drop_shell()
        self._shell = fresh = self._board.shell()
        if self._closed:  # while the session was being opened
            self._drop_shell()
        try:
            return use(fresh)
        except HilError:
            self._drop_shell()
            raise

    def _hang_up(self) -> None:
        self._drop_shell()
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def _forget(self) -> None:
        """The board was switched or started again: what is kept is of another life."""
        self._drop_shell()
        self._sensors, self._slots = None, {}
        self._due_s = -float("inf")

    def _drop_shell(self) -> None:
        shell, self._shell = self._shell, None
        if shell is not None:
            shell.close()


class _NodePeer:
    """``GET /health`` on a kept connection."""

    def __init__(self, board: Board) -> None:
        from hil.onboard.node.client import Peer

        namespace, address = board.address()

        def dial(host: str, port: int, timeout_s: float) -> socket.socket:
            return netns.connect(namespace, (host, port), timeout_s=timeout_s)

        self._peer = Peer(f"{address}:{PORT}", timeout_s=NODE_ANSWER_S, connector=dial)

    def health(self) -> tuple[str, Node]:
        """(boot id, what it says).  BenchError when it does not answer, DeviceError when the answer makes no sense."""
        try:
            answer = self._peer.json("GET", "/health")
        except OSError as exc:
            raise BenchError(f"no answer from the node service at {self._peer.address}: {exc}") from exc
        try:
            health = Health.from_json(answer)
        except ContractError as exc:
            raise DeviceError(f"no health page of a node service at {self._peer.address}: {exc}") from exc
        return health.boot_id, Node.of(health)

    def close(self) -> None:
        self._peer.close()


def _version(shell: Shell) -> str:
    return shell.run(["sh", "-c", _OS_VERSION], timeout_s=SHELL_ANSWER_S).stdout.strip()


def _slots(boot: BootState) -> Mapping[str, SlotHealth]:
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
