"""The made-up run in labs that follow an orbit: two spacecraft whose contact closes in mid-relay, and a ring of ten."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kits.synthetic_run import BOARDS, MONO_START, Writer, dump, fill, meta, plan_document

CLOSES_S, OPENS_S, AGAIN_S = 22.0, 42.0, 42.4
"""In the run ``gap``: the contact ends, returns, and bytes flow again."""
LATER_S = 20.4
"""So much later is everything after the relay was interrupted."""
ZERO_S = 1.0
"""The bench's mission time starts so long after the run."""

Phases = Iterable[tuple[str, float, float, str]]


@dataclass
class GapWriter(Writer):
    """The same run, in which the crosslink closes by plan in the middle of the relay instead of being cut."""

    def event(self, t_s: float, kind: str, **fields: Any) -> None:
        if kind in ("link.cut", "link.restore") and 21 < t_s < 24:
            return
        if kind == "test.end":
            began = t_s - fields["duration_s"]
            fields["duration_s"] = round(_later(t_s) - _later(began), 3)
        if kind == "watch.summary":
            spans = fields["claims"].items()
            fields["claims"] = {b: [[_later(s), _later(e), n] for s, e, n in of] for b, of in spans}
            fields["duration_s"] = _later(t_s)
        super().event(_later(t_s), kind, **fields)


def _later(t_s: float) -> float:
    return t_s if t_s <= 21.9 else t_s + LATER_S


def build_sky(directory: Path, kind: str = "gap") -> Path:
    """Write the run directory; ``kind`` is gap (two spacecraft) or ring (ten, forty boards, twenty links)."""
    (directory / "artefacts").mkdir(parents=True)
    dump(directory / "plan.json", plan_document())
    dump(directory / "history.json", {"runs": []})
    dump(directory / "run.json", _gap_meta(directory.name) if kind == "gap" else _ring_meta(directory.name))
    (directory / "artefacts" / "constellation.svg").write_text(PICTURE, "utf-8")
    (directory / "artefacts" / "schedule.csv").write_text("planned_s,late_us,link\n", "utf-8")
    writer = GapWriter(directory) if kind == "gap" else Writer(directory)
    fill(writer)
    end_s = 56.0
    if kind == "gap":
        _gap(writer)
    else:
        _ring(writer, end_s)
    writer.event(
        end_s - 0.3,
        "orbit.epoch",
        name="brief-gap" if kind == "gap" else "ring-of-ten",
        file=f"orbits/{'brief-gap' if kind == 'gap' else 'ring-of-ten'}.yaml",
        epoch="2026-03-21T05:14:00.000Z",
        zero_mono_s=MONO_START + ZERO_S,
        seed=1,
        assumed=["altitude 600 km, LTAN 18:00: the operator's elements are not public", "one ground station"],
    )
    writer.event(end_s - 0.3, "orbit.picture", file="artefacts/constellation.svg")
    late = {"late_p50_us": 212, "late_p99_us": 3141, "late_max_us": 9027}
    writer.event(
        end_s - 0.2, "link.schedule", rows=11873, **late, errors=0, held=0, lost=0, file="artefacts/schedule.csv"
    )
    writer.event(end_s, "run.end", interrupted="", configuration_error="")
    writer.write()
    if kind == "ring":
        _rename(directory / "evidence.jsonl")
    return directory


def timeline(writer: Writer, at_s: float, link: str, ends: tuple[str, str], phases: Phases) -> None:
    """One ``link.timeline`` event, as the bench writes it; not shifted."""
    Writer.event(
        writer,
        at_s,
        "link.timeline",
        link=link,
        link_kind="ground" if "gs-1" in ends else "crosslink",
        between=list(ends),
        intervals=[{"phase": p, "start_s": a, "end_s": b, "why": why} for p, a, b, why in phases],
    )


def _gap_meta(run_id: str) -> dict[str, Any]:
    facts = meta(run_id)
    facts["lab"] = "brief-gap"
    for link in facts["links"].values():
        link["one_way_delay_us"] = None
    return facts


def _gap(writer: Writer) -> None:
    end = 76.2
    timeline(writer, end, "ground", ("gs-1", "sc-a"), [("track", -0.4, end, "open when the plan starts")])
    phases = (
        ("track", -0.4, 12.30, "open when the plan starts"),
        ("fade", 12.30, 12.34, "fade drawn 0.040 s"),
        ("track", 12.34, CLOSES_S, ""),
        ("blocked", CLOSES_S, 30.5, "out of range"),
        ("slew", 30.5, 34.0, "turns 48 degrees before the contact opens"),
        ("acquire", 34.0, OPENS_S, "acquisition drawn 8.0 s"),
        ("track", OPENS_S, 70.1, ""),
        ("lost", 70.1, 70.3, "fade of 0.210 s is longer than 0.1 s"),
        ("reacquire", 70.3, 73.0, "reacquisition drawn 2.7 s"),
        ("track", 73.0, end, ""),
    )
    timeline(writer, end, "isl-ab", ("sc-a", "sc-b"), phases)
    Writer.event(
        writer,
        25.2 + LATER_S,
        "contact.gap",
        what="the relay across a closing contact",
        links=["isl-ab"],
        begun_s=19.0,
        closes_s=CLOSES_S - ZERO_S,
        opens_s=OPENS_S - ZERO_S,
        bytes_at_close=23_068_672,
        bytes_held=23_330_816,
        flowed_again_s=AGAIN_S - ZERO_S,
        ended_s=25.2 + LATER_S - ZERO_S,
    )
    for at_s, why in ((CLOSES_S, "isl-ab lost"), (OPENS_S, "isl-ab came")):
        Writer.event(writer, at_s, "route.change", changed=4, why=why)


