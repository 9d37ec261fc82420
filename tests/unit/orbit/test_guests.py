"""Guests of the constellation: contacts against an independent library, phases, and who serves them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from skyfield.api import EarthSatellite, load, wgs84

from hil.errors import ConfigurationError
from hil.orbit.contact_plan import Contact, ContactPlan, contact_plan
from hil.orbit.elements import Constellation, load_constellation
from hil.orbit.geometry import LIGHT_KM_S, track
from hil.orbit.link_phases import every_candidate, plan_links
from hil.orbit.model import Duration
from hil.orbit.phases import Candidate, Interval, LinkPlan, Phase
from hil.orbit.pointing import _own_axes
from hil.orbit.sampled import samples
from hil.orbit.services import services_in_sight, services_tracked
from hil.orbit.times import Floats, gmst_rad
from hil.orbit.track_files import Flight
from tests.kits.orbit_formulas import grazing_height_km
from tests.kits.orbits import EPOCH, ORBITS, contacts, orbit

GUESTS = "ring-with-guests"
SPAN_S = 1800.0


@cache
def timescale() -> object:
    return load.timescale(builtin=True)


def contacts_of(guest: str, file: str = GUESTS) -> list[Contact]:
    return [c for c in contacts(file, SPAN_S).contacts if c.b == guest]


def at_edges(contact: Contact) -> list[tuple[float, bool]]:
    """Moments one second around each edge that geometry made, with whether the contact holds there."""
    edges = [(contact.start_s, 1.0, contact.open_start), (contact.end_s, -1.0, contact.open_end)]
    return [(s + side * into, side > 0) for s, into, is_cut in edges if not is_cut for side in (-1.0, 1.0)]


def elevation_and_range(craft: str, moment_s: float, guest: str = "flight-1") -> tuple[float, float]:
    """Elevation (degrees) and range (km) from the aircraft by skyfield, places between points of its file by numpy."""
    rows = [line.split(",") for line in (ORBITS / f"tracks/{guest}.csv").read_text().splitlines()[2:]]
    at_s = [(datetime.fromisoformat(row[0]) - EPOCH).total_seconds() for row in rows]
    lat, lon, up = (float(np.interp(moment_s, at_s, [float(row[k]) for row in rows])) for k in (1, 2, 3))
    found = orbit(GUESTS)
    satellite = EarthSatellite.from_satrec(found.element_sets[found.spacecraft.index(craft)], timescale())
    when = timescale().from_datetime(EPOCH + timedelta(seconds=moment_s))  # type: ignore[attr-defined]
    elevation, _, distance = (satellite - wgs84.latlon(lat, lon, up)).at(when).altaz()
    return elevation.degrees, distance.km


@pytest.mark.parametrize(
    ("guest", "file", "begins_s"), [("flight-1", GUESTS, 30), ("flight-2", "ring-with-flight", 270)]
)
def test_contacts_of_an_aircraft_are_within_a_second_of_an_independent_library(
    guest: str, file: str, begins_s: float
) -> None:
    """Its 20 minutes cross the contacts of three spacecraft."""
    found = contacts_of(guest, file)
    looks = [
        (elevation_and_range(contact.a, moment_s, guest), inside)
        for contact in found
        for moment_s, inside in at_edges(contact)
        if begins_s + 1 < moment_s < begins_s + 1199  # the other two edges are those of the track
    ]
    assert (len(found), len(looks)) == (3, 8)
    assert [elevation_deg >= 5.0 for (elevation_deg, _), _ in looks] == [inside for _, inside in looks]
    first = found[0]
    away_km = elevation_and_range(first.a, first.end_s, guest)[1]
    assert first.max_delay_us == pytest.approx(away_km / LIGHT_KM_S * 1e6, abs=5)


def test_contacts_of_a_satellite_are_within_a_second_of_an_independent_library() -> None:
    found = orbit(GUESTS)
    guest = EarthSatellite.from_satrec(found.guest_paths[1], timescale())

    def sees(craft: str, moment_s: float) -> bool:
        other = EarthSatellite.from_satrec(found.element_sets[found.spacecraft.index(craft)], timescale())
        when = timescale().from_datetime(EPOCH + timedelta(seconds=moment_s))  # type: ignore[attr-defined]
        a, b = (satellite.at(when).position.km for satellite in (guest, other))
        return bool(np.linalg.norm(a - b) <= 4000 and grazing_height_km(a, b) >= 80)

    looks = [(sees(c.a, at_s), inside) for c in contacts_of("eo-9") for at_s, inside in at_edges(c)]
    assert len(looks) == 14 and all(seen is inside for seen, inside in looks)


def test_the_beam_of_an_aircraft_never_runs_lower_than_it_flies() -> None:
    found = orbit(GUESTS)
    for contact in contacts_of("flight-1"):
        here = track(found, EPOCH, np.linspace(contact.start_s, contact.end_s, 50)).position.transpose(1, 2, 0)
        craft, aircraft = (here[found.nodes.index(name)] for name in (contact.a, contact.b))
        own_km = grazing_height_km(aircraft, aircraft)
        assert (grazing_height_km(aircraft, craft) >= own_km - 1e-6).all()


def test_guests_see_spacecraft_only_and_change_nothing_between_them() -> None:
    alone = contact_plan(orbit("ring-of-ten"), duration_s=SPAN_S, step_s=10)
    others = [c for c in contacts(GUESTS, SPAN_S).contacts if c.kind != "guest"]
    assert others == list(alone.contacts)
    craft = set(orbit(GUESTS).spacecraft)
    assert all(c.a in craft for c in contacts(GUESTS, SPAN_S).contacts if c.kind == "guest")


def test_an_aircraft_is_there_only_while_its_track_lasts() -> None:
    found = orbit(GUESTS)
    first, *_, last = contacts_of("flight-1")
    assert (first.start_s, last.end_s) == (30.0, 1230.0) and not first.open_start and not last.open_end
    later = contact_plan(found, EPOCH + timedelta(hours=1), duration_s=600, step_s=10)
    assert not [c for c in later.contacts if c.b == "flight-1"]


def test_a_guests_own_range_and_mask_end_its_contacts() -> None:
    found = orbit(GUESTS)
    near = [guest.model_copy(update={"max_range_km": 1500.0}) for guest in found.guests]
    plan = contact_plan(replace(found, guests=tuple(near)), duration_s=SPAN_S, step_s=10)
    guests = [c for c in plan.contacts if c.kind == "guest"]
    assert guests and max(c.max_delay_us for c in guests) <= 1500 / LIGHT_KM_S * 1e6 + 0.1
    high = (found.guests[0].model_copy(update={"mask_deg": 60.0}), found.guests[1])
    plan = contact_plan(replace(found, guests=high), duration_s=SPAN_S, step_s=10)
    assert sum(c.duration_s for c in plan.contacts if c.b == "flight-1") < 200


def test_twenty_minutes_across_three_spacecraft_are_two_hand_overs() -> None:
    found, plan = orbit(GUESTS), contacts(GUESTS, SPAN_S)
    seen = [one for one in services_in_sight(found, plan) if one.guest == "flight-1"]
    assert [one.spacecraft for one in seen] == ["sc-02", "sc-01", "sc-10"]
    assert [one.then for one in seen] == ["sc-01", "sc-10", ""]
    assert [one.is_handed_over for one in seen] == [True, True, False]
    assert [one.overlap_s for one in seen] == [pytest.approx(39.5, abs=1), pytest.approx(38.8, abs=1), None]
    assert [a.end_s for a in seen[:-1]] == [b.start_s for b in seen[1:]]


def test_a_second_terminal_makes_the_gap_of_a_hand_over_an_overlap() -> None:
    found, candidates = orbit(GUESTS), every_candidate(contacts(GUESTS, SPAN_S))
    one = (found.guests[0].model_copy(update={"terminals": 1}), found.guests[1])
    for guests, overlaps in ((found.guests, True), (one, False)):
        these = replace(found, guests=guests)
        plan = plan_links(these, candidates, start=EPOCH, span_s=SPAN_S, seed=0, step_s=10)
        got = [s for s in services_tracked(these, plan, candidates) if s.guest == "flight-1"]
        assert [s.spacecraft for s in got] == ["sc-02", "sc-01", "sc-10"]
        assert all((s.overlap_s > 0) is overlaps for s in got if s.overlap_s is not None)


def test_a_guests_terminal_has_its_own_turn_and_acquisition() -> None:
    found, candidates = orbit(GUESTS), every_candidate(contacts(GUESTS, SPAN_S))
    own = {"slew_deg_per_s": 3.0, "acquire": Duration(median_s=7.0, p99_s=7.0)}
    slow = found.guests[1].model_copy(update=own)
    these = replace(found, guests=(found.guests[0], slow))
    plan = plan_links(these, candidates, start=EPOCH, span_s=SPAN_S, seed=0, step_s=10)
    rows = [i for name in plan.links if name.endswith("eo-9") for i in plan.links[name]]
    turns = [i for i in rows if i.phase is Phase.SLEW]
    for i in turns:
        turn_deg = float(i.why.partition("up to ")[2].partition(" deg")[0])
        assert i.end_s - i.start_s == pytest.approx(turn_deg / 3 + 2, abs=0.1)
    assert turns and {round(i.end_s - i.start_s, 3) for i in rows if i.phase is Phase.ACQUIRE} == {7.0}


def test_rows_for_a_link_box_follow_a_guests_range() -> None:
    found = orbit(GUESTS)
    link = Candidate("g", "guest", "flight-1", "sc-02", mtu=1500)  # either way round
    plan = plan_links(found, [link], start=EPOCH, span_s=600.0, seed=0, step_s=10)
    rows = samples(found, [link], plan, from_s=200.0, to_s=260.0, step_s=1.0)
    here = track(found, EPOCH, np.array([200.0])).position[:, :, 0].T
    apart_km = np.linalg.norm(here[found.nodes.index("flight-1")] - here[found.nodes.index("sc-02")])
    assert rows[0].up and rows[0].delay_us == pytest.approx(apart_km / LIGHT_KM_S * 1e6, abs=0.5)
    assert len(rows) > 100


def test_a_link_that_makes_no_sense_for_a_guest_is_refused() -> None:
    found = orbit(GUESTS)
    for link in (Candidate("l", "guest", "sc-01", "sc-02"), Candidate("l", "crosslink", "sc-01", "eo-9")):
        with pytest.raises(ConfigurationError, match=f"make no {link.kind} link"):
            plan_links(found, [link], start=EPOCH, span_s=60.0, seed=0)
    with pytest.raises(ConfigurationError, match="make no guest link"):
        plan_links(found, [Candidate("l", "guest", "flight-1", "eo-9")], start=EPOCH, span_s=60.0, seed=0)


def test_a_fade_does_not_end_a_service_and_a_lost_link_does() -> None:
    found = orbit(GUESTS)
    phases = [(Phase.TRACK, 0, 10), (Phase.FADE, 10, 11), (Phase.TRACK, 11, 20), (Phase.LOST, 20, 25)]
    rows = tuple(Interval(phase, start, end) for phase, start, end in [*phases, (Phase.TRACK, 25, 60)])
    link = Candidate("l", "guest", "sc-01", "eo-9")
    got = services_tracked(found, LinkPlan(EPOCH, 60, 0, {"l": rows}), [link])
    assert [(s.start_s, s.end_s, s.then, s.overlap_s, s.is_handed_over) for s in got] == [
        (0, 20, "sc-01", -5, False),
        (25, 60, "", None, False),
    ]


def test_the_one_in_contact_for_longest_serves() -> None:
    found = orbit(GUESTS)
    spans = {"sc-01": (0, 10), "sc-02": (0, 20), "sc-03": (5, 25), "sc-04": (15, 40), "sc-05": (50, 60)}
    links = [Candidate(craft, "guest", craft, "eo-9") for craft in spans]
    rows = {craft: (Interval(Phase.TRACK, *span),) for craft, span in spans.items()}
    got = services_tracked(found, LinkPlan(EPOCH, 60, 0, rows), links)
    assert [(s.spacecraft, s.start_s, s.end_s, s.overlap_s) for s in got] == [
        ("sc-02", 0, 20, 5),
        ("sc-04", 20, 40, -10),
        ("sc-05", 50, 60, None),
    ]


def hovering(found: Constellation, latitude_deg: float) -> Constellation:
    zenith: Floats = np.array([[np.cos(np.radians(latitude_deg)), 0.0, np.sin(np.radians(latitude_deg))]] * 2)
    stays = Flight(EPOCH, np.array([0.0, 3000.0]), zenith, np.array([1.0, 1.0]))
    return replace(found, guests=found.guests[:1], guest_paths=(stays,))


def test_a_drone_that_hovers_is_a_ground_station_in_the_air() -> None:
    found = hovering(orbit(GUESTS), 40.0)
    here, node = track(found, EPOCH, np.array([0.0, 100.0])), found.nodes.index("flight-1")
    place, rate = here.position[:, node], here.velocity[:, node]
    turned = gmst_rad(EPOCH, np.array([100.0]))[0] - gmst_rad(EPOCH, np.array([0.0]))[0]
    assert np.arctan2(place[1, 1], place[0, 1]) - np.arctan2(place[1, 0], place[0, 0]) == pytest.approx(turned)
    assert np.linalg.norm(rate[:, 0]) == pytest.approx(7.2921e-5 * np.hypot(*place[:2, 0]), rel=1e-4)


def test_a_drone_that_hovers_over_the_pole_is_served_too() -> None:
    up = np.array([0.0, 0.0, 6357.0])
    assert _own_axes(up, up, np.zeros(3)) == pytest.approx([0, 0, 1])  # no heading
    found = hovering(orbit(GUESTS), 90.0)
    plan = contact_plan(found, duration_s=1500, step_s=10)
    links = plan_links(found, every_candidate(plan), start=EPOCH, span_s=1500, seed=0, step_s=10)
    assert any(i.phase is Phase.TRACK for rows in links.links.values() for i in rows)
    assert np.isfinite([i.end_s for rows in links.links.values() for i in rows]).all()


@pytest.mark.parametrize(
    ("guest", "words"),
    [
        ("{name: g}", r"o\.yaml:6: .*give exactly one of tle, elements_file, track \(found 0\)"),
        ("{name: g, track: a, tle: b}", r"o\.yaml:6: .*exactly one of .* \(found 2\)"),
        ("{name: g, elements_file: a, mask_deg: 5.0}", r"o\.yaml:6: .*mask_deg is for a track"),
        ("{name: g, track: a, mask_deg: -5.0}", r"o\.yaml:6: guests\.0\.mask_deg"),
        ("{name: g, track: no.csv}", r"no\.csv: no such file"),
        ("{name: sc-01, track: t.csv}", r"used twice: sc-01"),
        ("{name: g, tle: nonsense}", r"o\.yaml: tle of guest g: holds no elements"),
        ("{name: g, elements_file: two.tle}", r"guest g has elements of 2 satellites"),
    ],
)
def test_a_guest_that_makes_no_sense_is_refused(tmp_path: Path, guest: str, words: str) -> None:
    shell = "shell: {planes: 1, slots_per_plane: 2, altitude_km: 600.0, ltan: '18:00'}"
    file = tmp_path / "o.yaml"
    file.write_text("\n".join(["schema: 1", "name: o", "epoch: '2026-03-21'", shell, "guests:", f"  - {guest}", ""]))
    (tmp_path / "t.csv").write_text((ORBITS / "tracks/flight-1.csv").read_text())
    text = (ORBITS / f"{GUESTS}.yaml").read_text().splitlines()
    lines = [line.strip() for line in text if line.strip().startswith(("1 00001", "2 00001"))]
    (tmp_path / "two.tle").write_text("\n".join(lines * 2))
    with pytest.raises(ConfigurationError, match=words):
        load_constellation(file)


def test_a_plan_without_guests_names_no_service() -> None:
    ring = orbit("ring-of-ten")
    plan: ContactPlan = contacts("ring-of-ten", 600)
    assert services_in_sight(ring, plan) == ()
