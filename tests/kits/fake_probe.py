"""What calibration needs of a probe, without packets."""

from __future__ import annotations

from hil.links.calibration.probe import Probe
from hil.links.link_box import Direction


class FakeProbe(Probe):
    """A probe of link ``isl`` without sockets."""

    def __init__(self, direction: Direction = "a_to_b") -> None:
        self.link = "isl"
        self.direction = direction
        self.delay_s = 0.0
