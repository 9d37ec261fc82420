"""Contact plans as CSV, JSON and CZML; one function per format, text out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from hil.orbit.contact_plan import Contact, ContactPlan
from hil.orbit.elements import Constellation
from hil.orbit.geometry import station_earth_fixed, to_earth_fixed, track
from hil.orbit.services import Service, Sight
from hil.orbit.times import gmst_rad, iso

JSON_FORMAT = "hil-contact-plan/1"
CZML_STEP_S = 60.0
"""Positions in CZML: Cesium interpolates between them (Lagrange, degree 5: metres at 600 km)."""

_ROUNDED = dict.fromkeys(("start_s", "end_s", "overlap_s", "min_delay_us", "max_delay_us"), 3)
_ROUNDED |= dict.fromkeys(("range_km", "elevation_deg"), 3)
_ROUNDED |= dict.fromkeys(("min_range_rate_km_s", "max_range_rate_km_s"), 6)


def row(contact: Contact) -> dict[str, Any]:
    """Return a contact's values, rounded to what they are worth (ms, ns, mm/s)."""
    return _rounded(asdict(contact))


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    def rounded(value: Any, digits: int) -> Any:
        return [rounded(v, digits) for v in value] if isinstance(value, tuple) else round(value, digits)

    return {k: rounded(v, _ROUNDED[k]) if k in _ROUNDED and v is not None else v for k, v in values.items()}


def to_csv(plan: ContactPlan) -> str:
    """Return one line per contact; the header's names carry the units, ``start`` and ``end`` are UTC."""
    out = io.StringIO()
    names = ["start", "end", *(f.name for f in fields(Contact))]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for contact in plan.contacts:
        times = {"start": iso(plan.time(contact.start_s)), "end": iso(plan.time(contact.end_s))}
        writer.writerow({**times, **row(contact)})
    return out.getvalue()


def to_json(plan: ContactPlan, services: Sequence[tuple[Service, Sight]] = ()) -> str:
    """Return the whole plan, to the rounding of :func:`row`, and who serves guests at which range and elevation."""
    return json.dumps(
        {
            "format": JSON_FORMAT,
            "name": plan.name,
            "start": plan.start.isoformat(),
            "duration_s": plan.duration_s,
            "step_s": plan.step_s,
            "nodes": list(plan.nodes),
            "contacts": [row(contact) for contact in plan.contacts],
            "services": [_rounded(asdict(one) | asdict(seen)) for one, seen in services],
        },
        indent=1,
    )


def to_czml(found: Constellation, plan: ContactPlan) -> str:
    """Return a CZML document for Cesium: spacecraft, ground stations, guests, and a line for every contact while it
    lasts.

    Positions are Earth-fixed, so that no frame of the reader's has to match ours.
    """
    span = f"{iso(plan.start)}/{iso(plan.time(plan.duration_s))}"
    clock = {"interval": span, "currentTime": iso(plan.start), "multiplier": 60}
    packets: list[dict[str, Any]] = [{"id": "document", "name": plan.name, "version": "1.0", "clock": clock}]
    # A sample past the end closes the last interval of the interpolation.
    seconds = np.arange(0, plan.duration_s + CZML_STEP_S, CZML_STEP_S)
    here = track(found, plan.start, seconds).position.transpose(1, 2, 0)
    fixed_m = 1000 * to_earth_fixed(here, gmst_rad(plan.start, seconds))
    stations = {station.name for station in found.stations}
    for name, places in zip(found.nodes, fixed_m, strict=False):  # zeniths come after the nodes
        if name in stations:
            continue
        position = {
            "epoch": iso(plan.start),
            "referenceFrame": "FIXED",
            "interpolationAlgorithm": "LAGRANGE",
            "interpolationDegree": 5,
            "cartesian": np.column_stack([seconds, places.round(1)]).ravel().tolist(),
        }
        packets.append({**_node(name, position, [255, 196, 0, 255]), "availability": span})
    for station in found.stations:
        place, _ = station_earth_fixed(station)
        position = {"cartesian": (1000 * place).round(1).tolist()}
        packets.append(_node(station.name, position, [0, 160, 255, 255]))
    for a, b in sorted({(c.a, c.b) for c in plan.contacts}):
        packets.append(_line(plan, a, b, span))
    return json.dumps(packets)


def _node(name: str, position: dict[str, Any], rgba: list[int]) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "position": position,
        "point": {"pixelSize": 8, "color": {"rgba": rgba}},
        "label": {"text": name, "font": "11pt sans-serif", "pixelOffset": {"cartesian2": [14, 0]}},
    }


def _line(plan: ContactPlan, a: str, b: str, span: str) -> dict[str, Any]:
    contacts = plan.between(a, b)
    spans = [f"{iso(plan.time(c.start_s))}/{iso(plan.time(c.end_s))}" for c in contacts]
    rgba = [0, 160, 255, 255] if contacts[0].kind == "ground" else [230, 40, 70, 255]
    return {
        "id": f"{a}--{b}",
        "name": f"{a} - {b}",
        "availability": span,
        "polyline": {
            "show": [{"interval": span, "boolean": False}, *({"interval": each, "boolean": True} for each in spans)],
            "width": 1.5,
            "arcType": "NONE",
            "material": {"solidColor": {"color": {"rgba": rgba}}},
            "positions": {"references": [f"{a}#position", f"{b}#position"]},
        },
    }
