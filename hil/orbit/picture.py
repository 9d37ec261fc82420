"""Pictures of a constellation as one self-contained SVG: globe, map, and a chart of its links over a span."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from textwrap import wrap

import numpy as np

from hil.core.svg import Canvas, points_text, title_element
from hil.errors import ConfigurationError
from hil.orbit.chart import RULES, draw_chart
from hil.orbit.contact_plan import contact_plan
from hil.orbit.elements import Constellation
from hil.orbit.ellipsoid import EARTH_RADIUS_KM, earth_fixed_km, geodetic_deg
from hil.orbit.geometry import one_way_delay_us, range_km, states, sub_satellite_deg, track
from hil.orbit.link_phases import every_candidate, plan_links
from hil.orbit.phases import Kind
from hil.orbit.sun import sun_km, sunlit_fraction
from hil.orbit.times import Bools, Floats, Ints, iso
from hil.orbit.track_files import Flight

WIDTH = 1180
_STYLES: Mapping[Kind, str] = {"crosslink": "isl", "ground": "gnd", "guest": "gst"}
_GLOBE = (290.0, 330.0, 250.0)  # centre x, centre y, radius of the picture
_MAP = (600.0, 120.0, 560.0, 280.0)  # x, y, width, height
_TOP = 620

MOST_PLANNED = 64
"""Spacecraft for which a chart shows who points where; beyond it only who is in sight."""

# Every rule is held to this picture: it may stand inside a page that has its own.
STYLE = Path(__file__).with_name("picture.css").read_text(encoding="utf-8").replace("\n", "") + RULES


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
        links = plan_links(found, every_candidate(span), start=at, span_s=span.duration_s, seed=seed, step_s=step_s)
    canvas = _moment(found, at, None)
    tall = draw_chart(canvas, found, span, links, top=_TOP, width=WIDTH)
    return _document(found, at, canvas, height=_TOP + tall)


def constellation_svg(
    constellation: Constellation, moment: datetime, *, links_up: Collection[tuple[str, str]] | None = None
) -> str:
    """Return SVG of the constellation at a moment: globe, map, sunlight, links.

    ``links_up``: pairs of node names, either way round, whose links are up; they stand out, and the other pairs in
    sight are thin and grey.  None: every pair in sight is drawn as a link.  Raises ConfigurationError where SGP4
    fails, or for a name that is no node.
    """
    return _document(constellation, moment, _moment(constellation, moment, links_up), height=_TOP)


def _document(found: Constellation, at: datetime, canvas: Canvas, *, height: int) -> str:
    body, title = "\n".join(canvas.parts), title_element(f"{found.name} at {iso(at)}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="sky" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img">{title}<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


@dataclass(frozen=True)
class _Line:
    """A pair to draw: ``up`` None where nobody said."""

    kind: Kind
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
    guests = {guest.name for guest in found.guests}
    up = {frozenset(pair): pair for pair in links_up}
    lines = [replace(line, up=False) for line in seen if frozenset((line.a, line.b)) not in up]
    for pair, (a, b) in sorted(up.items(), key=lambda item: item[1]):
        lines.append(_Line("ground" if pair & stations else "guest" if pair & guests else "crosslink", a, b, True))
    return lines


def _moment(found: Constellation, at: datetime, links_up: Collection[tuple[str, str]] | None) -> Canvas:
    lines, canvas = _lines(found, at, links_up), Canvas()
    _globe(canvas, found, at, lines)
    _map(canvas, found, at)
    _legend(canvas, found, at, lines)
    return canvas


def _view(found: Constellation, at: datetime) -> Floats:
    """Return rows: right, up, towards the eye.  The eye stands 30 degrees off the first plane's normal."""
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


