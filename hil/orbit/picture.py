"""Pictures of a constellation as one self-contained SVG: globe, map, and a chart of its links over a span."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from html import escape
from textwrap import wrap

import numpy as np

from hil.errors import ConfigurationError
from hil.orbit.chart import RULES, chart
from hil.orbit.contacts import contact_plan
from hil.orbit.elements import EARTH_RADIUS_KM, Constellation
from hil.orbit.geometry import one_way_delay_us, range_km, states, sub_satellite_deg
from hil.orbit.link_phases import every_candidate, plan_links
from hil.orbit.positions import track
from hil.orbit.sunlight import sun_km, sunlit_fraction
from hil.orbit.times import Bools, Floats, iso

WIDTH = 1180
_GLOBE = (290.0, 330.0, 250.0)  # centre x, centre y, radius of the picture
_MAP = (600.0, 120.0, 560.0, 280.0)  # x, y, width, height
_TOP = 620

MOST_PLANNED = 64
"""Spacecraft for which a chart shows who points where; beyond it only who is in sight."""

# Every rule is held to this picture: it may stand inside a page that has its own.
_RULES = """
text{fill:#223}.h{font-size:17px;font-weight:600}.m{fill:#667}
.sea{fill:#dbe7f3;stroke:#8aa0b8}.night{fill:#1b2a41;opacity:.28}.grid{stroke:#b9c8d8;fill:none;stroke-width:.6}
.orbit{fill:none;stroke:#9aa7b5}.behind{stroke-dasharray:3 4;opacity:.55}.isl{stroke:#d7263d;stroke-width:1.8}
.gnd{stroke:#0a7cbf;stroke-width:1.6;stroke-dasharray:6 3}.isl.off,.gnd.off{stroke:#8b97a5;stroke-width:.9;opacity:.7}
.lit{fill:#f6ae2d;stroke:#7a4d00}.dark{fill:#35405a;stroke:#0e1422}.part{fill:#a9843f;stroke:#33260a}.gs{fill:#0a7cbf}
.trk{fill:none;stroke:#7d8da0;stroke-width:.9}.ecl{fill:#35405a}.lane{fill:#f2f5f8}
"""
STYLE = ".sky{font:12px system-ui,sans-serif;background:#fff}" + "".join(
    ",".join(f".sky {name}" for name in rule.partition("{")[0].split(","))
    + "{"
    + rule.partition("{")[2]
    + "}"
    for rule in (_RULES + RULES).replace("\n", "").split("}")
    if rule
)


def show(found: Constellation, at: datetime, *, hours: float = 0.0, seed: int = 0) -> str:
    """SVG of the constellation at a moment; with ``hours``, a chart of what every link does in that span below it.

    Crosslinks are drawn wherever two spacecraft see each other within range; the chart's phases are those of a
    link plan of all these pairs with ``seed``.  Raises ConfigurationError where SGP4 fails.
    """
    if hours <= 0:
        return constellation_svg(found, at)
    step_s = min(10.0, hours * 360)
    span = contact_plan(found, at, duration_s=hours * 3600, step_s=step_s)
    links = None
    if len(found.spacecraft) <= MOST_PLANNED:
        links = plan_links(
            found, every_candidate(span), start=at, span_s=span.duration_s, seed=seed, step_s=step_s
        )
    drawing, tall = chart(found, span, links, top=_TOP, width=WIDTH)
    return _document(found, at, _moment(found, at, None), drawing, height=_TOP + tall)


def constellation_svg(
    constellation: Constellation, moment: datetime, *, links_up: Collection[tuple[str, str]] | None = None
) -> str:
    """SVG of the constellation at a moment: globe, map, sunlight, links.

    ``links_up``: pairs of node names, either way round, whose links are up; they stand out, and the other pairs in
    sight are thin and grey.  None: every pair in sight is drawn as a link.  Raises ConfigurationError where SGP4
    fails, or for a name that is no node.
    """
    return _document(constellation, moment, _moment(constellation, moment, links_up), height=_TOP)


def _document(found: Constellation, at: datetime, *parts: str, height: int) -> str:
    body = "\n".join(parts)
    title = escape(f"{found.name} at {iso(at)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="sky" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img"><title>{title}</title><style>{STYLE}</style>\n{body}\n</svg>\n'
    )


@dataclass(frozen=True)
class _Line:
    """A pair to draw: ``up`` None where nobody said."""

    kind: str
    a: str
    b: str
    up: bool | None


def _lines(found: Constellation, at: datetime, links_up: Collection[tuple[str, str]] | None) -> list[_Line]:
    """Pairs in sight, and those that are up even where geometry says no (a link held up by hand); up ones last."""
    now = contact_plan(found, at, duration_s=1.0, step_s=1.0)
    seen = [_Line(c.kind, c.a, c.b, None) for c in now.at(0.0)]
    if links_up is None:
        return seen
    if unknown := sorted({name for pair in links_up for name in pair} - set(found.nodes)):
        raise ConfigurationError(
            f"{found.name} has no {', '.join(unknown)}", remedy=f"there are {', '.join(found.nodes)}"
        )
    stations = {station.name for station in found.stations}
    up = {frozenset(pair): pair for pair in links_up}
    lines = [replace(line, up=False) for line in seen if frozenset((line.a, line.b)) not in up]
    for pair, (a, b) in sorted(up.items(), key=lambda item: item[1]):
        lines.append(_Line("ground" if pair & stations else "crosslink", a, b, True))
    return lines


def _moment(found: Constellation, at: datetime, links_up: Collection[tuple[str, str]] | None) -> str:
    lines = _lines(found, at, links_up)
    return "\n".join([_globe(found, at, lines), _map(found, at), _legend(found, at, lines)])


def _view(found: Constellation, at: datetime) -> Floats:
    """Rows: right, up, towards the eye.  The eye stands 30 degrees off the first plane's normal."""
    here = states(found, at, np.zeros(1))
    normal = np.cross(here.position_km[0, 0], here.velocity_km_s[0, 0])
    normal /= np.linalg.norm(normal)
    north = np.array([0.0, 0.0, 1.0])
    aside = np.cross(north, normal) if abs(normal[2]) < 0.99 else np.array([1.0, 0.0, 0.0])
    aside /= np.linalg.norm(aside)
    tilt = math.radians(30)
    eye = math.cos(tilt) * normal + math.sin(tilt) * aside
    right = np.cross(north, eye) if abs(eye[2]) < 0.99 else np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(eye, right), eye])


def _period_s(found: Constellation, craft: int) -> float:
    return 60 * 2 * math.pi / float(found.element_sets[craft].no_kozai)


def _globe(found: Constellation, at: datetime, lines: Sequence[_Line]) -> str:
    view, (cx, cy, size) = _view(found, at), _GLOBE
    everyone = _nodes_km(found, at)
    farthest = float(np.linalg.norm(everyone, axis=-1).max())
    scale = size / (farthest * 1.04)
    earth = EARTH_RADIUS_KM * scale

    def place(km: Floats) -> Floats:
        turned = km @ view.T
        return np.stack([cx + scale * turned[..., 0], cy - scale * turned[..., 1], turned[..., 2]], axis=-1)

    def hidden(km: Floats) -> Bools:
        turned = km @ view.T
        return np.asarray((turned[..., 2] < 0) & (np.hypot(turned[..., 0], turned[..., 1]) < EARTH_RADIUS_KM))

    out = [f'<circle class="sea" cx="{cx}" cy="{cy}" r="{earth:.1f}"/>']
    out.append(_night_side(view, sun_km(at, np.zeros(1))[0], cx, cy, earth))
    for plane in found.planes or [(k,) for k in range(min(len(found.spacecraft), 24))]:
        seconds = np.linspace(0, _period_s(found, plane[0]), 181)
        one = Constellation(found.name, found.epoch, ("a",), (found.element_sets[plane[0]],))
        orbit = states(one, at, seconds).position_km[0]
        out += _polylines(place(orbit), hidden(orbit))
    index = {name: k for k, name in enumerate(found.nodes)}
    for pair in lines:
        line = np.linspace(everyone[index[pair.a]], everyone[index[pair.b]], 40)
        (ax, ay, _), (bx, by, _) = place(line[0]), place(line[-1])
        kind = ("isl" if pair.kind == "crosslink" else "gnd") + (" off" if pair.up is False else "")
        behind = " behind" if hidden(line).mean() > 0.5 else ""
        delay_us = float(one_way_delay_us(range_km(line[0], line[-1])))
        says = {None: "", True: ", up", False: ", not up"}[pair.up]
        label = f"{pair.a} – {pair.b}: {delay_us / 1000:.3f} ms{says}"
        out.append(
            f'<line class="{kind}{behind}" x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}">'
            f"<title>{escape(label)}</title></line>"
        )
    lit = _sunlit(found, at)
    names = len(found.spacecraft) <= 40
    for k, name in enumerate(found.spacecraft):
        x, y, _ = place(everyone[k])
        behind = " behind" if hidden(everyone[k]) else ""
        out.append(
            f'<circle class="{_light(lit[k])}{behind}" cx="{x:.1f}" cy="{y:.1f}" r="{6 if names else 2}"/>'
        )
        if names:
            out.append(f'<text x="{x + 8:.1f}" y="{y - 7:.1f}">{escape(name)}</text>')
    for k, station in enumerate(found.stations, len(found.spacecraft)):
        if not hidden(everyone[k]):
            x, y, _ = place(everyone[k])
            out.append(f'<rect class="gs" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>')
            out.append(f'<text x="{x + 7:.1f}" y="{y + 12:.1f}">{escape(station.name)}</text>')
    return "\n".join(out)


def _night_side(view: Floats, sun: Floats, cx: float, cy: float, earth: float) -> str:
    """The half of the disc the Sun does not reach: an edge of the disc and half an ellipse (the terminator)."""
    direction = view @ (sun / np.linalg.norm(sun))
    turn = math.degrees(math.atan2(-direction[1], direction[0]))
    bulge = abs(direction[2]) * earth
    # With the Sun to the right, night is the left half; seen from behind the night side it is more than half.
    sweep = 1 if direction[2] < 0 else 0
    return (
        f'<path class="night" transform="rotate({turn:.2f} {cx} {cy})" d="M {cx} {cy - earth:.1f} '
        f"A {earth:.1f} {earth:.1f} 0 0 0 {cx} {cy + earth:.1f} "
        f'A {bulge:.1f} {earth:.1f} 0 0 {1 - sweep} {cx} {cy - earth:.1f} Z"/>'
    )


def _map(found: Constellation, at: datetime) -> str:
    left, top, wide, tall = _MAP

    def place(latitude: Floats, longitude: Floats) -> tuple[Floats, Floats]:
        return left + (longitude + 180) / 360 * wide, top + (90 - latitude) / 180 * tall

    out = [f'<rect class="sea" x="{left}" y="{top}" width="{wide}" height="{tall}"/>']
    for degrees in range(-150, 180, 30):
        line = left + (degrees + 180) / 360 * wide
        out.append(f'<line class="grid" x1="{line:.1f}" y1="{top}" x2="{line:.1f}" y2="{top + tall}"/>')
    for degrees in range(-60, 90, 30):
        line = top + (90 - degrees) / 180 * tall
        out.append(f'<line class="grid" x1="{left}" y1="{line:.1f}" x2="{left + wide}" y2="{line:.1f}"/>')
    out.append(_night_on_map(at))
    seconds = np.linspace(0, _period_s(found, 0), 241)
    tracked = len(found.spacecraft) if len(found.spacecraft) <= 12 else 1
    position = states(found, at, seconds).position_km
    latitudes, longitudes = sub_satellite_deg(position, at, seconds)
    for k in range(tracked):
        cut = np.nonzero(np.abs(np.diff(longitudes[k])) > 180)[0] + 1
        for piece in np.split(np.arange(len(seconds)), cut):
            x, y = place(latitudes[k][piece], longitudes[k][piece])
            out.append(f'<polyline class="trk" points="{_points(x, y)}"/>')
    lit = _sunlit(found, at)
    for k, name in enumerate(found.spacecraft):
        x, y = place(latitudes[k, 0], longitudes[k, 0])
        out.append(f'<circle class="{_light(lit[k])}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>')
        if len(found.spacecraft) <= 40:
            out.append(f'<text x="{x + 6:.1f}" y="{y - 5:.1f}">{escape(name)}</text>')
    for station in found.stations:
        east = (station.longitude_deg + 180) % 360 - 180
        x, y = place(np.asarray(station.latitude_deg), np.asarray(east))
        out.append(f'<rect class="gs" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>')
        out.append(f'<text x="{x + 7:.1f}" y="{y + 12:.1f}">{escape(station.name)}</text>')
    return "\n".join(out)


def _night_on_map(at: datetime) -> str:
    """Where the Sun is below the horizon: the sub-solar point gives the terminator's latitude per longitude."""
    left, top, wide, tall = _MAP
    latitude, longitude = sub_satellite_deg(sun_km(at, np.zeros(1)), at, np.zeros(1))
    declination = math.radians(float(latitude[0]))
    declination = declination if abs(declination) > 1e-4 else 1e-4
    east = np.linspace(-180, 180, 181)
    edge = np.degrees(np.arctan(-np.cos(np.radians(east - float(longitude[0]))) / math.tan(declination)))
    x = left + (east + 180) / 360 * wide
    y = top + (90 - edge) / 180 * tall
    pole = top + tall if declination > 0 else top
    return f'<polygon class="night" points="{left},{pole} {_points(x, y)} {left + wide},{pole}"/>'


def _legend(found: Constellation, at: datetime, pairs: Sequence[_Line]) -> str:
    links = [pair for pair in pairs if pair.kind == "crosslink"]
    passes = [pair for pair in pairs if pair.kind == "ground"]
    if any(pair.up is not None for pair in pairs):
        up = (sum(bool(pair.up) for pair in links), sum(bool(pair.up) for pair in passes))
        what = f"{up[0]} crosslinks up, {up[1]} up to the ground"
        what += f"; {len(pairs) - sum(up)} more pairs in sight" if len(pairs) > sum(up) else ""
    else:
        what = f"{len(links)} crosslinks possible, {len(passes)} in view of the ground"
    lit = _sunlit(found, at)
    eclipsed = int((lit < 1).sum())
    lines = [
        f"{len(found.spacecraft)} spacecraft, {what}",
        f"{len(lit) - eclipsed} in sunlight, {eclipsed} in eclipse or penumbra",
    ]
    out = [f'<text class="h" x="24" y="36">{escape(found.name)} at {iso(at)}</text>']
    out += [f'<text x="600" y="{60 + 20 * k}">{escape(line)}</text>' for k, line in enumerate(lines)]
    keys = (("lit", "sunlight"), ("part", "penumbra"), ("dark", "umbra"))
    for k, (kind, text) in enumerate(keys):
        out.append(f'<circle class="{kind}" cx="{612 + 110 * k}" cy="424" r="5"/>')
        out.append(f'<text x="{624 + 110 * k}" y="428">{text}</text>')
    for k, (kind, text) in enumerate((("isl", "crosslink"), ("gnd", "ground link"), ("isl off", "in sight"))):
        out.append(f'<line class="{kind}" x1="{604 + 130 * k}" y1="448" x2="{632 + 130 * k}" y2="448"/>')
        out.append(f'<text x="{640 + 130 * k}" y="452">{text}</text>')
    assumed = [
        line for text in found.assumed for line in wrap(f"assumed: {text}", 84, subsequent_indent="  ")
    ]
    for k, text in enumerate(assumed[:7]):
        out.append(f'<text class="m" x="600" y="{484 + 18 * k}">{escape(text)}</text>')
    return "\n".join(out)


def _nodes_km(found: Constellation, at: datetime) -> Floats:
    return track(found, at, np.zeros(1)).position[:, : len(found.nodes), 0].T


def _sunlit(found: Constellation, at: datetime) -> Floats:
    moment = np.zeros(1)
    return sunlit_fraction(states(found, at, moment).position_km, sun_km(at, moment))[:, 0]


def _light(fraction: float) -> str:
    return "lit" if fraction >= 1 else "dark" if fraction <= 0 else "part"


def _points(x: Floats, y: Floats) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _polylines(drawn: Floats, behind: Bools) -> list[str]:
    """An orbit as pieces before and behind the Earth."""
    cut = np.nonzero(np.diff(behind.astype(np.int8)))[0] + 1
    out = []
    for piece in np.split(np.arange(len(drawn)), cut):
        reach = np.append(piece, min(piece[-1] + 1, len(drawn) - 1))
        extra = " behind" if behind[piece[0]] else ""
        out.append(f'<polyline class="orbit{extra}" points="{_points(drawn[reach, 0], drawn[reach, 1])}"/>')
    return out
