"""A fault: what goes wrong on purpose, at which target, with which parameters, what proves it and what heals it.

Every kind of fault is an entry point of the group ``hil.faults`` (:mod:`hil.core.kinds`): its name is what a campaign
and ``hil fault`` call it, its object a :class:`Fault`.  ``examples/`` has one from outside this package::

    with injected("power-cut", bench, "b2"):
        ...                      # b2 has no power, and its supervisor says so
    # b2 has booted again
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Protocol

from hil.core import kinds
from hil.errors import BenchError, ConfigurationError, HilError
from hil.evidence.events import FaultHealed, FaultInjected
from hil.faults.targets import chosen

if TYPE_CHECKING:
    from hil.bench.bench import Bench

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parameter:
    """A number that a fault takes: its range, its unit, and its value when none is given."""

    name: str
    """With the unit where it has one: ``boot_s``."""
    default: float
    least: float
    most: float
    description: str
    drawn: tuple[float, float] | None = None
    """The range from which a trial draws it; None: the default is used."""

    def checked(self, value: float) -> float:
        """Return ``value``. Raises ConfigurationError when it is outside of the range."""
        if not self.least <= value <= self.most:
            remedy = f"give a value from {self.least:.12g} to {self.most:.12g}: {self.description}"
            raise ConfigurationError(f"{self.name} is {value:.12g}", remedy=remedy)
        return value


class Outcome(StrEnum):
    """Whether a fault has taken effect."""

    CONFIRMED = "confirmed"
    MISMATCH = "mismatch"  # the state that was read is not the one that the fault was to cause
    UNKNOWN = "unknown"  # the state could not be read


@dataclass(frozen=True)
class Proof:
    """The state that was read after a fault was injected: not that a command ran, but what it came to."""

    outcome: Outcome
    seen: str
    """What was read, in words."""

    @classmethod
    def of(cls, reached: bool, seen: str) -> Proof:
        """Return CONFIRMED when the state was reached, else MISMATCH."""
        return cls(Outcome.CONFIRMED if reached else Outcome.MISMATCH, seen)


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Bite:
    """A fault that was injected."""

    prove: Callable[[], Proof]
    """Reads the state that proves the effect, now."""
    stop: Callable[[], None] = _nothing
    """Ends what this process does to keep the fault going; called before it is healed."""


class Fault(Protocol):
    """One kind of fault.  It keeps nothing between two injections, so that one object serves all benches."""

    @property
    def description(self) -> str:
        """One sentence for ``hil fault list``."""
        ...

    @property
    def works_on(self) -> str:
        """Which boards or link engines can do it, for people: ``any board over SSH``."""
        ...

    @property
    def parameters(self) -> Sequence[Parameter]: ...

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return what it can hit on this bench: names of boards, links, spacecraft ..."""
        ...

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Cause the fault; it has taken effect on return, as far as this can be commanded.

        ``target`` is one of :meth:`targets`; ``values`` has all :attr:`parameters`, within their ranges.  Raises
        BenchError when it does not succeed.
        """
        ...

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Bring the target back, from any process and any state, also one without the fault.

        Called before the injection as well as after it.  Raises BenchError, or DeviceError when a board does not
        come back.
        """
        ...


def load_fault(name: str) -> Fault:
    """Return the installed kind of that name. Raises ConfigurationError with the names that there are."""
    fault: Fault = kinds.load(kinds.FAULTS, name)
    return fault


def all_faults() -> Mapping[str, Fault]:
    """Return every installed kind of fault by name."""
    return kinds.all_of(kinds.FAULTS)