def _globe(canvas: Canvas, found: Constellation, at: datetime, lines: Sequence[_Line]) -> None:
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

    canvas.circle("sea", cx, cy, earth)
    canvas.parts.append(_night_side(view, sun_km(at, np.zeros(1))[0], cx, cy, earth))
    for plane in found.planes or [(k,) for k in range(min(len(found.spacecraft), 24))]:
        seconds = np.linspace(0, _period_s(found, plane[0]), 181)
        one = Constellation(found.name, found.epoch, ("a",), (found.element_sets[plane[0]],))
        orbit = states(one, at, seconds).position_km[0]
        _orbit(canvas, place(orbit), hidden(orbit))
    index = {name: k for k, name in enumerate(found.nodes)}
    for pair in lines:
        line = np.linspace(everyone[index[pair.a]], everyone[index[pair.b]], 40)
        (ax, ay, _), (bx, by, _) = place(line[0]), place(line[-1])
        kind = _STYLES[pair.kind] + (" off" if pair.up is False else "")
        behind = " behind" if hidden(line).mean() > 0.5 else ""
        delay_us = float(one_way_delay_us(range_km(line[0], line[-1])))
        says = {None: "", True: ", up", False: ", not up"}[pair.up]
        label = f"{pair.a} – {pair.b}: {delay_us / 1000:.3f} ms{says}"
        canvas.line(f"{kind}{behind}", ax, ay, bx, by, tip=label)
    lit = _sunlit(found, at)
    names = len(found.spacecraft) <= 40
    for k, name in enumerate(found.spacecraft):
        x, y, _ = place(everyone[k])
        behind = " behind" if hidden(everyone[k]) else ""
        canvas.circle(f"{_light(lit[k])}{behind}", x, y, 6 if names else 2)
        if names:
            canvas.text("", x + 8, y - 7, name)
    for k, station in enumerate(found.stations, len(found.spacecraft)):
        if not hidden(everyone[k]):
            x, y, _ = place(everyone[k])
            _station(canvas, x, y, station.name)
    for guest in _guests_there(found, at):
        x, y, _ = place(everyone[index[guest]])
        _guest(canvas, x, y, guest, " behind" if hidden(everyone[index[guest]]) else "")


def _guests_there(found: Constellation, at: datetime) -> list[str]:
    """Return the guests that are in orbit, or in the air, at a moment."""
    pairs = zip(found.guests, found.guest_paths, strict=True)
    spans = [(guest.name, path.span(at) if isinstance(path, Flight) else (0.0, 0.0)) for guest, path in pairs]
    return [name for name, (first_s, last_s) in spans if first_s <= 0 <= last_s]


def _guest(canvas: Canvas, x: float, y: float, name: str, behind: str = "") -> None:
    canvas.diamond(f"gst-dot{behind}", x, y, 6)
    canvas.text("", x + 8, y + 12, name)


def _station(canvas: Canvas, x: float, y: float, name: str) -> None:
    canvas.rect("gs", x - 4, y - 4, 8, 8)
    canvas.text("", x + 7, y + 12, name)


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


def _map(canvas: Canvas, found: Constellation, at: datetime) -> None:
    left, top, wide, tall = _MAP

    def place(latitude: Floats, longitude: Floats) -> tuple[Floats, Floats]:
        return left + (longitude + 180) / 360 * wide, top + (90 - latitude) / 180 * tall

    canvas.rect("sea", left, top, wide, tall)
    for degrees in range(-150, 180, 30):
        line = left + (degrees + 180) / 360 * wide
        canvas.line("grid", line, top, line, top + tall)
    for degrees in range(-60, 90, 30):
        line = top + (90 - degrees) / 180 * tall
        canvas.line("grid", left, line, left + wide, line)
    canvas.parts.append(_night_on_map(at))
    seconds = np.linspace(0, _period_s(found, 0), 241)
    tracked = len(found.spacecraft) if len(found.spacecraft) <= 12 else 1
    position = states(found, at, seconds).position_km
    latitudes, longitudes = sub_satellite_deg(position, at, seconds)
    for k in range(tracked):
        for piece in _pieces(longitudes[k]):
            x, y = place(latitudes[k][piece], longitudes[k][piece])
            canvas.polyline("trk", _points(x, y))
    lit = _sunlit(found, at)
    for k, name in enumerate(found.spacecraft):
        x, y = place(latitudes[k, 0], longitudes[k, 0])
        canvas.circle(_light(lit[k]), float(x), float(y), 4.5)
        if len(found.spacecraft) <= 40:
            canvas.text("", float(x) + 6, float(y) - 5, name)
    for station in found.stations:
        east = (station.longitude_deg + 180) % 360 - 180
        x, y = place(np.asarray(station.latitude_deg), np.asarray(east))
        _station(canvas, float(x), float(y), station.name)
    for path in found.guest_paths:
        if isinstance(path, Flight):
            north, east_deg = geodetic_deg(earth_fixed_km(path.zenith, path.height_km))
            for piece in _pieces(east_deg):
                canvas.polyline("trk gst-trk", _points(*place(north[piece], east_deg[piece])))
    everyone, names = _nodes_km(found, at), found.nodes
    for guest in _guests_there(found, at):
        north, east_deg = sub_satellite_deg(everyone[names.index(guest)][None], at, np.zeros(1))
        x, y = place(north, east_deg)
        _guest(canvas, float(x[0]), float(y[0]), guest)


