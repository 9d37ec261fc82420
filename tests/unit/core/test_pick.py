"""One of many, by what a person types."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hil.core.pick import pick
from hil.errors import ConfigurationError

KNOWN = ["20260302-first-a1", "20260301-second-a2", "20260301-first-a3"]


def picked(word: str, known: Sequence[str] = KNOWN) -> str:
    return pick(word, known, str, what="run", listed_by="hil runs list", made_by="hil campaign run")


@pytest.mark.parametrize(
    ("word", "index"), [("last", 0), (KNOWN[1], 1), ("20260302", 0), ("a3", 2), ("second", 1), ("20260301-f", 2)]
)
def test_one_is_named_by_its_id_a_part_of_it_or_last(word: str, index: int) -> None:
    assert picked(word) == KNOWN[index]


@pytest.mark.parametrize(
    ("word", "known", "says", "do"),
    [
        ("last", [], "there is no run yet", "`hil campaign run` makes one"),
        ("first", KNOWN, f"run first is ambiguous; it may be {KNOWN[0]}, {KNOWN[2]}", "see `hil runs list`"),
        ("x", KNOWN, f"run x is unknown; the newest are {', '.join(KNOWN)}", "see `hil runs list`"),
    ],
)
def test_none_or_several_are_told_with_what_to_do(word: str, known: Sequence[str], says: str, do: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        picked(word, known)
    assert (raised.value.message, raised.value.remedy) == (says, do)
