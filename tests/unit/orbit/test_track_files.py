"""Tracks of aircraft: three forms of one flight, the seam and the poles, and files that are not to be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import ConfigurationError
from hil.orbit import track_files
from hil.orbit.ellipsoid import earth_fixed_km, geodetic_deg, height_km, zenith_of
from hil.orbit.times import parse_time
from hil.orbit.track_files import Flight, read_flight

START = parse_time("2026-03-21T00:00:00Z")
HEADER = "time,latitude_deg,longitude_deg,altitude_m"
ROWS = ((0, 60.0, 10.0, 1000.0), (60, 60.1, 10.1, 1600.0), (90, 60.1, 10.1, 1600.0))


def stamp(second: float) -> str:
    return (START + timedelta(seconds=second)).isoformat()


def flight(folder: Path, text: str, *, name: str = "drone", max_speed_m_per_s: float = 350.0) -> Flight:
    file = folder / "track"
    file.write_text(text)
    return read_flight(file, name=name, max_speed_m_per_s=max_speed_m_per_s)


def as_csv(*rows: tuple[float, ...]) -> str:
    return "\n".join([HEADER, *(",".join([stamp(row[0]), *map(str, row[1:])]) for row in rows)])


def as_gpx(*rows: tuple[float, ...], head: str = "") -> str:
    points = "\n".join(
        f'<trkpt lat="{lat}" lon="{lon}"><ele>{up}</ele><time>{stamp(at)}</time></trkpt>' for at, lat, lon, up in rows
    )
    gpx = f'<gpx xmlns="http://www.topografix.com/GPX/1/1">\n<trk><name><![CDATA[a & b]]></name><trkseg>\n{points}\n'
    return f'<?xml version="1.0"?>\n{head}{gpx}</trkseg></trk></gpx>'


def as_czml(*rows: tuple[float, ...], **position: object) -> str:
    flat = [number for at, lat, lon, up in rows for number in (at, lon, lat, up)]
    own = {"epoch": stamp(0), "cartographicDegrees": flat, **position}
    return json.dumps([{"id": "document", "version": "1.0"}, {"id": "drone", "position": own}])


def as_cartesian(*rows: tuple[float, ...]) -> str:
    flat: list[object] = []
    for at, lat, lon, up in rows:
        flat += [stamp(at), *(1000 * earth_fixed_km(zenith_of(lat, lon), up / 1000)).tolist()]
    return json.dumps([{"id": "any", "position": {"cartesian": flat}}])


@pytest.mark.parametrize("form", [as_csv, as_gpx, as_czml, as_cartesian])
def test_the_same_flight_in_every_form_is_the_same_flight(tmp_path: Path, form: Callable[..., str]) -> None:
    found = flight(tmp_path, form(*ROWS))
    place, zenith = found.at(START, np.array([-5.0, 0.0, 30.0, 75.0, 500.0]))
    latitude, longitude = geodetic_deg(place)
    assert latitude == pytest.approx([60, 60, 60.05, 60.1, 60.1], abs=1e-4)
    assert longitude == pytest.approx([10, 10, 10.05, 10.1, 10.1], abs=1e-4)
    assert 1000 * height_km(place) == pytest.approx([1000, 1000, 1300, 1600, 1600], abs=0.01)
    assert np.linalg.norm(zenith, axis=-1) == pytest.approx(1)
    assert found.span(START - timedelta(seconds=10)) == (10, 100)


@pytest.mark.parametrize(
    ("a", "b", "middle"),
    [
        ((60.0, 179.95), (60.0, -179.95), (60.0, 180.0)),  # the antimeridian, by either name
        ((60.0, 179.95), (60.0, 180.05), (60.0, 180.0)),
        ((89.95, 0.0), (89.95, 180.0), (90.0, None)),  # over the pole
        ((-89.95, 45.0), (-89.95, -135.0), (-90.0, None)),
    ],
)
def test_a_flight_takes_the_short_way_over_the_antimeridian_and_the_poles(
    tmp_path: Path, a: tuple[float, float], b: tuple[float, float], middle: tuple[float, float | None]
) -> None:
    found = flight(tmp_path, as_csv((0, *a, 9000), (60, *b, 9000)))
    place, _ = found.at(START, np.array([30.0]))
    latitude, longitude = geodetic_deg(place)
    assert latitude[0] == pytest.approx(middle[0], abs=1e-4)
    assert middle[1] is None or abs(longitude[0]) == pytest.approx(middle[1], abs=1e-6)
    assert 1000 * height_km(place)[0] == pytest.approx(9000, abs=0.1)


def test_a_long_leg_is_flown_along_the_great_circle_at_an_even_rate(tmp_path: Path) -> None:
    found = flight(tmp_path, as_csv((0, 0.0, 10.0, 0.0), (3600, 0.0, 70.0, 0.0)), max_speed_m_per_s=2000)
    place, _ = found.at(START, np.array([600.0, 1800.0, 3000.0]))
    assert geodetic_deg(place)[1] == pytest.approx([20, 40, 60])


@settings(max_examples=100, deadline=None)
@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-0.5, 50))
def test_a_place_and_its_height_come_back_from_its_position(lat: float, lon: float, up_km: float) -> None:
    place = earth_fixed_km(zenith_of(lat, lon), up_km)
    again = earth_fixed_km(zenith_of(*geodetic_deg(place)), up_km)
    assert np.abs(again - place).max() < 1e-6 and float(height_km(place)) == pytest.approx(up_km, abs=1e-6)


ENTITY = '<!DOCTYPE gpx [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>\n'
EXTERNAL = '<!DOCTYPE gpx SYSTEM "file:///etc/passwd">\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"track: 0 points"),
        (as_csv(ROWS[0]), r"track: 1 points; a track has two or more"),
        ("time,lat,lon,alt\n", r"track:1: no column latitude_deg, longitude_deg, altitude_m"),
        (as_csv(*ROWS) + "\nx", r"track:5: 1 columns, the header has 4"),
        (as_csv(*ROWS) + "\nsoon,60,10,0", r"track:5: 'soon' is not a time"),
        (as_csv(*ROWS) + f"\n{stamp(99)},60,10,", r"track:5: altitude_m is missing"),
        (as_csv(*ROWS) + f"\n{stamp(99)},1e999,10,0", r"track:5: latitude_deg is '1e999', not a number"),
        (as_csv(*ROWS, (99, 91.0, 10.0, 0.0)), r"track:5: latitude_deg is 91"),
        (as_csv(*ROWS, (99, 60.1, 10.1, 60_000.0)), r"track:5: altitude_m is 60000"),
        (as_csv(*ROWS, (90, 60.1, 10.1, 0.0)), r"track:5: .* the time of the point before it again"),
        (as_csv(*ROWS, (80, 60.1, 10.1, 0.0)), r"track:5: .* earlier than the point before it"),
        (as_csv(*ROWS, (99, 10.1, 60.1, 0.0)), r"track:5: 6,571\.9 km in 9 s from the point before it, 730,213 m/s"),
        (as_csv((0, 0.0, 0.0, 0.0), (86400, 0.0, 179.0, 0.0)), r"track:3: more than a quarter of the Earth"),
        (f"{HEADER}\n" + '"' + "x" * 200_000, r"track:\d: not CSV: field larger"),
        (f"{HEADER}\n9999-12-31T23:59:59Z,0,0,0", r"track:2: the year 9999"),
        (as_gpx(*ROWS, (80, 60.1, 10.1, 0.0)), r"track:7: .* earlier than the point before it"),
        (as_gpx(*ROWS, head=ENTITY), r"track:2: a GPX file has no DOCTYPE and no entities"),
        (as_gpx(*ROWS, head=EXTERNAL), r"track:2: a GPX file has no DOCTYPE and no entities"),
        (as_gpx(*ROWS).replace("<ele>1000.0</ele>", ""), r"track:4: altitude_m is missing"),
        (as_gpx(*ROWS).replace(f"<time>{stamp(0)}</time>", ""), r"track:4: '' is not a time"),
        (as_gpx(*ROWS).replace(' lat="60.0"', ""), r"track:4: latitude_deg is missing"),
        (as_gpx(*ROWS).replace("<ele>", "<ele>" + "\n" * 5000), r"track:4: ele has more than 200 characters"),
        ("\n" + as_gpx(*ROWS), r"track:2: not valid XML: XML or text declaration not at start"),
        (as_gpx(*ROWS)[:-10], r"track:7: not valid XML"),
        ("<html/>", r"track: XML of kind 'html', not a GPX track"),
        ("[" * 100_000, r"track:1: not valid JSON"),
        ("[1, {}, []]", r"track: no object has sampled positions"),
        (as_czml(*ROWS, referenceFrame="INERTIAL"), r"drone: referenceFrame is not FIXED"),
        (as_czml(*ROWS, epoch="soon"), r"drone: epoch: 'soon' is not a time"),
        (as_czml(*ROWS, (80, 60.1, 10.1, 0.0)), r"drone: sample 4: .* earlier"),
        (as_czml(*ROWS, (1e300, 60.1, 10.1, 0.0)), r"drone: sample 4: 1e\+300 s after the epoch"),
        (as_czml(*ROWS, cartographicDegrees=[0, 1, 2, 3, 4]), r"drone: cartographicDegrees has 5 numbers"),
        (as_czml(*ROWS).replace("60.0", "true", 1), r"drone: sample 1: .* is 'True', not a number"),
        (as_czml(*ROWS).replace("60.0", "1" + "0" * 400, 1), r"drone: sample 1: .* not a number"),
        (as_cartesian(*ROWS).replace("cartesian", "other"), r"no object has sampled positions"),
        ('[{"position": {"cartesian": ["2026-01-01", 1e308, 1e308, 1e308, 0]}}]', r"5 numbers"),
        ('[{"position": {"cartesian": ["2026-01-01", 1e308, 1e308, 1e308, 0, 1, 2, 3]}}]', r"sample 1: not a place"),
    ],
)
def test_a_track_that_cannot_be_flown_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        flight(tmp_path, text)
    assert caught.value.remedy and "\n" not in caught.value.message


def test_one_of_several_objects_of_a_czml_document_is_chosen_by_its_id(tmp_path: Path) -> None:
    both = json.loads(as_cartesian(*ROWS)) + json.loads(as_czml(*ROWS[:2]))
    assert len(flight(tmp_path, json.dumps(both), name="any").seconds) == 3
    assert len(flight(tmp_path, json.dumps(both), name="drone").seconds) == 2
    with pytest.raises(ConfigurationError, match="2 objects move: any, drone"):
        flight(tmp_path, json.dumps(both), name="other")


def test_a_faster_guest_may_say_so_and_too_many_points_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = as_csv((0, 60.0, 10.0, 0.0), (10, 60.1, 10.0, 0.0))
    with pytest.raises(ConfigurationError, match=r"1,114 m/s; at most 350 m/s"):
        flight(tmp_path, fast)
    assert flight(tmp_path, fast, max_speed_m_per_s=1200).seconds[-1] == 10
    monkeypatch.setattr(track_files, "MOST_POINTS", 2)
    for form in (as_csv, as_gpx, as_czml):
        with pytest.raises(ConfigurationError, match="more than 2 points"):
            flight(tmp_path, form(*ROWS))
    monkeypatch.setattr(track_files, "MOST_BYTES", 20)
    with pytest.raises(ConfigurationError, match="is larger than"):
        flight(tmp_path, fast)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([as_csv(*ROWS), as_gpx(*ROWS), as_czml(*ROWS), as_cartesian(*ROWS)]),
    st.integers(0, 400),
    st.integers(0, 40),
    st.text(max_size=20),
)
def test_any_damage_to_a_track_is_read_or_refused_and_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, text: str, at: int, length: int, instead: str
) -> None:
    damaged = (text[:at] + instead + text[at + length :]).encode("utf-8", "replace")
    file = tmp_path_factory.getbasetemp() / "damaged"
    file.write_bytes(damaged)
    with suppress(ConfigurationError):
        assert len(read_flight(file, name="drone", max_speed_m_per_s=350.0).seconds) >= 2
