"""Contact plans: when which nodes see each other, how far light travels, how fast that changes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

import numpy as np

from hil.errors import ConfigurationError
from hil.orbit.elements import Constellation
from hil.orbit.geometry import Track, one_way_delay_us, track
from hil.orbit.phases import Kind
from hil.orbit.segments import Segments, crosslink_segments, ground_segments, joined, neighbours
from hil.orbit.times import Floats, Ints
from hil.orbit.track_files import Flight

STEP_S = 1.0
"""Seconds between two looks at the geometry where nothing else is asked for; `hil orbit contacts --help` names it."""

MAX_SAMPLES = 20_000_000
"""Samples in time a plan may take: beyond it a span and a step were surely confused."""

_ALL_PAIRS_UP_TO = 64  # spacecraft; beyond it, a coarse filter first
_FILTERED_BLOCK_S = 120.0  # a longer block filters worse (everything moves on), a shorter one more often
_ITEMS = 150_000  # pairs x samples worked on at once: temporaries stay in the cache


@dataclass(frozen=True)
class Contact:
    """An interval in which two nodes see each other; both directions.

    Times are seconds from the plan's start; ``open_start``/``open_end`` say that the contact is cut by the span,
    not by geometry.  ``range_rate`` is positive while the two move apart.  Extremes are taken over the samples
    and the two edges.
    """

    kind: Kind
    a: str
    b: str
    start_s: float
    end_s: float
    min_delay_us: float
    max_delay_us: float
    min_range_rate_km_s: float
    max_range_rate_km_s: float
    rate_bps: int
    open_start: bool = False
    open_end: bool = False

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True)
class ContactPlan:
    """All contacts of a span, in order of start, a, b."""

    name: str
    start: datetime
    duration_s: float
    step_s: float
    nodes: tuple[str, ...]
    contacts: tuple[Contact, ...]

    def between(self, a: str, b: str) -> tuple[Contact, ...]:
        """Return contacts of one pair, whichever way round."""
        return tuple(c for c in self.contacts if {c.a, c.b} == {a, b})

    def at(self, second: float) -> tuple[Contact, ...]:
        """Return contacts that exist at a moment."""
        return tuple(c for c in self.contacts if c.start_s <= second <= c.end_s)

    def time(self, second: float) -> datetime:
        return self.start + timedelta(seconds=second)


def contact_plan(
    found: Constellation, start: datetime | None = None, *, duration_s: float, step_s: float = STEP_S
) -> ContactPlan:
    """Return every contact of ``duration_s`` from ``start`` (default: the constellation's epoch).

    Edges are refined to 1 ms; a contact or a gap shorter than ``step_s`` that falls between two samples is not
    seen.  Raises ConfigurationError: span or step out of bounds, or SGP4 fails.
    """
    begin = start or found.epoch
    arrays = contact_arrays(found, begin, duration_s=duration_s, step_s=step_s)
    return ContactPlan(found.name, begin, duration_s, step_s, found.nodes, tuple(_contacts(found, arrays)))


def contact_arrays(found: Constellation, start: datetime, *, duration_s: float, step_s: float = STEP_S) -> Segments:
    """Return the same as columns (nodes by index, range in km), which is what a thousand spacecraft want.

    Works through the span in blocks: memory is that of one block (nodes x samples of about two minutes beyond 64
    spacecraft) and of the contacts found.
    """
    seconds = _samples(duration_s, step_s)
    done: list[Segments] = []
    running = Segments.none()
    for block in _blocks(found, seconds):
        here = track(found, start, block)
        every = joined([running, *_block_segments(found, here), *_guest_segments(found, here, start)])
        goes_on = every.open_end & (every.end_s == block[-1])
        running = every.take(goes_on)
        done.append(every.take(~goes_on))
    every = Segments.concatenate([*done, running])
    return every.take(np.lexsort((every.b, every.a, every.start_s)))


def _samples(duration_s: float, step_s: float) -> Floats:
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise ConfigurationError(f"a span of {duration_s} s", remedy="give a span longer than 0")
    if not (math.isfinite(step_s) and 0.001 <= step_s <= 120):
        raise ConfigurationError(f"a step of {step_s} s", remedy="give a step from 0.001 to 120 s")
    if duration_s / step_s > MAX_SAMPLES:
        raise ConfigurationError(
            f"{duration_s:g} s in steps of {step_s:g} s are more than {MAX_SAMPLES:,} samples",
            remedy="take a shorter span or a longer step",
        )
    seconds = np.arange(0, math.floor(duration_s / step_s) + 1) * step_s
    if duration_s - seconds[-1] > 1e-6:
        return np.append(seconds, duration_s)
    return np.asarray(seconds, dtype=np.float64)


def _blocks(found: Constellation, seconds: Floats) -> Iterator[Floats]:
    """Consecutive blocks of samples; each begins with the sample at which the one before ended."""
    count = len(found.spacecraft)
    step = float(seconds[1] - seconds[0])
    if count <= _ALL_PAIRS_UP_TO:
        size = max(8, 2 * _ITEMS // (count * (count + 1)))
        size = min(size, 4096)
    else:
        size = max(1, int(_FILTERED_BLOCK_S / step))
    for first in range(0, len(seconds) - 1, size):
        yield seconds[first : first + size + 1]


def _block_segments(found: Constellation, here: Track) -> Iterator[Segments]:
    rules = found.crosslinks
    a, b = neighbours(here, rules.max_range_km, rules.grazing_floor_km, everybody=here.spacecraft <= _ALL_PAIRS_UP_TO)
    rows = max(1, _ITEMS // len(here.seconds))
    for first in range(0, len(a), rows):
        part = slice(first, first + rows)
        yield crosslink_segments(here, a[part], b[part], rules.max_range_km, rules.grazing_floor_km)
    everyone: Ints = np.arange(here.spacecraft)
    for index, station in enumerate(found.stations):
        for first in range(0, len(everyone), rows):
            craft = everyone[first : first + rows]
            yield ground_segments(here, craft, here.spacecraft + index, station.mask_deg)


def _guest_segments(found: Constellation, here: Track, start: datetime) -> Iterator[Segments]:
    """Runs between guests and the constellation's own spacecraft."""
    everyone: Ints = np.arange(here.spacecraft)
    first_node = here.nodes - len(found.guests)
    rows, rules = max(1, _ITEMS // len(here.seconds)), found.crosslinks
    for node, guest, path in zip(range(first_node, here.nodes), found.guests, found.guest_paths, strict=True):
        most_km = min(guest.max_range_km, rules.max_range_km)
        for first in range(0, len(everyone), rows):
            craft = everyone[first : first + rows]
            if isinstance(path, Flight):
                present_s = path.span(start)
                yield ground_segments(here, craft, node, guest.mask_deg, max_range_km=most_km, present_s=present_s)
            else:
                yield crosslink_segments(here, craft, np.full_like(craft, node), most_km, rules.grazing_floor_km)


def _contacts(found: Constellation, arrays: Segments) -> Iterator[Contact]:
    names, count = found.nodes, len(found.spacecraft)
    far: list[tuple[Kind, int]] = [("crosslink", found.crosslinks.rate_bps)] * count
    far += [("ground", station.rate_bps) for station in found.stations]
    far += [("guest", guest.rate_bps) for guest in found.guests]
    columns = (getattr(arrays, field.name).tolist() for field in fields(arrays))
    for a, b, start_s, end_s, least_km, most_km, slowest, fastest, open_start, open_end in zip(*columns, strict=True):
        kind, rate_bps = far[b]
        yield Contact(
            kind=kind,
            a=names[a],
            b=names[b],
            start_s=start_s,
            end_s=end_s,
            min_delay_us=float(one_way_delay_us(least_km)),
            max_delay_us=float(one_way_delay_us(most_km)),
            min_range_rate_km_s=slowest,
            max_range_rate_km_s=fastest,
            rate_bps=rate_bps,
            open_start=open_start,
            open_end=open_end,
        )
