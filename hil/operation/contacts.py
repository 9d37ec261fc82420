"""When bytes pass between the nodes of a lab: from its links, and from its orbit where they follow that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hil.bench.orbit_clock import candidates, constellation_of
from hil.lab.model import Lab
from hil.lab.routes import path
from hil.operation.arithmetic import Window

if TYPE_CHECKING:
    from hil.orbit.phases import LinkPlan


@dataclass(frozen=True)
class Contacts:
    """The links of a lab over a span, seconds of its bench's clock from ``epoch`` on."""

    lab: Lab
    span_s: float
    topology: Sequence[tuple[float, frozenset[str]]]
    """(moment, links that can be used from then on), fixed ones included."""
    source: str

    @classmethod
    def of(cls, lab: Lab, span_s: float, epoch: str | None = None) -> Contacts:
        """Return the contacts of a lab, planned as its bench does, from ``epoch`` on (default: the lab's).

        Raises ConfigurationError: a fault of the orbit file, an epoch that is none or that the lab cannot have.
        """
        from hil.bench.orbit_clock import check_epoch

        if epoch is not None:
            check_epoch(epoch, lab)
        fixed = frozenset(link.name for link in lab.links if not link.follows_orbit)
        if lab.orbit is None:
            return cls(lab, span_s, [(0.0, fixed)], f"{lab.file.name}: links that are always there")
        plan = _plan(lab, span_s, epoch)
        rows = [(moment, links | fixed) for moment, links in plan.topology()]
        faster = "" if lab.orbit.time_factor == 1 else f", {lab.orbit.time_factor:g} times faster"
        source = f"{lab.file.name} and {lab.orbit.file}, from {plan.start:%Y-%m-%dT%H:%M:%SZ}{faster}"
        return cls(lab, span_s, rows, source)

    def ways(self, start: str, *ends: str) -> list[Window]:
        """Return the windows in which every one of ``ends`` is reached from ``start``, with the slowest link's rate."""
        moments = [*(moment for moment, _ in self.topology), self.span_s]
        found: list[Window] = []
        for (begin_s, usable), end_s in zip(self.topology, moments[1:], strict=True):
            begin_s, end_s = max(0.0, begin_s), min(end_s, self.span_s)
            ways = [path(self.lab, start, end, usable) for end in ends]
            known = [way for way in ways if way is not None]
            if begin_s < end_s and len(known) == len(ends):
                rate_bps = min(self._rate_bps(start, way) for way in known)
                if found and found[-1].end_s == begin_s and found[-1].rate_bps == rate_bps:
                    begin_s = found.pop().start_s
                found.append(Window(begin_s, end_s, rate_bps))
        return found

    def _rate_bps(self, start: str, way: Sequence[str]) -> float:
        """Return the rate of the slowest link in the direction in which the way uses it."""
        slowest, here = float("inf"), start
        for name in way:
            link = self.lab.link(name)
            forward = link.between[0] == here
            over = link.a_to_b if forward else link.b_to_a
            slowest = min(slowest, over.rate_bps or link.rate_bps)
            here = link.between[1 if forward else 0]
        return slowest

    def scaled(self) -> str:
        """Return a remark where links of the lab are slower than those in flight; empty where none is."""
        names = [link.name for link in self.lab.links if link.rate_scaled]
        return "rates scaled down from those in flight" if names else ""


def _plan(lab: Lab, span_s: float, epoch: str | None) -> LinkPlan:
    from hil.orbit.link_phases import plan_links
    from hil.orbit.times import parse_time

    assert lab.orbit is not None
    found = constellation_of(lab)
    moment = epoch or lab.orbit.epoch
    start = parse_time(moment) if moment else found.epoch
    factor = lab.orbit.time_factor
    plan = plan_links(found, candidates(lab), start=start, span_s=span_s * factor, seed=lab.bench.seed)
    return plan.scaled(1 / factor)
