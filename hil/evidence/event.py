"""The event: one line of evidence as an object.  The kinds of events are in :mod:`hil.evidence.events`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True)
class Event:
    """Something that happened.  The fields of this class are filled when evidence is read back."""

    kind: ClassVar[str]
    __test__: ClassVar[bool] = False  # for pytest: TestStarted is not a test class

    t_s: float = field(default=0.0, init=False, compare=False, repr=False)
    """Seconds since the run started."""
    t_utc: str = field(default="", init=False, compare=False, repr=False)
    test: str = field(default="", init=False, compare=False, repr=False)
    """Id of the test during which it happened."""
    line: int = field(default=0, init=False, compare=False, repr=False)
    """Its line in ``evidence.jsonl``, from 1."""
    extra: Mapping[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """Fields of the line that this version does not know."""

    def __init_subclass__(cls, *, kind: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.kind = kind

    def fields(self) -> dict[str, Any]:
        """Return the fields that are written: those that are not blank."""
        own = ((each.name, getattr(self, each.name)) for each in fields(self) if each.init)
        return {name: value for name, value in own if value is not None and value != "" and value != ()}


@dataclass(frozen=True)
class Unknown(Event, kind=""):
    """A line of a kind that this version does not know; its fields are in ``extra``."""

    name: str
