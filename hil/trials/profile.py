"""The fault profile of a series: which faults a trial may draw, when, for how long, and how much time it has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from hil.core import kinds, paths
from hil.errors import ConfigurationError
from hil.lab.yamlfile import Strict, load_yaml

MOMENTS = ("start", "upload", "relay", "fan-out", "install", "boot", "confirm", "configure", "prepared")
"""When a fault may strike: a step of the rollout begins; ``prepared``: between prepare and commit."""
USUALLY_S = {
    **{"start": 10.0, "upload": 5.0, "relay": 5.0, "fan-out": 5.0, "install": 2.0, "boot": 2.5, "confirm": 1.0},
    **{"configure": 1.0, "prepared": 1.0},
}
"""How long a step usually takes on container boards, seconds: ``part`` of a moment is a share of this."""
PROFILES = paths.PACKAGE / "trials/profiles"


def _installed(name: str) -> str:
    if name not in kinds.names(kinds.FAULTS):
        raise ValueError(f"no fault is called {name!r}. There are: {', '.join(kinds.names(kinds.FAULTS))}")
    return name


def _moment(name: str) -> str:
    if name not in MOMENTS:
        raise ValueError(f"no moment is called {name!r}. Allowed: {', '.join(MOMENTS)}")
    return name


Span = Annotated[tuple[float, float], Field(strict=False)]


class FaultKind(Strict):
    """One kind of fault in a profile."""

    fault: Annotated[str, AfterValidator(_installed)]
    weight: int = Field(default=10, ge=1, le=100, description="how often it is drawn, beside the others")
    target: str = Field(default="one", description="a name, or one, half, gateway, one_per_spacecraft, all")
    lasts_s: Span = Field(default=(0.5, 2.5), description="how long it lasts, seconds: least and most")
    moments: tuple[Annotated[str, AfterValidator(_moment)], ...] = Field(
        default=(), strict=False, description="when it may strike; left out: at any moment of the profile"
    )
    parameters: dict[str, float | Span] = Field(
        default_factory=dict, description="values, or least and most; left out: what the fault itself says"
    )

    @model_validator(mode="after")
    def _spans(self) -> Self:
        if not 0 < self.lasts_s[0] <= self.lasts_s[1]:
            raise ValueError(f"lasts_s is {self.lasts_s}: give the least and the most, above 0")
        return self


class Profile(Strict):
    """What a trial may meet, and how long it may take."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    description: str = ""
    swarm: float = Field(default=0.5, gt=0, le=1, description="the chance that a kind exists at all in a trial")
    faults: Annotated[tuple[int, int], Field(strict=False)] = Field(default=(1, 3), description="faults of a trial")
    storm_s: float = Field(default=60.0, gt=0, le=3600, description="the storm's end at the latest, seconds")
    calm_s: float = Field(default=60.0, gt=0, le=3600, description="the fleet must have converged by then, seconds")
    moments: tuple[Annotated[str, AfterValidator(_moment)], ...] = Field(default=MOMENTS, strict=False)
    kinds: tuple[FaultKind, ...] = Field(min_length=1, strict=False)

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if not 1 <= self.faults[0] <= self.faults[1] <= 20:
            raise ValueError(f"faults is {self.faults}: give the least and the most, 1 to 20")
        return self


def load_profile(name: str | Path) -> Profile:
    """Read a profile, or the shipped one of that name. ConfigurationError names file, line and key."""
    path = Path(name)
    if not path.suffix:
        path = PROFILES / f"{name}.yaml"
        if not path.exists():
            shipped = ", ".join(sorted(each.stem for each in PROFILES.glob("*.yaml")))
            raise ConfigurationError(f"no profile is called {name}", remedy=f"give a file, or one of: {shipped}")
    return load_yaml(path, Profile)
