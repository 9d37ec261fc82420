"""The delay that packets really meet on the links of a bench at work: a few small ones, now and then."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import suppress

from hil.errors import BenchError
from hil.links.calibration.probe import Probe, pace
from hil.links.link_box import DIRECTIONS, Direction, LinkStatus

COUNT, INTERVAL_S = 5, 0.01
GRACE_S = 0.05
"""How much later than commanded a packet may come and still be counted."""

Name = tuple[str, Direction]


class LinkDelays:
    """Probes in both directions of every link; their sockets stay open from one measurement to the next."""

    def __init__(self) -> None:
        self._probes: dict[Name, Probe] = {}

    def measure(self, links: Sequence[LinkStatus]) -> dict[Name, float]:
        """Median one-way delay, s, of each direction on which something arrived.

        Links that are down are left alone.  Takes 50 ms, the longest delay and a grace.
        """
        probes = [probe for link in links if link.up for d in DIRECTIONS if (probe := self._probe(link, d))]
        if not probes:
            return {}
        with suppress(BenchError):  # a NIC that goes away now shows as what does not arrive
            pace(probes, count=COUNT, interval_s=INTERVAL_S)
        longest_us = max(getattr(link, d).commanded.delay_us for link in links for d in DIRECTIONS)
        time.sleep(longest_us / 1e6 + GRACE_S)
        delays_ns = {probe.name: [arrival.delay_ns for arrival in probe.arrivals()] for probe in probes}
        return {name: statistics.median(delays) / 1e9 for name, delays in delays_ns.items() if delays}

    def _probe(self, link: LinkStatus, direction: Direction) -> Probe | None:
        name = (link.name, direction)
        with suppress(BenchError):
            if name not in self._probes:
                self._probes[name] = Probe(link, direction)
        return self._probes.get(name)

    def close(self) -> None:
        probes, self._probes = self._probes, {}
        for probe in probes.values():
            probe.close()
