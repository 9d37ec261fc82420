"""Events of boards that are kept busy: heat and power by the twin or their own sensors, tiles, stored weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hil.evidence.event import Event


@dataclass(frozen=True)
class BoardHeat:
    """One board at one moment.

    ``binding`` says what holds it back: heat, power, compute (all that it has is used), idle (it has no work).
    Of a container board all is the twin's; of a real board it is by its own sensors, and ``predicted_c`` is the
    junction that the twin predicts beside it.
    """

    junction_c: float = 0.0
    power_w: float = 0.0
    busy: float = 0.0
    clock: float = 1.0
    binding: str = ""
    on: bool = True
    peak_c: float = 0.0
    throttled_s: float = 0.0
    energy_wh: float = 0.0
    predicted_c: float | None = None


@dataclass(frozen=True)
class TwinStarted(Event, kind="twin.start"):
    """The twin runs: ``time_factor`` seconds of the mission per second, and what in it is assumed.

    ``board_cores``: cores of this host that a container board gets at full clock.
    """

    time_factor: float = 1.0
    board_cores: float = 0.0
    assumed: tuple[str, ...] = ()
    throttle_c: float = 0.0
    shutdown_c: float = 0.0
    period_s: float = 0.0


@dataclass(frozen=True)
class TwinSample(Event, kind="twin.sample"):
    """One spacecraft at one moment: ``mission_s`` after the twin's start, in seconds of the mission."""

    spacecraft: str
    mission_s: float = 0.0
    sunlit: float = 1.0
    radiator_c: float = 0.0
    charge: float = 1.0
    lowest_charge: float = 1.0
    panel_w: float = 0.0
    drawn_w: float = 0.0
    boards: Mapping[str, BoardHeat] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamSample(Event, kind="stream.sample"):
    """A stream of tiles at one moment: tiles ``waiting`` by spacecraft; ``silent``: boards whose last tile failed."""

    waiting: Mapping[str, int] = field(default_factory=dict)
    silent: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightsChanged(Event, kind="weights.changed"):
    """A board's stored weights are not what they have to be; ``sha256``: what they are."""

    board: str
    sha256: str = ""


@dataclass(frozen=True)
class TwinChange(Event, kind="twin.change"):
    """Heat or power changed what a board does: throttled, full speed, tripped, shed, restored or capped."""

    board: str
    what: str
    detail: str = ""
    junction_c: float | None = None
