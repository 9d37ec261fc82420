"""Gaps of fidelity: where the bench differs from flight, stated by the lab and printed in every report."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from hil.lab.yamlfile import Strict, load_yaml


class FidelityGap(Strict):
    """One difference between this bench and flight."""

    id: str = Field(pattern=r"^GAP-[A-Z0-9-]+$")
    area: Literal["board", "os", "links", "environment", "payload"]
    applies_to: Literal["always", "container", "uml", "kernel", "scaled"]
    differs: str
    consequence: str = Field(description="what a result on this bench therefore does not show")


class GapFile(Strict):
    """The whole of ``hil/evidence/fidelity_gaps.yaml``."""

    schema_version: Literal[1] = Field(alias="schema")
    gaps: tuple[FidelityGap, ...] = Field(strict=False)


def load_gaps(path: Path) -> tuple[FidelityGap, ...]:
    """Read the file; ConfigurationError names file, line and key."""
    return load_yaml(path, GapFile).gaps
