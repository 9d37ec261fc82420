"""Who serves a guest when: one spacecraft at a time, handed over as contacts end.

The rule is that of terminals: whoever serves does so until its contact ends; then comes the one in contact whose
contact lasts longest, or, where there is none, the next to come.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from hil.orbit.contact_plan import ContactPlan
from hil.orbit.elements import Constellation
from hil.orbit.geometry import elevation_deg, range_km, track
from hil.orbit.phases import USABLE, Candidate, LinkPlan
from hil.orbit.track_files import Flight


@dataclass(frozen=True)
class Service:
    """A spacecraft serves a guest; seconds from the plan's start.

    ``overlap_s`` is how long it and ``then`` are both in contact when it ends; below 0: how long the guest waits.  None
    where nobody comes after it.
    """

    guest: str
    spacecraft: str
    start_s: float
    end_s: float
    then: str = ""
    overlap_s: float | None = None

    @property
    def is_handed_over(self) -> bool:
        """Return whether another spacecraft comes after it."""
        return self.then not in ("", self.spacecraft)


@dataclass(frozen=True)
class _Run:
    start_s: float
    end_s: float
    spacecraft: str


@dataclass(frozen=True)
class Sight:
    """Least and greatest range (km) of a service; elevation seen from the guest (degrees), None from a satellite."""

    range_km: tuple[float, float]
    elevation_deg: tuple[float, float] | None


def services_in_sight(found: Constellation, plan: ContactPlan) -> tuple[Service, ...]:
    """Return who serves each guest by the geometry alone: terminals are free, and at once on target."""
    runs: dict[str, list[_Run]] = {guest.name: [] for guest in found.guests}
    for contact in plan.contacts:
        if contact.kind == "guest":
            runs[contact.b].append(_Run(contact.start_s, contact.end_s, contact.a))
    return tuple(_services(runs))


def services_tracked(found: Constellation, plan: LinkPlan, candidates: Sequence[Candidate]) -> tuple[Service, ...]:
    """Return who serves each guest by the phases of a link plan: a fade does not end a service, a lost link does."""
    runs: dict[str, list[_Run]] = {guest.name: [] for guest in found.guests}
    for link in candidates:
        if link.kind != "guest" or link.name not in plan.links:
            continue
        guest, craft = (link.a, link.b) if link.a in runs else (link.b, link.a)
        for interval in plan.links[link.name]:
            if interval.phase not in USABLE:
                continue
            whole = runs[guest][-1] if runs[guest] else None
            if whole and (whole.spacecraft, whole.end_s) == (craft, interval.start_s):
                runs[guest][-1] = replace(whole, end_s=interval.end_s)
            else:
                runs[guest].append(_Run(interval.start_s, interval.end_s, craft))
    return tuple(_services(runs))


def sight(found: Constellation, start: datetime, service: Service) -> Sight:
    """Return how guest and spacecraft see each other during a service, over samples at most 10 s apart.

    Raises ConfigurationError where SGP4 fails.
    """
    pair = found.only(service.guest, service.spacecraft)
    count = 2 + math.ceil((service.end_s - service.start_s) / 10)
    here = track(pair, start, np.linspace(service.start_s, service.end_s, count)).position.transpose(1, 2, 0)
    craft, guest, zenith = here
    apart = range_km(craft, guest)
    flies = isinstance(pair.guest_paths[0], Flight)
    up = elevation_deg(guest, zenith, craft)
    return Sight((float(apart.min()), float(apart.max())), (float(up.min()), float(up.max())) if flies else None)


def _services(runs: Mapping[str, Sequence[_Run]]) -> Iterator[Service]:
    for guest, every in runs.items():
        waiting = sorted(every, key=_rank)
        serving, since_s = (waiting[0], waiting[0].start_s) if waiting else (None, 0.0)
        while serving:
            waiting = [run for run in waiting if run.end_s > serving.end_s]
            here = [run for run in waiting if run.start_s <= serving.end_s]
            after = max(here, key=lambda run: run.end_s) if here else min(waiting, key=_rank, default=None)
            service = Service(guest, serving.spacecraft, since_s, serving.end_s)
            yield replace(service, then=after.spacecraft, overlap_s=serving.end_s - after.start_s) if after else service
            since_s = max(serving.end_s, after.start_s) if after else 0.0
            serving = after


def _rank(run: _Run) -> tuple[float, float]:
    """Return what puts runs in order: the first to begin, of those the longest."""
    return run.start_s, -run.end_s
