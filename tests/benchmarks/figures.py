"""A benchmark's result: a value, its unit, the limit it is held to, and what it is compared with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One figure of ``bench.json``; ``limit`` is text such as ``<= 6`` so that its direction is plain."""

    name: str
    value: float
    unit: str
    limit: str
    compared_with: str

    @property
    def ok(self) -> bool:
        """Whether the value satisfies the limit; True when there is none."""
        if not self.limit:
            return True
        sign, bound = self.limit.split()
        return self.value <= float(bound) if sign == "<=" else self.value >= float(bound)


def write(figures: list[Figure], path: Path) -> None:
    """Write ``{"figures": [{"name", "value", "unit", "limit", "compared_with"}]}``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"figures": [asdict(figure) for figure in figures]}, indent=2) + "\n")
