"""What calibration needs of a probe, without packets."""

from __future__ import annotations

from hil.links.calibration.probe import Probe
from hil.links.link_box import Direction


class FakeProbe(Probe):
    """A probe of a link without sockets."""

    def __init__(self, direction: Direction = "a_to_b", *, link: str = "isl") -> None:
        self.link = link
        self.direction = direction
        self.delay_s = 0.0
