"""A kind of board: everything the testbed must know to use one more board driver.

The object is an entry point of the group ``hil.boards``; the entry point's name is the ``driver`` of the lab file.  The
built-in kinds are such entry points too (pyproject.toml); `examples/orbital_hil_examples` has one from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from hil.boards.capabilities import Feature
from hil.boards.console.log_console import ConsoleLine
from hil.boards.console.pump import ConsolePump
from hil.boards.protocol import Board, Shell, Via
from hil.core import kinds
from hil.core.check import Check
from hil.evidence.sink import NullSink, Sink
from hil.lab.model import BoardSpec
from hil.lab.tenant import QuotaSpec

if TYPE_CHECKING:
    from docker import DockerClient

    from hil.images.images import Images
    from hil.images.pki import Pki

S = TypeVar("S", bound=BoardSpec)


class Load(Protocol):
    """What hangs on an outlet of the stand-ins' strip."""

    def on(self) -> None: ...
    def cut(self) -> None: ...


@dataclass(frozen=True)
class Site:
    """A board's place on a bench: what the bench gives to its driver, in any process."""

    bench: str
    spacecraft: str
    addresses: Mapping[Via, tuple[str, str]]  # (namespace to connect from, IPv4 address)
    facts: Mapping[str, Any]  # what the firmware of a container board hands to its OS
    disks: Path  # directory of this bench's disks and console logs
    management: str  # network namespace of the bench's management network
    strip: tuple[str, int]  # address of the stand-ins' power strip there, and this board's outlet
    client: DockerClient
    image_id: str  # hardware image of container boards
    plug: Callable[[int], None]  # cables a container board, given the PID of its firmware
    pki: Pki
    sink: Sink = field(default_factory=NullSink)
    quotas: QuotaSpec = field(default_factory=QuotaSpec)
    """Of the tenant whose board it is; a driver that can keep a board to them does."""


@dataclass
class Rack:
    """What the keeper of a bench has for the equipment of its boards; ``stack`` closes it at the end."""

    directory: Path
    images: Images
    stack: ExitStack
    loads: MutableMapping[int, Load] = field(default_factory=dict)
    """What hangs on the stand-ins' strip, by outlet; the keeper starts the strip when there is anything."""
    _pumps: dict[str, ConsolePump] = field(default_factory=dict)

    def pump(self, name: str) -> ConsolePump:
        """Return the console pump whose logs are in the directory ``name`` of the bench."""
        if name not in self._pumps:
            self._pumps[name] = self.stack.enter_context(ConsolePump(self.directory / name))
        return self._pumps[name]


@dataclass(frozen=True)
class Equipment:
    """What the keeper owns of one board."""

    board: Board
    console: ConsoleLine
    power_on: Callable[[], None]
    """Make the hardware where the bench makes it, and give it power; not called before the strip runs."""
    take_down: Callable[[], None]
    """Leave the board as it was found: without power, or removed. BenchError when it will not."""


def answers(_spec: Any, shell: Shell) -> str:
    """Say which system answers, as ``uname`` tells it. DeviceError when it does not."""
    return shell.run(["uname", "-srm"]).stdout.strip()


@dataclass(frozen=True)
class BoardKind(Generic[S]):
    """One board driver."""

    model: type[S]
    """A board's section of the lab file: ``driver`` is the name of the entry point.  The docs are made from it."""
    board: Callable[[S, Site, ConsoleLine], Board]
    """Make the driver in a process that uses a bench; touches nothing yet."""
    equip: Callable[[S, Site, Rack], Equipment]
    """Make what the keeper owns of a board; it has no power yet. BenchError when e.g. a serial port does not open."""
    identify: Callable[[S, Shell], str] = answers
    """Say who answers over SSH, for ``hil doctor --lab``. HilError when it is not the board that is meant."""
    checks: Callable[[S, Path], Iterable[Check]] = lambda _spec, _root: ()
    """What else ``hil doctor --lab`` checks for it; the second argument stands for this host's ``/``."""
    lacks: Callable[[S], Mapping[Feature, str]] = lambda _spec: {}
    """What such a board will not have, with the reasons, by its section of the lab file alone."""
    data_bytes: Callable[[S], int | None] = lambda _spec: None
    """Size of the data partition, which keeps what is uploaded; None: it is not known before the board runs."""


def kind_of(spec: BoardSpec) -> BoardKind[Any]:
    """Return the installed kind of a board of a lab file."""
    kind: BoardKind[Any] = kinds.load(kinds.BOARDS, spec.driver)
    return kind
