"""`hil orbit contacts` and `links` say who serves guests."""

from __future__ import annotations

import json

import pytest

from hil.cli.app import run
from tests.kits.orbits import ORBITS

FILE = str(ORBITS / "ring-with-guests.yaml")


def services_of(text: str) -> list[list[str]]:
    rows = text.partition("\n\n")[2].splitlines()
    return [row.split() for row in rows if row.startswith("flight-1")]


def test_contacts_name_who_serves_and_who_comes_then(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["orbit", "contacts", FILE, "--span", "30m", "--step", "10s"]) == 0
    shown = capsys.readouterr().out
    first, second, last = services_of(shown)
    assert "5 hand-overs of 2 guests" in shown and "5.0 to 72" in shown
    assert first[1] == "sc-02" and first[-4:] == ["sc-01", "overlap", "39.5", "s"]
    assert second[1] == "sc-01" and last[1] == "sc-10" and "overlap" not in last
    assert run(["orbit", "contacts", FILE, "--span", "30m", "--step", "10s", "--json"]) == 0
    services = json.loads(capsys.readouterr().out)["services"]
    assert [one["spacecraft"] for one in services if one["guest"] == "flight-1"] == ["sc-02", "sc-01", "sc-10"]
    flight, satellite = services[0], services[-1]
    assert flight["elevation_deg"] == [5.0, pytest.approx(72.5, abs=0.5)]
    assert satellite["elevation_deg"] is None and satellite["range_km"][1] == pytest.approx(4000, abs=0.1)


def test_a_guest_that_does_not_fly_in_the_span_is_named_with_its_times(capsys: pytest.CaptureFixture[str]) -> None:
    start = ["--start", "2026-03-21T02:00Z", "--span", "5m", "--step", "10s"]
    assert run(["orbit", "contacts", FILE, *start]) == 0
    assert "nobody serves flight-1: its track is that of 2026-03-21T00:00:30Z to 2026-03-21T00:20:30Z" in (
        capsys.readouterr().out
    )


def test_links_name_who_serves_after_turns_and_acquisition(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["orbit", "links", FILE, "--span", "30m"]) == 0
    shown = capsys.readouterr().out
    assert [row[1] for row in services_of(shown)] == ["sc-02", "sc-01", "sc-10"]
    assert "gap" in shown and "flight-1/2" in shown


def test_czml_has_a_moving_packet_for_every_guest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["orbit", "contacts", FILE, "--span", "30m", "--step", "10s", "--format", "czml"]) == 0
    packets = {packet["id"]: packet for packet in json.loads(capsys.readouterr().out)}
    for guest in ("flight-1", "eo-9"):
        assert len(packets[guest]["position"]["cartesian"]) == 4 * 31
    wanted = {f"{end}#position" for end in ("sc-02", "flight-1")}
    assert set(packets["sc-02--flight-1"]["polyline"]["positions"]["references"]) == wanted