_NAMES = {board: f"k0{1 + number // 3}{'abc'[number % 3]}" for number, board in enumerate(BOARDS)} | {
    "isl-ab": "isl-01-02",
    "ground": "gnd-01",
    "sc-a": "sc-01",
    "sc-b": "sc-02",
}


def _rename(path: Path) -> None:
    """Boards and links of the small lab under the names they have in the ring."""
    text = path.read_text("utf-8")
    for old, new in _NAMES.items():
        text = text.replace(json.dumps(old), json.dumps(new))
    path.write_text(text, "utf-8")


def _ring_links() -> dict[str, tuple[str, str]]:
    crafts = [f"sc-{n:02d}" for n in range(1, 11)]
    ground = {f"gnd-{c[3:]}": ("gs-1", c) for c in crafts}
    pairs = zip(crafts, [*crafts[1:], crafts[0]], strict=True)
    return ground | {f"isl-{a[3:]}-{b[3:]}": (a, b) for a, b in pairs}


def _ring_meta(run_id: str) -> dict[str, Any]:
    facts = meta(run_id)
    a_board, a_link = facts["boards"]["a1"], facts["links"]["isl-ab"]
    facts["lab"], facts["gateway"] = "kepler", "k01a"
    facts["boards"] = {
        f"k{n:02d}{letter}": {**a_board, "spacecraft": f"sc-{n:02d}"} for n in range(1, 11) for letter in "abcd"
    }
    facts["links"] = {
        name: {
            **a_link,
            "kind": "ground" if name.startswith("gnd") else "crosslink",
            "between": list(ends),
            "one_way_delay_us": None,
            "rate_scaled": name.startswith("isl"),
            "source": "",
        }
        for name, ends in _ring_links().items()
    }
    facts["participants"] = {
        "spacecraft": ["sc-01", "sc-02"],
        "boards": [_NAMES[b] for b in BOARDS],
        "gateway": "k01a",
        "way": ["isl-01-02"],
        "hops": 1,
        "bystanders": 34,
        "text": "3+3 boards on sc-01 and sc-02, 1 hop apart; 34 other boards stay up",
    }
    return facts


def _ring(writer: Writer, end: float) -> None:
    for name, ends in _ring_links().items():
        phases: list[tuple[str, float, float, str]] = [("track", -0.4, end, "open when the plan starts")]
        if name == "gnd-01":
            phases = [("track", -0.4, 41.0, "open when the plan starts"), ("blocked", 41.0, end, "below 10 degrees")]
        elif name == "gnd-02":
            phases = [("idle", -0.4, 41.0, "gs-1 points at sc-01"), ("acquire", 41.0, 43.0, "2.0 s")]
            phases.append(("track", 43.0, end, ""))
        elif name.startswith("gnd"):
            phases = [("blocked", -0.4, end, "behind the Earth")]
        elif name == "isl-07-08":
            phases = [("track", -0.4, 31.0, ""), ("lost", 31.0, 31.2, "fade of 0.2 s")]
            phases += [("reacquire", 31.2, 44.0, "reacquisition drawn 12.8 s"), ("track", 44.0, end, "")]
        timeline(writer, end, name, ends, phases)
    for at_s, why in ((21.4, "isl-01-02 lost"), (23.4, "isl-01-02 came"), (31.0, "isl-07-08 lost")):
        writer.event(at_s + 0.2, "route.change", changed=12, why=why)


PICTURE = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 200" width="400" height="200" onload="alert(1)">
<title>ring-of-ten at 2026-03-21T05:14:00Z</title>
<style>svg{background:#fff} .sea,.isl{stroke:#8aa0b8} text{fill:#223}
@import "https://example.invalid/x.css"; .gs{background:url(https://example.invalid/x.png)}</style>
<script>alert(1)</script><a href="https://example.invalid/"><text x="1" y="9">a link</text></a>
<circle class="sea" cx="100" cy="100" r="80"><title>the Earth &lt;here&gt;</title></circle>
<line class="isl" x1="20" y1="20" x2="180" y2="20" onclick="alert(1)" style="position:fixed"/>
<image href="https://example.invalid/x.png"/><foreignObject><body>x</body></foreignObject>
<text x="20" y="15">sc-01</text>
</svg>
"""
