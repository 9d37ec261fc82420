"""Which targets a fault hits: a name, or a set of them by description."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING

from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.lab.model import Lab

SETS = ("one", "half", "gateway", "one_per_spacecraft", "all")
"""What may stand in the place of a name."""


def chosen(wanted: str, targets: Sequence[str], lab: Lab, chance: Random) -> list[str]:
    """Return the targets that ``wanted`` means, in their own order; a name comes back as it is.

    ``half`` is rounded up.  Raises ConfigurationError when nothing on this bench can be meant.
    """
    if wanted not in SETS or wanted in targets:
        return [wanted]
    craft = {board.name: spacecraft.name for spacecraft in lab.spacecraft for board in spacecraft.boards}
    picked: list[str] = []
    match wanted:
        case "one":
            picked = [chance.choice(targets)] if targets else []
        case "half":
            picked = chance.sample(list(targets), (len(targets) + 1) // 2)
        case "all":
            picked = list(targets)
        case "gateway":
            picked = [name for name in targets if name in (lab.gateway, craft[lab.gateway])][:1]
        case "one_per_spacecraft":
            grouped: dict[str, list[str]] = {}
            for name in targets:
                if name in craft:
                    grouped.setdefault(craft[name], []).append(name)
            picked = [chance.choice(names) for names in grouped.values()]
    if not picked:
        there_are = ", ".join(targets) or "none"
        raise ConfigurationError(f"no target is meant by {wanted!r} here", remedy=f"targets: {there_are}")
    return [name for name in targets if name in picked]
