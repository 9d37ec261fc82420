"""The links of a lab file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from hil.lab.yamlfile import Strict, fault

Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,12}$"),
    Field(description="lower case letters, digits and hyphens, at most 13 characters"),
]

MAX_DELAY_US, MAX_JITTER_US = 2_000_000, 1_000_000
MIN_RATE_BPS, MAX_RATE_BPS = 64_000, 100_000_000_000

DelayUs = Annotated[int, Field(ge=0, le=MAX_DELAY_US, description="one-way delay in microseconds; 14386 is 14.386 ms")]
RateBps = Annotated[
    int, Field(ge=MIN_RATE_BPS, le=MAX_RATE_BPS, description="bit/s on the wire; 2500000000 is 2.5 Gbit/s")
]
LossPpm = Annotated[int, Field(ge=0, le=1_000_000, description="packets lost per million")]
BurstPackets = Annotated[
    int, Field(ge=1, le=100_000, description="packets lost in a row, on average; 1: each by itself")
]
JitterUs = Annotated[
    int, Field(ge=0, le=MAX_JITTER_US, description="standard deviation of the delay in microseconds; order is kept")
]
_LEAST_PPM_OF_BURST = 25


class Direction(Strict):
    """Overrides for one direction of a link; what is absent is as in the link."""

    one_way_delay_us: DelayUs | None = None
    rate_bps: RateBps | None = None
    loss_ppm: LossPpm | None = None
    loss_burst_packets: BurstPackets | None = None
    jitter_us: JitterUs | None = None


class LinkSpec(Strict):
    """One link, shaped in each direction."""

    name: Name
    kind: Literal["ground", "crosslink", "guest"] = Field(
        description="ground: one of its ends is the ground station; guest: one is a guest"
    )
    between: tuple[Name, Name] = Field(strict=False, description="the two ends, [a, b]")
    one_way_delay_us: DelayUs | None = Field(
        default=None,
        description="fixed one-way delay; left out in a lab with an orbit section: the link then follows the orbit",
    )
    rate_bps: RateBps
    nominal_rate_bps: RateBps | None = Field(
        default=None, description="the flight link's rate when rate_bps is a scaled one; results are marked so"
    )
    loss_ppm: LossPpm = 0
    loss_burst_packets: BurstPackets = 1
    jitter_us: JitterUs = 0
    mtu: int = Field(default=1500, ge=576, le=9000, description="largest IP packet")
    a_to_b: Direction = Direction()
    b_to_a: Direction = Direction()
    source: str = Field(default="", description="where the figures come from; 'assumed: ...' when not public")

    @property
    def follows_orbit(self) -> bool:
        """Up, delay and residual loss come from where its two ends are, moment by moment."""
        return self.one_way_delay_us is None

    @property
    def rate_scaled(self) -> bool:
        return self.nominal_rate_bps is not None and self.nominal_rate_bps != self.rate_bps


def check_bursts(link: LinkSpec) -> None:
    """Refuse rare long bursts: whole parts per million per packet cannot say them."""
    for over in (link.a_to_b, link.b_to_a):
        loss = link.loss_ppm if over.loss_ppm is None else over.loss_ppm
        burst = link.loss_burst_packets if over.loss_burst_packets is None else over.loss_burst_packets
        if burst > 1 and 0 < loss < _LEAST_PPM_OF_BURST * burst:
            raise fault(
                f"links.{link.name}.loss_burst_packets",
                str(burst),
                f"bursts of {burst} packets need loss_ppm of at least {_LEAST_PPM_OF_BURST * burst}; it is {loss}",
            )
