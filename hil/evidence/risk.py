"""Risk scales as data, and how far a statistic may move a risk.

A campaign supplies its own scale or names a preset.  The likelihood of a risk moves only as far as a stated
statistic carries it: the upper bound of P(failure) must lie within the level.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from hil.lab.yamlfile import Strict

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
        for number, level in enumerate(self.likelihood, start=1):
            if p_failure <= level.p_max:
                return number
        return 5


# Zones of the ECSS-M-ST-80C example: the index is the letter times the number; red E4 E5 D5 E3 D4 C5,
# yellow E2 D3 C4 B5, green below.
_ZONES = ("GGGGG", "GGGGY", "GGGYR", "GGYRR", "GYRRR")

ECSS = RiskScale(
    name="ECSS-M-ST-80C example",
    source="recalled from ECSS-M-ST-80C; check before quoting",
    likelihood=(
        LikelihoodLevel(label="A minimum", meaning="1 in 10,000 projects or rarer", p_max=1e-4),
        LikelihoodLevel(label="B low", meaning="about 1 in 1,000", p_max=1e-3),
        LikelihoodLevel(label="C medium", meaning="about 1 in 100", p_max=1e-2),
        LikelihoodLevel(label="D high", meaning="about 1 in 10", p_max=1e-1),
        LikelihoodLevel(label="E maximum", meaning="will occur one or more times", p_max=1.0),
    ),
    severity=(
        SeverityLevel(label="1 negligible"),
        SeverityLevel(label="2 significant"),
        SeverityLevel(label="3 major"),
        SeverityLevel(label="4 critical"),
        SeverityLevel(label="5 catastrophic", meaning="ends the project"),
    ),
    zones=_ZONES,
)

GSFC = RiskScale(
    name="NASA/GSFC 5x5 technical likelihood",
    source="likelihoods recalled from GSFC practice, zones as in the ECSS example; check before quoting",
    likelihood=(
        LikelihoodLevel(label="1 very low", meaning="0.1 to 2 %", p_max=0.02),
        LikelihoodLevel(label="2 low", meaning="2 to 15 %", p_max=0.15),
        LikelihoodLevel(label="3 moderate", meaning="15 to 25 %", p_max=0.25),
        LikelihoodLevel(label="4 high", meaning="25 to 50 %", p_max=0.50),
        LikelihoodLevel(label="5 very high", meaning="above 50 %", p_max=1.0),
    ),
    severity=ECSS.severity,
    zones=_ZONES,
)


def named_scale(name: str) -> RiskScale:
    """Return a preset: ``ecss`` or ``gsfc``; KeyError for others."""
    return {"ecss": ECSS, "gsfc": GSFC}[name]
