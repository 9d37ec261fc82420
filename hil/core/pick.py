"""The one of many that a person means: by its id, an unambiguous part of it, or ``last``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from hil.errors import ConfigurationError

T = TypeVar("T")
SHOWN = 5


def pick(word: str, known: Sequence[T], id_of: Callable[[T], str], *, what: str, listed_by: str, made_by: str) -> T:
    """Return the one of ``known``, the newest first, that ``word`` names.  ConfigurationError when none, or several.

    ``what`` is their kind, e.g. "run"; ``listed_by`` and ``made_by`` are the commands that list and make them.
    """
    if not known:
        raise ConfigurationError(f"there is no {what} yet", remedy=f"`{made_by}` makes one")
    if word == "last":
        return known[0]
    for fits in (
        lambda id_: id_ == word,
        lambda id_: id_.startswith(word) or id_.endswith(word),
        lambda id_: word in id_,
    ):
        if matching := [each for each in known if fits(id_of(each))]:
            break
    if len(matching) == 1:
        return matching[0]
    says = "is ambiguous; it may be" if matching else "is unknown; the newest are"
    some = ", ".join(map(id_of, (matching or known)[:SHOWN]))
    raise ConfigurationError(f"{what} {word} {says} {some}", remedy=f"see `{listed_by}`")
