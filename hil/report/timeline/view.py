"""What stands around the timeline: its legend, what is folded, and interruptions in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hil.evidence.model import plural
from hil.report.timeline.drawing import timeline_svg
from hil.report.timeline.lanes import CATEGORIES, Lanes
from hil.report.timeline.link_lanes import PHASES
from hil.report.units import css


@dataclass(frozen=True)
class Key:
    """One entry of the legend: the class of its swatch, and what it means."""

    css: str
    text: str
    title: str = ""


def legend(lanes: Lanes) -> dict[str, Sequence[Key]]:
    """Return the legend of what occurs in the picture, and nothing else: ``boards`` and ``links``."""
    bars = [b for lane in lanes.boards for b in lane.bars]
    boards = [Key(f"c-{css(c)}", c) for c in CATEGORIES if any(b.category == c for b in bars)]
    if any(b.gaps for b in bars):
        boards.append(Key("key-gap", "interrupted"))
    if any(not b.ended for b in bars):
        boards.append(Key("key-unended", "failed or cut off"))
    if any(lane.off for lane in lanes.boards):
        boards.append(Key("key-off", "no power"))
    epochs = {b.category: b.label for lane in lanes.boards for b in lane.claims}
    boards += [Key(f"key-claim {name}", f"serving under {epochs[name]}") for name in sorted(epochs)]
    present = {b.category for link in lanes.links for b in link.phases}
    links = [Key(f"ph-{phase}", phase, meaning) for phase, meaning in PHASES.items() if phase in present]
    if any(link.cuts for link in lanes.links):
        links.append(Key("key-cut", "cut on command"))
    if lanes.routes:
        links.append(Key("key-route", "routes changed"))
    return {"boards": boards, "links": links}


def folded(lanes: Lanes) -> dict[str, Any]:
    """Return what the picture leaves out: links with their picture, boards by name; empty when nothing is."""
    rest = lanes.folded
    names = []
    if rest.links:
        steady = "" if any(link.changes for link in rest.links) else " that did not change"
        names.append(f"{plural(len(rest.links), 'link')}{steady}")
    if rest.boards:
        names.append(f"{plural(len(rest.boards), 'board')} that took no part")
    if not names:
        return {}
    title = " and ".join(names)
    crafts: dict[str, list[str]] = {}
    for lane in rest.boards:
        crafts.setdefault(lane.group, []).append(lane.name)
    svg = timeline_svg(replace(rest, boards=()), title=names[0]) if rest.links else ""
    return {"title": title[:1].upper() + title[1:], "svg": svg, "boards": crafts}


def interruptions(lanes: Lanes) -> list[dict[str, Any]]:
    """Return the transfers that stood still and went on, in words."""
    first = {lane.name: min((g.start_s for b in lane.bars for g in b.gaps), default=0.0) for lane in lanes.boards}
    return [
        {"board": lane.name, "step": bar.label, "start_s": gap.start_s, "end_s": gap.end_s, "why": gap.why}
        | {"resumed": ", ".join(f"{offset:,}" for offset in bar.resumed_at), "ended": bar.ended}
        for lane in sorted(lanes.boards, key=lambda lane: first[lane.name])
        for bar in lane.bars
        for gap in bar.gaps
    ]
