"""The schedule of a trial: drawn from its seed, the profile and what the bench can do; the same again for the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from hil.errors import ConfigurationError
from hil.faults.targets import chosen
from hil.trials.profile import FaultKind, Profile

if TYPE_CHECKING:
    from hil.faults.fault import Fault, Parameter
    from hil.lab.model import Lab


@dataclass(frozen=True)
class Strike:
    """One fault of a schedule."""

    number: int
    """Those with the same number strike at the same moment, each at a target of its own."""
    fault: str
    target: str
    parameters: Mapping[str, float]
    moment: str
    part: float
    """How much of the moment's usual duration passes first."""
    lasts_s: float

    def __str__(self) -> str:
        given = "".join(f", {name} {value:g}" for name, value in self.parameters.items())
        return f"{self.fault} at {self.target} ({self.moment} + {self.part:.0%}, for {self.lasts_s:.1f} s{given})"

    def document(self) -> dict[str, Any]:
        """Return it as JSON objects."""
        return asdict(self)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Strike:
        """Read what :meth:`document` made."""
        return cls(**{**document, "parameters": dict(document["parameters"])})


def draw(
    profile: Profile, seed: int, faults: Mapping[str, Fault], targets: Mapping[str, Sequence[str]], lab: Lab
) -> tuple[Strike, ...]:
    """Draw a schedule: first which kinds exist in this trial at all, then faults of these.

    ``targets`` has what each fault can hit.  ConfigurationError when the bench can do no fault of the profile.
    """
    chance = Random(f"schedule {seed}")
    possible = [kind for kind in profile.kinds if targets.get(kind.fault)]
    if not possible:
        raise ConfigurationError(f"this bench can do no fault of profile {profile.name}", remedy="see `hil fault list`")
    existing = [kind for kind in possible if chance.random() < profile.swarm] or [chance.choice(possible)]
    strikes = []
    for number in range(chance.randint(*profile.faults)):
        (kind,) = chance.choices(existing, [each.weight for each in existing])
        moment, part = chance.choice(kind.moments or profile.moments), round(chance.random(), 3)
        lasts_s = round(chance.uniform(*kind.lasts_s), 3)
        parameters = _parameters(kind, faults[kind.fault].parameters, chance)
        for target in chosen(kind.target, targets[kind.fault], lab, chance):
            strikes.append(Strike(number, kind.fault, target, parameters, moment, part, lasts_s))
    return tuple(strikes)


def _parameters(kind: FaultKind, known: Sequence[Parameter], chance: Random) -> dict[str, float]:
    """Draw what the profile gives a range for, else what the fault itself does; the others keep their defaults."""
    drawn: dict[str, float] = {}
    for parameter in known:
        span = kind.parameters.get(parameter.name, parameter.drawn)
        if isinstance(span, tuple):
            whole = parameter.least == int(parameter.least) and span[0] == int(span[0]) and span[1] == int(span[1])
            value = chance.randint(int(span[0]), int(span[1])) if whole else round(chance.uniform(*span), 4)
            drawn[parameter.name] = float(value)
        elif span is not None:
            drawn[parameter.name] = float(span)
    return drawn
