"""Who takes part in a campaign: some boards of two spacecraft of a lab that may have many more.  Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from hil.errors import ConfigurationError
from hil.lab.model import Lab, Spacecraft
from hil.lab.routes import path

WHOLE_LAB_BOARDS = 6
"""A lab of at most so many boards on at most two spacecraft takes part as a whole."""
PER_SPACECRAFT = 3
"""Boards of each spacecraft when neither the lab nor ``--split`` says otherwise."""
SMALL_LAB_LINKS = 6
"""A lab of at most so many links is calibrated as a whole."""

_SPLIT = re.compile(r"([1-9]\d?)\+([1-9]\d?)")


@dataclass(frozen=True)
class Participants:
    """The chosen boards; the spacecraft with the gateway comes first, and in it the gateway."""

    spacecraft: tuple[str, ...]
    boards: tuple[str, ...]
    gateway: str
    split: str
    way: tuple[str, ...]
    """Links of the shortest way from the first spacecraft to the second, when all of them are up."""
    others: tuple[str, ...]
    """All other boards of the lab: they stay up and must be left alone."""

    @property
    def near(self) -> str:
        """The spacecraft with the gateway."""
        return self.spacecraft[0]

    @property
    def far(self) -> str:
        """The other spacecraft; ConfigurationError when only one takes part."""
        if len(self.spacecraft) < 2:
            raise ConfigurationError(
                f"only {self.near} takes part, and this needs a second spacecraft",
                remedy="use a lab with a crosslink, or name two spacecraft with --on",
            )
        return self.spacecraft[1]

    @property
    def crosslink(self) -> str:
        """The link between the two, the first one where there are several; ConfigurationError as for ``far``."""
        assert self.far  # so there is a way
        return self.way[0]

    def facts(self) -> dict[str, Any]:
        """As the evidence has it."""
        return {
            "spacecraft": list(self.spacecraft),
            "split": self.split,
            "gateway": self.gateway,
            "boards": list(self.boards),
            "way": list(self.way),
            "hops": len(self.way),
            "bystanders": len(self.others),
            "text": str(self),
        }

    def __str__(self) -> str:
        apart = f"; {len(self.way)} hop{'s' * (len(self.way) > 1)} apart" if self.way else ""
        rest = f"; {len(self.others)} other boards are to be left alone" if self.others else ""
        return f"{', '.join(self.boards)} ({self.split} on {' and '.join(self.spacecraft)}){apart}{rest}"


def choose(lab: Lab, on: str | None = None, split: str | None = None) -> Participants:
    """Participants of a lab by ``on`` ("sc-01,sc-02", the gateway's first) and ``split`` ("4+2").

    Without either: a lab of at most six boards on two spacecraft as a whole; else three boards (or as many as
    there are) of the spacecraft with the lab's gateway and of its first crosslink neighbour in the lab file.
    ConfigurationError names what is wrong and what there is.
    """
    chosen = _named(lab, on) if on else _usual(lab)
    counts = _counts(split, chosen) if split else _usual_counts(chosen)
    names = tuple(craft.name for craft in chosen)
    way = path(lab, names[0], names[-1])
    if way is None:
        raise ConfigurationError(
            f"{names[0]} and {names[-1]} are not joined by crosslinks",
            remedy="choose two spacecraft with a chain of crosslinks between them",
        )
    boards: list[str] = []
    for craft, count in zip(chosen, counts, strict=True):
        # Sorting is stable: lab file order, but the gateway before all others.
        carried = sorted((b.name for b in craft.boards), key=lambda name: name != lab.gateway)
        boards += carried[:count]
    return Participants(
        spacecraft=names,
        boards=tuple(boards),
        gateway=boards[0],
        split="+".join(str(count) for count in counts),
        way=tuple(way),
        others=tuple(b.name for b in lab.boards if b.name not in boards),
    )


def second_way(lab: Lab, participants: Participants) -> list[str] | None:
    """Links from one spacecraft to the other without the first link of the usual way; None when there is none."""
    if not participants.way:
        return None
    rest = {link.name for link in lab.links} - {participants.way[0]}
    return path(lab, participants.near, participants.far, rest)


def links_that_matter(lab: Lab, participants: Participants, usable: Collection[str]) -> list[str]:
    """Return links that a campaign relies on, in lab file order: what has to be calibrated.

    Those of the participants' spacecraft, those on the ways between them and from the ground, and every ground
    link; of a small lab all.  A link that follows the orbit only while it is in ``usable``: it has nothing to
    calibrate while the plan keeps it down.
    """
    ground = lab.ground_station.name
    ends = {*participants.spacecraft, ground}
    on_the_way = {*participants.way, *(path(lab, ground, participants.near, usable) or ())}
    small = len(lab.links) <= SMALL_LAB_LINKS
    return [
        link.name
        for link in lab.links
        if (small or ends & {*link.between} or link.name in on_the_way)
        and (link.name in usable or not link.follows_orbit)
    ]


def _named(lab: Lab, on: str) -> list[Spacecraft]:
    by_name = {craft.name: craft for craft in lab.spacecraft}
    names = [name.strip() for name in on.split(",")]
    if unknown := [name for name in names if name not in by_name]:
        raise ConfigurationError(
            f"--on {on}: lab {lab.name} has no spacecraft {', '.join(n or repr(n) for n in unknown)}",
            remedy=f"choose two of {', '.join(by_name)}",
        )
    if len(names) != 2 or names[0] == names[1]:
        raise ConfigurationError(
            f"--on {on}: a campaign runs on two spacecraft",
            remedy="name two different ones with a comma between them; the first one carries the gateway",
        )
    return [by_name[name] for name in names]


def _usual(lab: Lab) -> list[Spacecraft]:
    near = lab.spacecraft_of(lab.gateway)
    others = [craft for craft in lab.spacecraft if craft.boards and craft is not near]  # some tenants have few
    if len(others) == 1:
        return [near, *others]
    for link in lab.links:
        if link.kind == "crosslink" and near.name in link.between:
            neighbour = link.between[1 - link.between.index(near.name)]
            if found := [craft for craft in others if craft.name == neighbour]:
                return [near, *found]
    return [near]


def _usual_counts(chosen: list[Spacecraft]) -> list[int]:
    there = [len(craft.boards) for craft in chosen]
    return there if sum(there) <= WHOLE_LAB_BOARDS else [min(PER_SPACECRAFT, n) for n in there]


def _counts(split: str, chosen: list[Spacecraft]) -> list[int]:
    match = _SPLIT.fullmatch(split.strip())
    if not match:
        raise ConfigurationError(
            f"--split {split}: not a split",
            remedy="write boards on the gateway's spacecraft + boards on the other one, like 3+3 or 4+2",
        )
    if len(chosen) < 2:
        raise ConfigurationError(f"--split {split}: only {chosen[0].name} can take part", remedy="leave it out")
    counts = [int(match[1]), int(match[2])]
    for craft, count in zip(chosen, counts, strict=True):
        if count > len(craft.boards):
            have = "1 board" if len(craft.boards) == 1 else f"{len(craft.boards)} boards"
            raise ConfigurationError(
                f"--split {split}: {craft.name} has {have}, {count} are wanted",
                remedy="choose another split, or other spacecraft with --on",
            )
    return counts
