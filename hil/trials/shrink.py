"""The shortest schedule that still fails: delta debugging (Zeller and Hildebrandt, IEEE TSE 28(2), 2002)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def smallest(items: Sequence[T], fails: Callable[[Sequence[T]], bool], *, budget: int = 200) -> list[T]:
    """Return a part of ``items`` that still fails and of which no single one can be left out (ddmin).

    ``fails(items)`` must hold for the whole.  Each subset is asked once; after ``budget`` questions the best part so
    far is returned.  Order is kept.
    """
    asked: dict[tuple[int, ...], bool] = {}

    def still(positions: list[int]) -> bool:
        key = tuple(positions)
        if key not in asked:
            if len(asked) >= budget:
                return False
            asked[key] = fails([items[i] for i in positions])
        return asked[key]

    kept = list(range(len(items)))
    parts = 2
    while len(kept) >= 2:
        size = -(-len(kept) // parts)
        chunks = [kept[i : i + size] for i in range(0, len(kept), size)]
        rests = [[p for p in kept if p not in chunk] for chunk in chunks]
        if (part := next((c for c in chunks if still(c)), None)) is not None:
            kept, parts = part, 2
        elif len(chunks) > 2 and (part := next((r for r in rests if still(r)), None)) is not None:
            kept, parts = part, max(parts - 1, 2)
        elif parts >= len(kept):
            break
        else:
            parts = min(len(kept), parts * 2)
    if len(kept) == 1 and still([]):
        return []
    return [items[i] for i in kept]
