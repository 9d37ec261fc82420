"""What one direction of a link is: integers, with the unit in every name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from hil.errors import ConfigurationError

PPM = 1_000_000
ETHERNET_HEADER_B = 14
"""netem counts a packet with its Ethernet header, without preamble and frame check sequence."""

MAX_DELAY_US = 60_000_000
MAX_RATE_BPS = 400_000_000_000
MIN_MTU, MAX_MTU = 576, 9216

MAX_JITTER_US = 1_000_000
MAX_BURST = 100_000
_BURST_TOLERANCE = 0.02
_MIN_BUFFER_US = 20_000
_MIN_BUFFER_PACKETS = 64
_UNSHAPED_LIMIT = 20_000
_MIN_FRAME_B = 60
_BURST_STEP_US = 10_000
_MOST_SMALL_PACKETS = 26_000  # 64 MiB: the kernel needs 2.5 KB for a packet, however small
_MOST_PACKETS = 0xFFFFFFFF  # netem's field has 32 bits


@dataclass(frozen=True)
class GilbertElliott:
    """Bursty loss: a two-state chain that steps once per packet.

    The long-run loss is ``p/(p+r)*loss_bad + r/(p+r)*loss_good`` and the mean length of a bad period is ``1/r``
    packets (Gilbert 1960, Elliott 1963; netem's ``loss gemodel p r 1-h 1-k``).
    """

    p_ppm: int  # good -> bad, per packet
    r_ppm: int  # bad -> good, per packet
    loss_bad_ppm: int = PPM
    loss_good_ppm: int = 0

    def __post_init__(self) -> None:
        for name, low in (("p_ppm", 1), ("r_ppm", 1), ("loss_bad_ppm", 0), ("loss_good_ppm", 0)):
            _bounded(name, getattr(self, name), low, PPM)

    @classmethod
    def bursty(cls, loss_ppm: int, packets: int) -> Self:
        """Return the chain that loses ``loss_ppm`` in the long run, a mean of ``packets`` in a row.

        ConfigurationError when whole parts per million cannot say that.
        """
        _bounded("the mean burst", packets, 1, MAX_BURST)
        _bounded("the loss in bursts", loss_ppm, 1, PPM - 1)
        r_ppm = round(PPM / packets)
        p_ppm = max(1, round(r_ppm * loss_ppm / (PPM - loss_ppm)))
        made = cls(min(p_ppm, PPM), r_ppm)
        if abs(made.mean_loss_ppm - loss_ppm) > max(1, loss_ppm * _BURST_TOLERANCE):
            raise ConfigurationError(
                f"loss of {loss_ppm} ppm in bursts of {packets} packets cannot be made: the nearest is "
                f"{made.mean_loss_ppm} ppm",
                remedy="more loss, or shorter bursts",
            )
        return made

    @property
    def mean_loss_ppm(self) -> int:
        """Long-run share of lost packets."""
        lost = self.p_ppm * self.loss_bad_ppm + self.r_ppm * self.loss_good_ppm
        return round(lost / (self.p_ppm + self.r_ppm))


@dataclass(frozen=True)
class LinkState:
    """One direction of a link. Raises ConfigurationError when a value is out of bounds.

    ``jitter_us`` is the standard deviation of the delay, normal; packets stay in order where there is a rate.
    ``delay_us`` is one-way propagation; a packet also takes its own serialisation time at ``rate_bps``, which
    counts whole Ethernet frames (``mtu`` + 14 bytes). ``rate_bps`` 0 means no rate limit; the kernel counts whole
    bytes per second, so the rest is left out. ``up`` False drops everything newly sent; what is in flight still
    arrives, as light would.
    """

    delay_us: int
    rate_bps: int
    loss_ppm: int = 0
    gemodel: GilbertElliott | None = None
    mtu: int = 1500
    up: bool = True
    jitter_us: int = 0
    corrupt_ppm: int = 0
    """Share of packets in which one bit is flipped."""
    duplicate_ppm: int = 0
    """Share of packets that arrive twice."""
    reorder_ppm: int = 0
    """Share of packets that overtake those before them: they arrive without the delay."""

    def __post_init__(self) -> None:
        _bounded("delay_us", self.delay_us, 0, MAX_DELAY_US)
        _bounded("rate_bps", self.rate_bps, 0, MAX_RATE_BPS)
        _bounded("jitter_us", self.jitter_us, 0, MAX_JITTER_US)
        for name in ("loss_ppm", "corrupt_ppm", "duplicate_ppm", "reorder_ppm"):
            _bounded(name, getattr(self, name), 0, PPM)
        _bounded("mtu", self.mtu, MIN_MTU, MAX_MTU)
        if 0 < self.rate_bps < 8:
            raise ConfigurationError(
                f"rate_bps is {self.rate_bps}, below one byte per second",
                remedy="use 0 for no rate limit, or at least 8",
            )
        object.__setattr__(self, "rate_bps", self.rate_bps // 8 * 8)
        if self.reorder_ppm and not self.delay_us:
            raise ConfigurationError(
                "a link has reorder_ppm and no delay",
                remedy="packets overtake only where others wait: give delay_us, or no reorder_ppm",
            )
        if self.loss_ppm and self.gemodel:
            raise ConfigurationError(
                "a link has loss_ppm and gemodel at the same time",
                remedy="give one loss model: loss_ppm for independent loss, gemodel for bursts",
            )

    @property
    def mean_loss_ppm(self) -> int:
        """Expected share of lost packets while up."""
        return self.gemodel.mean_loss_ppm if self.gemodel else self.loss_ppm

    @property
    def random(self) -> bool:
        """Whether chance decides about single packets: loss, corruption, duplication, reordering."""
        return bool(self.mean_loss_ppm or self.corrupt_ppm or self.duplicate_ppm or self.reorder_ppm)

    def without_chance(self) -> LinkState:
        """Return the same without loss, corruption, duplication and reordering."""
        return replace(self, loss_ppm=0, gemodel=None, corrupt_ppm=0, duplicate_ppm=0, reorder_ppm=0)

    @property
    def frame_bits(self) -> int:
        """Bits that a full packet occupies on the link."""
        return (self.mtu + ETHERNET_HEADER_B) * 8


def limit_packets(rate_bps: int, delay_us: int, mtu: int) -> int:
    """Return the size of netem's queue, in packets, which counts what is in flight *and* what waits.

    In flight: rate x delay / frame.  Waiting: one round trip at that rate (what one TCP flow needs to keep the
    link full), at least 20 ms and at least 64 packets, so that small packets at a low rate are not dropped for
    want of a slot.  netem's own default of 1000 caps 14.39 ms at 842 Mbit/s without a word.
    """
    if rate_bps == 0:
        return _UNSHAPED_LIMIT
    frame_bits = (mtu + ETHERNET_HEADER_B) * 8
    in_flight = -(-rate_bps * delay_us // (frame_bits * 1_000_000))
    waiting = -(-rate_bps * max(2 * delay_us, _MIN_BUFFER_US) // (frame_bits * 1_000_000))
    return min(in_flight + max(waiting, _MIN_BUFFER_PACKETS), _MOST_PACKETS)


def waiting_us(rate_bps: int, delay_us: int, mtu: int) -> int:
    """Return how long what waits for a link may take to leave, which a policer before it makes sure of.

    One round trip, rounded up to 10 ms so that small changes of delay need no other policer; at least 20 ms and at
    least 64 full packets.
    """
    round_trip_us = -(-2 * delay_us // _BURST_STEP_US) * _BURST_STEP_US
    frames_us = -(-_MIN_BUFFER_PACKETS * (mtu + ETHERNET_HEADER_B) * 8_000_000 // rate_bps) if rate_bps else 0
    return max(round_trip_us, _MIN_BUFFER_US, frames_us)


def limit_small_packets(rate_bps: int, delay_us: int, mtu: int) -> int:
    """Return the size of netem's queue, in packets, where a policer limits what waits in bytes.

    In flight and waiting, counted in the smallest frames (60 bytes); at most what fits in 64 MiB, but no less than
    for full packets.
    """
    full = limit_packets(rate_bps, delay_us, mtu)
    if rate_bps == 0:
        return full
    there_us = delay_us + waiting_us(rate_bps, delay_us, mtu)
    small = -(-rate_bps * there_us // (_MIN_FRAME_B * 8_000_000))
    return max(full, min(small, _MOST_SMALL_PACKETS))


def limit_in_flight(rate_bps: int, delay_us: int, mtu: int) -> int:
    """Return the size of netem's queue, in packets, where a scheduler behind it serialises and holds what waits.

    What is in flight comes as fast as it is sent, so there is room for 64 MiB, and for what one round trip holds.
    """
    return max(limit_packets(rate_bps, delay_us, mtu), _MOST_SMALL_PACKETS)


def _bounded(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name} is {value!r}, not an integer", remedy="links take whole numbers only")
    if not low <= value <= high:
        raise ConfigurationError(f"{name} is {value}", remedy=f"allowed: {low} to {high}")
