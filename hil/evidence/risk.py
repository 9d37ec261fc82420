"""Risk scales as data, and how far a statistic may move a risk.

A campaign supplies its own scale or names a preset.  The likelihood of a risk moves only as far as a stated
statistic carries it: the upper bound of P(failure) must lie within the level.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from hil.core import paths
from hil.lab.yamlfile import Strict, load_yaml

Zone = Annotated[str, StringConstraints(pattern=r"^[GYR]{5}$")]


class LikelihoodLevel(Strict):
    """One row of the matrix."""

    label: str
    meaning: str = ""
    p_max: float = Field(gt=0, le=1, description="highest probability of failure that still belongs here")


class SeverityLevel(Strict):
    """One column of the matrix."""

    label: str
    meaning: str = ""


class RiskScale(Strict):
    """A 5 x 5 matrix: levels from 1 (low) to 5 (high), and the colour of each cell."""

    name: str
    source: str = ""
    likelihood: tuple[LikelihoodLevel, ...] = Field(min_length=5, max_length=5, strict=False)
    severity: tuple[SeverityLevel, ...] = Field(min_length=5, max_length=5, strict=False)
    zones: tuple[Zone, ...] = Field(
        min_length=5,
        max_length=5,
        strict=False,
        description="one word of G, Y, R per likelihood from 1 up, one letter per severity from 1 up",
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        bounds = [level.p_max for level in self.likelihood]
        if bounds != sorted(set(bounds)):
            raise ValueError("likelihood: p_max must rise from the first level to the fifth")
        return self

    def zone(self, likelihood: int, severity: int) -> str:
        """Return the zone of a cell: G, Y or R."""
        return self.zones[likelihood - 1][severity - 1]

    def level_for(self, p_failure: float) -> int:
        """Return the lowest likelihood level (1 to 5) that contains ``p_failure``."""
        return next((n for n, level in enumerate(self.likelihood, start=1) if p_failure <= level.p_max), 5)


class ScaleFile(Strict):
    """The whole of ``hil/evidence/risk_scales.yaml``."""

    schema_version: Literal[1] = Field(alias="schema")
    scales: dict[str, RiskScale]


@cache
def named_scale(name: str) -> RiskScale:
    """Return a preset: ``ecss`` or ``gsfc``; KeyError for others."""
    return load_yaml(paths.PACKAGE / "evidence" / "risk_scales.yaml", ScaleFile).scales[name]
