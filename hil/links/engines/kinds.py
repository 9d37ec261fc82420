"""A kind of link engine: everything the link box must know to have links shaped somewhere; and the choice of one.

The object is an entry point of the group ``hil.engines``; the entry point's name is the ``engine`` of the lab file.
The built-in kinds are such entry points too (pyproject.toml).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hil.core import kinds as installed
from hil.core.check import Check
from hil.errors import BenchError
from hil.links.engines.agent import Agent
from hil.links.wires import Profile, ShaperHost, Wire

if TYPE_CHECKING:
    from hil.lab.model import Lab


@dataclass(frozen=True)
class Site:
    """The links that an engine is to shape, and where their NICs are."""

    namespace: str  # of the link box; it holds nothing yet
    wires: Sequence[Wire]
    profile: Profile
    kernels: int | None = None  # how many share the links, where an engine can have several; None: it decides
    shaper_host: ShaperHost | None = None


@dataclass(frozen=True)
class LinkNics:
    """Where a link is shaped: the number of the kernel among the box's, and its NICs there that lead to a and b."""

    kernel: int
    a: str
    b: str


@dataclass(frozen=True)
class Kernels:
    """The kernels that an engine started, and every link's place in them, in the order of the wires."""

    agents: tuple[Agent, ...]
    nics: tuple[LinkNics, ...]
    note: str = ""  # about these kernels, for people


@dataclass(frozen=True)
class EngineKind:
    """One link engine."""

    about: str
    """Which kernel shapes, for people."""
    lacking: Callable[[], str]
    """Return what this host lacks for it, as the end of a sentence that begins with "but"; empty when nothing."""
    remedy: str
    """What to do about that."""
    start: Callable[[Site, ExitStack], Kernels]
    """Start the kernels with NICs that lead to the links' ends; the stack ends them.  BenchError when one fails."""
    checks: Callable[[Lab], Iterable[Check]] = lambda _lab: ()
    """What ``hil doctor --lab`` checks for a lab file whose links it is to shape."""
    leftovers: Callable[[], Mapping[str, Callable[[], object]]] = dict
    """Return what owners that were killed left on this host, by name, each with the call that removes it."""
    rank: int | None = None
    """Place in the order in which ``engine: auto`` tries the kinds; None: only when it is named."""


@dataclass(frozen=True)
class EngineChoice:
    """A kind of engine by the name of its entry point, and why it is this one."""

    name: str
    kind: EngineKind
    reason: str


def choose(wanted: str = "") -> EngineChoice:
    """Return the engine to use; ``wanted`` is checked, not just believed.

    Raises BenchError when no engine works here, or not the wanted one; ConfigurationError for an unknown name.
    """
    if wanted:
        kind: EngineKind = installed.load(installed.ENGINES, wanted)
        if lacking := kind.lacking():
            raise BenchError(f"the {wanted} link engine was asked for, but {lacking}", remedy=kind.remedy)
        return EngineChoice(wanted, kind, "asked for")
    failures: list[str] = []
    for name, kind in automatic().items():
        if not (lacking := kind.lacking()):
            return EngineChoice(name, kind, ", and ".join(failures) or kind.about)
        failures.append(lacking)
    raise BenchError(f"no engine can shape links: {', and '.join(failures)}", remedy=kind.remedy if failures else "")


def automatic() -> dict[str, EngineKind]:
    """Return the kinds that are tried without being named, first choice first."""
    ranked = {name: kind for name, kind in installed.all_of(installed.ENGINES).items() if kind.rank is not None}
    return dict(sorted(ranked.items(), key=lambda item: item[1].rank))
