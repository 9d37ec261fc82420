"""A fault: what goes wrong on purpose, at which target of a bench, with which parameters, and how it is healed.

Every kind of fault is an entry point of the group ``hil.faults`` (:mod:`hil.core.kinds`): its name is what a campaign
and ``hil fault`` call it, its object a :class:`Fault`.  ``examples/`` has one from outside this package::

    with injected("power-cut", bench, "b2"):
        ...                      # b2 has no power
    # b2 has booted again
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hil.core import kinds
from hil.errors import ConfigurationError
from hil.evidence.events import FaultInjected

if TYPE_CHECKING:
    from hil.bench.bench import Bench


@dataclass(frozen=True)
class Parameter:
    """A number that a fault takes: its range, its unit, and its value when none is given."""

    name: str
    """With the unit where it has one: ``boot_s``."""
    default: float
    least: float
    most: float
    description: str

    def checked(self, value: float) -> float:
        """Return ``value``. Raises ConfigurationError when it is outside of the range."""
        if not self.least <= value <= self.most:
            remedy = f"give a value from {self.least:.12g} to {self.most:.12g}: {self.description}"
            raise ConfigurationError(f"{self.name} is {value:.12g}", remedy=remedy)
        return value


class Fault(Protocol):
    """One kind of fault.  It keeps nothing between two injections, so that one object serves all benches."""

    @property
    def description(self) -> str:
        """One sentence for ``hil fault list``."""
        ...

    @property
    def parameters(self) -> Sequence[Parameter]: ...

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return what it can hit on this bench: names of boards, links, spacecraft ..."""
        ...

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> AbstractContextManager[None]:
        """Cause the fault when the block is entered, and heal it when the block ends, also after an error.

        ``target`` is one of :meth:`targets`; ``values`` has all :attr:`parameters`, within their ranges.  Once the
        block is entered the fault has taken effect; once it is left the bench is as it was.  Raises BenchError when
        either does not succeed.
        """
        ...


def load_fault(name: str) -> Fault:
    """Return the installed kind of that name. Raises ConfigurationError with the names that there are."""
    fault: Fault = kinds.load(kinds.FAULTS, name)
    return fault


def all_faults() -> Mapping[str, Fault]:
    """Return every installed kind of fault by name."""
    return kinds.all_of(kinds.FAULTS)


@contextmanager
def injected(name: str, bench: Bench, target: str, **parameters: float) -> Iterator[None]:
    """Cause the fault ``name`` at ``target`` while the block runs; evidence: ``fault``.

    Raises ConfigurationError, before anything is touched, when there is no such kind, target or parameter.
    """
    fault = load_fault(name)
    values = _checked(name, fault, bench, target, parameters)
    with fault.inject(bench, target, values):
        given = ", ".join(f"{key} {value:g}" for key, value in parameters.items())
        bench.sink.emit(FaultInjected(f"{name} ({given})" if given else name, target=target))
        yield


def _checked(name: str, fault: Fault, bench: Bench, target: str, parameters: Mapping[str, float]) -> dict[str, float]:
    """Return every parameter of a fault, with its default where ``parameters`` has none."""
    if target not in (targets := fault.targets(bench)):
        remedy = f"choose one of {', '.join(targets)}" if targets else "this bench has nothing that it can hit"
        raise ConfigurationError(f"{name} has no target {target!r} on bench {bench.name}", remedy=remedy)
    known = {parameter.name: parameter for parameter in fault.parameters}
    if unknown := parameters.keys() - known.keys():
        message = f"{name} has no parameter {', '.join(sorted(unknown))}"
        raise ConfigurationError(message, remedy=f"it has: {', '.join(known) or 'none'}")
    return {key: each.checked(parameters.get(key, each.default)) for key, each in known.items()}
