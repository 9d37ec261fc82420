"""What happened in a trial, as the checkers see it: events in time order, faults with their proofs, the final reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hil.evidence.events import Event, WatchSummary
from hil.trials.schedule import Strike


@dataclass(frozen=True)
class Struck:
    """A fault of the schedule and what became of it; times in seconds since the trial began."""

    strike: Strike
    began_s: float | None = None
    """None: its moment never came, because the rollout did not get so far."""
    ended_s: float | None = None
    proof: str = ""
    """confirmed, mismatch or unknown; empty when it never struck."""
    seen: str = ""
    error: str = ""
    """What went wrong in injecting or healing it, on the bench's side."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON objects."""
        return {**vars(self), "strike": self.strike.document()}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Struck:
        """Read what :meth:`document` made."""
        return cls(**{**document, "strike": Strike.read(document["strike"])})


@dataclass(frozen=True)
class BoardRead:
    """One board, read once more when everything was over."""

    board: str
    spacecraft: str
    answers: bool = False
    slot: str = ""
    active: str = ""
    os_version: str = ""
    image_sha256: str = ""
    confirmed: bool = False
    healthy: bool = False
    epoch: int | None = None
    bootable: tuple[bool, ...] = ()
    """Of slots A and B."""
    data_intact: bool | None = None
    """Whether the file that was on its data partition before the storm is there, unchanged; None: not read."""
    problem: str = ""


@dataclass(frozen=True)
class Wanted:
    """What every board is to come to."""

    os_version: str
    image_sha256: str
    gateway_spacecraft: str
    lease_s: float = 1.0


@dataclass(frozen=True)
class History:
    """One trial."""

    wanted: Wanted
    events: Sequence[Event] = ()
    struck: Sequence[Struck] = ()
    reads: Sequence[BoardRead] = ()
    epoch: int | None = None
    """The epoch under which all boards served at one moment in the calm; None: that was not reached."""
    success_s: float | None = None
    """When the rollout reported success for the last time; None: never."""
    unreached: str = ""
    """Why it was not, in words."""
    initial_slots: Mapping[str, str] = field(default_factory=dict)

    @property
    def watched(self) -> WatchSummary | None:
        """What the watcher of the epochs saw, if it came to its end."""
        return next((e for e in reversed(self.events) if isinstance(e, WatchSummary)), None)

    def of(self, *kinds: type[Event]) -> Iterator[Any]:
        """Yield the events of these kinds, in time order."""
        return (event for event in self.events if isinstance(event, kinds))