def _pieces(longitude_deg: Floats) -> list[Ints]:
    """Return indices of a track, cut where it crosses the edge of the map."""
    cut = np.nonzero(np.abs(np.diff(longitude_deg)) > 180)[0] + 1
    return np.split(np.arange(len(longitude_deg)), cut)


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
    return f'<polygon class="night" points="{left},{pole} {points_text(_points(x, y))} {left + wide},{pole}"/>'


def _legend(canvas: Canvas, found: Constellation, at: datetime, pairs: Sequence[_Line]) -> None:
    links = [pair for pair in pairs if pair.kind == "crosslink"]
    passes = [pair for pair in pairs if pair.kind == "ground"]
    if any(pair.up is not None for pair in pairs):
        crosslinks, ground = (sum(bool(pair.up) for pair in some) for some in (links, passes))
        what = f"{crosslinks} crosslinks up, {ground} up to the ground"
        more = sum(not pair.up for pair in pairs)
        what += f"; {more} more pairs in sight" if more else ""
    else:
        what = f"{len(links)} crosslinks possible, {len(passes)} in view of the ground"
    lit = _sunlit(found, at)
    eclipsed = int((lit < 1).sum())
    lines = [
        f"{len(found.spacecraft)} spacecraft, {what}",
        f"{len(lit) - eclipsed} in sunlight, {eclipsed} in eclipse or penumbra",
    ]
    canvas.text("h", 24, 36, f"{found.name} at {iso(at)}")
    for k, line in enumerate(lines):
        canvas.text("", 600, 60 + 20 * k, line)
    keys = (("lit", "sunlight"), ("part", "penumbra"), ("dark", "umbra"))
    for k, (kind, text) in enumerate(keys):
        canvas.circle(kind, 612 + 110 * k, 424, 5)
        canvas.text("", 624 + 110 * k, 428, text)
    strokes = [("isl", "crosslink"), ("gnd", "ground link"), ("isl off", "in sight")]
    strokes += [("gst", "guest link")] if found.guests else []
    for k, (kind, text) in enumerate(strokes):
        canvas.line(kind, 604 + 130 * k, 448, 632 + 130 * k, 448)
        canvas.text("", 640 + 130 * k, 452, text)
    assumed = [line for text in found.assumed for line in wrap(f"assumed: {text}", 84, subsequent_indent="  ")]
    for k, text in enumerate([*_served(found, at, pairs)[:3], *assumed][:7]):
        canvas.text("m", 600, 484 + 18 * k, text)


def _served(found: Constellation, at: datetime, pairs: Sequence[_Line]) -> list[str]:
    """Return a sentence per guest: who serves it, or whom it sees where no link of it is up."""
    says = []
    for guest in _guests_there(found, at):
        theirs = [pair for pair in pairs if guest in (pair.a, pair.b)]
        up = [pair for pair in theirs if pair.up]
        craft = sorted(pair.a if pair.b == guest else pair.b for pair in up or theirs)
        says.append(f"{guest} {'is served by' if up else 'sees'} {', '.join(craft) or 'nobody'}")
    return says


def _nodes_km(found: Constellation, at: datetime) -> Floats:
    return track(found, at, np.zeros(1)).position[:, : len(found.nodes), 0].T


def _sunlit(found: Constellation, at: datetime) -> Floats:
    moment = np.zeros(1)
    return sunlit_fraction(states(found, at, moment).position_km, sun_km(at, moment))[:, 0]


def _light(fraction: float) -> str:
    return "lit" if fraction >= 1 else "dark" if fraction <= 0 else "part"


def _points(x: Floats, y: Floats) -> list[tuple[float, float]]:
    return list(zip(x.tolist(), y.tolist(), strict=True))


def _orbit(canvas: Canvas, drawn: Floats, behind: Bools) -> None:
    """Draw an orbit as pieces before and behind the Earth."""
    cut = np.nonzero(np.diff(behind.astype(np.int8)))[0] + 1
    for piece in np.split(np.arange(len(drawn)), cut):
        reach = np.append(piece, min(piece[-1] + 1, len(drawn) - 1))
        extra = " behind" if behind[piece[0]] else ""
        canvas.polyline(f"orbit{extra}", _points(drawn[reach, 0], drawn[reach, 1]))