class Injection:
    """One fault at one target: checked when made, then begun, proven and ended, each as often as needed."""

    def __init__(self, name: str, bench: Bench, target: str, parameters: Mapping[str, float]) -> None:
        """Raise ConfigurationError, with nothing touched, when there is no such kind, target or parameter."""
        self.name, self.target = name, target
        self._bench = bench
        self._fault = load_fault(name)
        self.values = checked(name, self._fault, bench, target, parameters)
        given = ", ".join(f"{key} {value:g}" for key, value in parameters.items())
        self.what = f"{name} ({given})" if given else name
        self._bite: Bite | None = None
        self.proof = Proof(Outcome.UNKNOWN, "it was not injected")

    def begin(self) -> Proof:
        """Heal the target, inject, prove; evidence: ``fault``.  Raises what the fault raises."""
        self._fault.heal(self._bench, self.target, self.values)
        self._bite = self._fault.inject(self._bench, self.target, self.values)
        proof = self.prove()
        _log.info("fault %s at %s: %s: %s", self.what, self.target, proof.outcome, proof.seen)
        self._bench.sink.emit(FaultInjected(self.what, target=self.target, proof=proof.outcome.value, seen=proof.seen))
        return proof

    def prove(self) -> Proof:
        """Read the proof again, and keep it.  What cannot be read is UNKNOWN."""
        if self._bite is not None:
            try:
                self.proof = self._bite.prove()
            except (HilError, OSError, EOFError, ValueError) as exc:
                self.proof = Proof(Outcome.UNKNOWN, str(exc).splitlines()[0] if str(exc) else type(exc).__name__)
        return self.proof

    def end(self) -> None:
        """Stop and heal, also when it was never injected; evidence: ``fault.healed``.  Raises what the fault raises."""
        bite, self._bite = self._bite, None
        try:
            if bite is not None:
                bite.stop()
        finally:
            self._fault.heal(self._bench, self.target, self.values)
        self._bench.sink.emit(FaultHealed(self.what, target=self.target))


@contextmanager
def injected(
    name: str, bench: Bench, target: str, *, target_seed: float = 0, **parameters: float
) -> Iterator[tuple[Injection, ...]]:
    """Cause the fault ``name`` at ``target`` while the block runs; evidence: ``fault`` and ``fault.healed``.

    ``target`` is a name, or ``one``, ``half``, ``gateway``, ``one_per_spacecraft`` or ``all`` of what it can hit (the
    draw follows ``target_seed``).  Raises ConfigurationError, before anything is touched, when there is no such kind,
    target or parameter; BenchError when the effect is not confirmed, because then nothing is shown.
    """
    names = chosen(target, load_fault(name).targets(bench), bench.lab, Random(target_seed))
    injections = tuple(Injection(name, bench, each, parameters) for each in names)
    with ExitStack() as stack:
        for injection in injections:
            stack.callback(injection.end)
            must_be_confirmed(injection, injection.begin())
        yield injections


def must_be_confirmed(injection: Injection, proof: Proof) -> None:
    """Raise BenchError unless the effect is confirmed."""
    if proof.outcome is not Outcome.CONFIRMED:
        raise BenchError(
            f"fault {injection.what} at {injection.target} is not confirmed ({proof.outcome}): {proof.seen}",
            remedy="what follows would prove nothing: see whether this bench can do this fault (`hil fault list`)",
        )


def checked(name: str, fault: Fault, bench: Bench, target: str, parameters: Mapping[str, float]) -> dict[str, float]:
    """Return every parameter of a fault, with its default where ``parameters`` has none.

    Raises ConfigurationError for a target or a parameter that it does not have, or a value outside of its range.
    """
    if target not in (targets := fault.targets(bench)):
        remedy = f"choose one of {', '.join(targets)}" if targets else "this bench has nothing that it can hit"
        raise ConfigurationError(f"{name} has no target {target!r} on bench {bench.name}", remedy=remedy)
    known = {parameter.name: parameter for parameter in fault.parameters}
    if unknown := parameters.keys() - known.keys():
        message = f"{name} has no parameter {', '.join(sorted(unknown))}"
        raise ConfigurationError(message, remedy=f"it has: {', '.join(known) or 'none'}")
    return {key: each.checked(parameters.get(key, each.default)) for key, each in known.items()}
