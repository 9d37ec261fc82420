"""Where the spacecraft were during the run, what the links were to do, and how the link box kept up with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from hil.evidence.events import OrbitEpoch, OrbitPicture
from hil.evidence.readback import RunRecord
from hil.report.svgfile import inline_svg
from hil.report.timeline.bars import Bar
from hil.report.timeline.link_lanes import CARRIES, LinkLane

MOST_CHANGES = 60
PICTURE = "constellation"
"""Class of the element around the picture in the page."""


@dataclass(frozen=True)
class OrbitSection:
    """What the page says about the orbit of a run."""

    facts: tuple[tuple[str, str], ...]
    picture: str  # safe SVG, or empty
    picture_file: str  # for a link to it, or empty
    assumed: tuple[str, ...]
    changes: tuple[tuple[str, Bar, str], ...]  # link, its phase, and the mission time at which that began
    left_out: int  # changes beyond those listed
    dated: bool  # the mission time is known
    has_timeline: bool

    @property
    def recorded(self) -> bool:
        """Whether the run says anything about an orbit."""
        return bool(self.facts or self.picture or self.picture_file or self.has_timeline)


def orbit_section(run: RunRecord, links: Sequence[LinkLane]) -> OrbitSection:
    """Collect it from the evidence; all of it may be missing."""
    epoch, picture = run.last(OrbitEpoch), run.last(OrbitPicture)
    path = inside(run.directory, picture.file) if picture else None
    timed = any(link.phases for link in links)
    start, factor = _mission_start(run, epoch), epoch.time_factor if epoch else 1.0
    changes = [
        (link.name, phase, f"{start + timedelta(seconds=phase.start_s * factor):%H:%M:%S}" if start else "")
        for link in links
        if len(link.steady) > 1
        for phase in link.steady
    ]
    return OrbitSection(
        facts=tuple(_facts(epoch, links)) if epoch or timed else (),
        picture=(inline_svg(path, PICTURE) or "") if path else "",
        picture_file=href(run.directory, picture.file) if picture else "",
        assumed=epoch.assumed if epoch else (),
        changes=tuple(changes[:MOST_CHANGES]),
        left_out=max(0, len(changes) - MOST_CHANGES),
        dated=start is not None,
        has_timeline=timed,
    )


def inside(directory: Path, relative: str) -> Path | None:
    """Return a file of the run; None for one that is missing or lies outside of the run directory."""
    if not relative:
        return None
    path = (directory / relative).resolve()
    return path if path.is_relative_to(directory.resolve()) and path.is_file() else None


def href(directory: Path, *names: str) -> str:
    """Return the link to the first of these files that lies in the run; empty when none does."""
    files = (inside(directory, name) for name in names)
    return next((file.relative_to(directory.resolve()).as_posix() for file in files if file), "")


def _mission_start(run: RunRecord, epoch: OrbitEpoch | None) -> datetime | None:
    """Return mission time at the start of the run: ``epoch`` was at ``zero_mono_s`` on the clock of the evidence."""
    zero, start = epoch.zero_mono_s if epoch else None, run.meta.get("mono_start_s")
    if epoch is None or zero is None or not isinstance(start, int | float):
        return None
    try:
        return datetime.fromisoformat(epoch.epoch) - timedelta(seconds=(zero - start) * epoch.time_factor)
    except ValueError:
        return None


def _facts(epoch: OrbitEpoch | None, links: Sequence[LinkLane]) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if epoch is not None:
        facts += [
            ("Orbit", " from ".join(t for t in (epoch.name, epoch.file) if t)),
            ("Mission time", _utc(epoch.epoch)),
            (
                "Mission time passed",
                "" if epoch.time_factor == 1 else f"{epoch.time_factor:g} times faster than the bench's",
            ),
            ("Seed of the draws", "" if epoch.seed is None else str(epoch.seed)),
        ]
    for kind, name in (("crosslink", "Crosslinks"), ("ground", "Ground links"), ("guest", "Links of guests")):
        planned = [link for link in links if link.kind == kind and link.phases]
        if planned:
            up = sum(link.phases[0].category in CARRIES for link in planned)
            moved = sum(len(link.steady) > 1 for link in planned)
            text = f"{up} of {len(planned)} up at the start; {moved or 'none'} changed during the run"
            facts.append((name, text))
    return [(name, text) for name, text in facts if text]


def _utc(text: str) -> str:
    """Return e.g. ``2026-03-21 05:14:00 UTC``; what is no time stays as it is."""
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC when the bench came up"
    except ValueError:
        return text
