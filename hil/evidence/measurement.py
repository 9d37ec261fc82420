"""What was measured: a value that a test took, and a figure of a link's calibration, which is one too."""

from __future__ import annotations

from dataclasses import dataclass

from hil.errors import Blame
from hil.evidence.event import Event
from hil.evidence.model import Limit, Value, equals, format_value, label_of, within

INFORMATION = "for information"
"""Note of a figure that has no bounds to keep."""


@dataclass(frozen=True)
class Measurement(Event, kind="measurement"):
    """A value that a test measured, with its limit as text; `ok` says whether it holds (null: there is no limit).

    ``blame`` says what a violated limit means: the device under test (FAIL), or the bench (INCONCLUSIVE).
    """

    name: str
    value: Value | None = None
    unit: str = ""
    limit: str | None = None
    ok: bool | None = None
    blame: str = Blame.DEVICE.value
    board: str = ""
    link: str = ""
    direction: str = ""
    slot: str = ""
    low: float | None = None
    high: float | None = None
    allowed: tuple[Value, ...] = ()
    """The limit as the values that it allows: a range, or these."""

    @property
    def misjudged(self) -> bool:
        """Whether ``ok`` is not what the value and the limit say; False where the limit is known as text only."""
        if self.ok is None or (self.low is None and self.high is None and not self.allowed):
            return False
        return Limit(self.low, self.high, self.allowed or None).holds(self.value) != self.ok

    @property
    def dimensions(self) -> dict[str, str]:
        """What it was measured of: those of board, link, direction (a_to_b, b_to_a) and slot that apply."""
        named = {"board": self.board, "link": self.link, "direction": self.direction, "slot": self.slot}
        return {name: value for name, value in named.items() if value}

    @property
    def label(self) -> str:
        """Its name for people, with its dimensions."""
        return label_of(self.name, self.dimensions)

    def __str__(self) -> str:
        measured = f"{self.label} = {format_value(self.value, self.unit)}"
        if self.limit is None:
            return measured
        return f"{measured}, limit {self.limit}: {'ok' if self.ok else 'violated'}"


@dataclass(frozen=True)
class LinkFigure(Event, kind="link.calibration"):
    """One figure of one direction of a link, commanded and measured on real packets.

    Quantities: ``engine_constant``, ``delay_p50``, ``delay_p95``, ``delay_p99``, ``delay_sparse_p50``,
    ``jitter_p95_p50`` and ``jitter_sd`` in us; ``rate``, ``rate_sustained`` and ``rate_sustained_tcp`` in bit/s;
    ``share`` (of a tenant, of what it and another get together) in percent,
    ``share_rate`` (of a tenant, beside whatever others send) in bit/s; ``loss`` in ppm;
    ``burst_length`` (mean, Gilbert-Elliott only) in packets; ``mangled`` (different from what was
    sent, over TCP) in bytes; ``outage_length``, and from the command to its effect ``cut_effect_p50``,
    ``cut_effect_p99``, ``restore_effect_p50``, ``restore_effect_p99`` in us; and
    ``state`` (up) for a direction that was not measured.
    """

    link: str
    direction: str
    quantity: str
    commanded: float
    measured: float | None  # None: nothing arrived
    unit: str
    tolerance: float = 0.0  # to either side, in ``unit``; 0 with ok True: for information
    ok: bool = False
    note: str = ""
    quantiles: tuple[float, ...] = ()  # of delay_p50: percentiles 0..100 of the one-way delay, us
    low: float | None = None  # bounds of acceptance in ``unit``, where they are not commanded +- tolerance
    high: float | None = None

    @property
    def judged(self) -> bool:
        """Whether it must keep its bounds, and is not for information only."""
        return not self.ok or not self.note.startswith(INFORMATION)

    @property
    def limit(self) -> Limit | None:
        """What it must keep; None when it is for information only."""
        if not self.judged:
            return None
        if self.quantity == "state":
            return equals(self.commanded)
        if self.low is not None and self.high is not None:
            return Limit(self.low, self.high)
        return within(self.tolerance, of=self.commanded)

    @property
    def measurement(self) -> Measurement:
        """The figure as a measurement; outside its limit the bench is to blame."""
        bounds = self.limit or Limit()
        measured = Measurement(
            name=self.quantity,
            value=self.measured,
            unit=self.unit,
            limit=self.limit.text(self.unit) if self.limit else None,
            ok=self.ok if self.judged else None,
            blame=Blame.BENCH.value,
            link=self.link,
            direction=self.direction,
            low=bounds.low,
            high=bounds.high,
            allowed=bounds.allowed or (),
        )
        object.__setattr__(measured, "line", self.line)
        return measured

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest value that it may have, in ``unit``."""
        low = self.commanded - self.tolerance if self.low is None else self.low
        high = self.commanded + self.tolerance if self.high is None else self.high
        return low, high

    def __str__(self) -> str:
        where = f"{self.link} {self.direction}"
        if self.quantity == "state":
            return f"{where}: {self.note}"
        measured = "nothing" if self.measured is None else f"{self.measured:,.12g}"
        low, high = self.bounds
        note = f" ({self.note})" if self.note else ""
        return f"{where}: {self.quantity} is {measured}, allowed {low:,.12g} to {high:,.12g} {self.unit}{note}"
