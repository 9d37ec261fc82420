"""The choice of a link engine: the one that is asked for, else the first that can work here. Tried, not guessed."""

from __future__ import annotations

from dataclasses import dataclass

from hil.core import kinds
from hil.errors import BenchError
from hil.links.engines.kinds import EngineKind


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
        kind: EngineKind = kinds.load(kinds.ENGINES, wanted)
        if lacking := kind.lacking():
            raise BenchError(f"the {wanted} link engine was asked for, but {lacking}", remedy=kind.remedy)
        return EngineChoice(wanted, kind, "asked for")
    failures: list[str] = []
    for name, kind in automatic().items():
        if not (lacking := kind.lacking()):
            return EngineChoice(name, kind, ", and ".join(failures) or kind.about)
        failures.append(lacking)
    raise BenchError(
        f"no engine can shape links: {', and '.join(failures)}", remedy=kind.remedy if failures else ""
    )


def automatic() -> dict[str, EngineKind]:
    """Return the kinds that are tried without being named, first choice first."""
    ranked = {name: kind for name, kind in kinds.all_of(kinds.ENGINES).items() if kind.rank is not None}
    return dict(sorted(ranked.items(), key=lambda item: item[1].rank))
