"""What the orbit makes of a bench's links: the plan of their phases, and where the bench is in it."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from datetime import datetime, timedelta
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from hil.errors import ConfigurationError
from hil.lab.model import Lab
from hil.links.schedule.windows import ScheduleRow
from hil.orbit.phases import Candidate, LinkPlan

if TYPE_CHECKING:
    from hil.orbit.elements import Constellation
    from hil.orbit.services import Service

LEAD_S = 1.0
"""Routes leave a link this long before its contact ends: what is in flight on it still arrives."""


def check_epoch(epoch: str, lab: Lab) -> None:
    """Raise ConfigurationError unless ``epoch`` is a time and the lab has an orbit; nothing is computed."""
    from hil.orbit.times import parse_time

    parse_time(epoch)
    if lab.orbit is None:
        raise ConfigurationError(f"lab {lab.name} has no orbit section, so it has no epoch", remedy="leave --epoch out")


class OrbitClock:
    """The orbit side of a bench; a source of rows for the link box's player.

    ``zero_ns`` (CLOCK_MONOTONIC) is the moment of the bench that is :attr:`epoch` in the mission; times in
    seconds count from there, on the bench's clock, and so do those of ``plan``.  Mission time may pass faster.
    """

    def __init__(self, lab: Lab, plan: LinkPlan, zero_ns: int = 0) -> None:
        self.lab = lab
        self.plan = plan
        self.zero_ns = zero_ns
        self.links = tuple(link.name for link in lab.links if link.follows_orbit)
        self.time_factor = lab.orbit.time_factor if lab.orbit else 1.0
        """Mission seconds in a second of the bench."""

    @classmethod
    def ahead(cls, lab: Lab, epoch: str | None = None) -> OrbitClock | None:
        """Return the plan of a lab from ``epoch`` on (default: the lab's, else the orbit file's); None without orbit.

        Raises ConfigurationError: a fault of the orbit file, a name that it does not have, an epoch that is none.
        """
        from hil.orbit.link_phases import plan_links
        from hil.orbit.times import parse_time

        if epoch is not None:
            check_epoch(epoch, lab)
        if lab.orbit is None:
            return None
        constellation = constellation_of(lab)
        moment = epoch or lab.orbit.epoch
        plan = plan_links(
            constellation,
            candidates(lab),
            start=parse_time(moment) if moment else constellation.epoch,
            span_s=lab.orbit.span_h * 3600,
            seed=lab.bench.seed,
        )
        return cls(lab, plan.scaled(1 / lab.orbit.time_factor))

    @classmethod
    def load(cls, path: Path, lab: Lab) -> OrbitClock:
        """Return what :meth:`save` wrote."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(lab, LinkPlan.from_json(document["plan"]), document["zero_ns"])

    def save(self, path: Path) -> None:
        """For other processes that use the bench."""
        document = {"zero_ns": self.zero_ns, "plan": self.plan.to_json()}
        path.write_text(json.dumps(document), encoding="utf-8")

    @property
    def epoch(self) -> datetime:
        """Moment of the mission at which the bench started."""
        return self.plan.start

    @cached_property
    def constellation(self) -> Constellation:
        return constellation_of(self.lab)

    @cached_property
    def _topology(self) -> list[tuple[float, frozenset[str]]]:
        return self.plan.topology()

    @cached_property
    def _mission_plan(self) -> LinkPlan:
        return self.plan.scaled(self.time_factor)

    @cached_property
    def services(self) -> tuple[Service, ...]:
        """Which spacecraft serves each guest from when to when, in seconds since the epoch."""
        from hil.orbit.services import services_tracked

        return services_tracked(self.constellation, self.plan, candidates(self.lab))

    def now_s(self) -> float:
        """Return seconds since the epoch, of the bench's clock."""
        return (time.monotonic_ns() - self.zero_ns) / 1e9

    def mission_time(self) -> datetime:
        """Return the time of the mission now."""
        return self.epoch + timedelta(seconds=self.now_s() * self.time_factor)

    def tracked(self, at_s: float) -> frozenset[str]:
        """Return links following the orbit that can be used at a moment, a fade that passes aside."""
        latest = bisect_right(self._topology, at_s, key=itemgetter(0)) - 1
        return self._topology[max(0, latest)][1]

    def usable(self) -> frozenset[str]:
        """Return links, fixed ones included, that can be used now and still can when ``LEAD_S`` have passed.

        Of a guest's links it is the one to the spacecraft that serves it: where contacts overlap, it is handed over.
        """
        now_s = self.now_s()
        fixed = {link.name for link in self.lab.links if not link.follows_orbit}
        idle = {link.name for link in self.lab.links if link.kind == "guest" and link.follows_orbit}
        if idle:
            serving = [{s.guest, s.spacecraft} for s in self.services if s.start_s <= now_s + LEAD_S < s.end_s]
            idle -= {name for name in idle if {*self.lab.link(name).between} in serving}
        return ((self.tracked(now_s) & self.tracked(now_s + LEAD_S)) | fixed) - idle

    def window(self, from_ns: int, to_ns: int) -> list[ScheduleRow]:
        """Rows of every link for the player: state at ``from_ns``, then its changes before ``to_ns``.

        Beyond the end of the plan links stay as they were last.
        """
        from hil.orbit.sampled import samples

        plan, per_ns = self._mission_plan, self.time_factor / 1e9
        found = samples(
            self.constellation,
            candidates(self.lab),
            plan,
            from_s=min(from_ns * per_ns, plan.span_s),
            to_s=min(to_ns * per_ns, plan.span_s),
        )
        return [
            ScheduleRow(max(from_ns, round(row.at_s / per_ns)), row.link, row.up, row.delay_us, row.loss_ppm)
            for row in found
        ]


def candidates(lab: Lab) -> list[Candidate]:
    """Return the links of a lab that follow the orbit."""
    return [
        Candidate(name=link.name, kind=link.kind, a=link.between[0], b=link.between[1], mtu=link.mtu)
        for link in lab.links
        if link.follows_orbit
    ]


def constellation_of(lab: Lab) -> Constellation:
    """Return the constellation of a lab's orbit file, which has every node that a link following the orbit joins.

    Raises ConfigurationError naming the node that is missing, or what is wrong with the file.
    """
    from hil.orbit.elements import load_constellation

    assert lab.orbit is not None
    path = lab.file.parent / lab.orbit.file
    constellation = load_constellation(path)
    for link in lab.links:
        for node in link.between:
            if link.follows_orbit and node not in constellation.nodes:
                raise ConfigurationError(
                    f"{lab.file}: link {link.name} follows the orbit, but {path} has no {node}",
                    remedy=f"nodes there: {', '.join(constellation.nodes)}",
                )
    return constellation
