"""Guests of a lab file: nodes with addresses and routes of their own, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.core import paths
from hil.errors import ConfigurationError
from hil.lab.addressing import board_addresses, guest_address, node_address
from hil.lab.model import load_lab
from hil.lab.routes import path, routes

FILE = paths.ROOT / "lab/guests.yaml"
LAB = load_lab(FILE)
TEXT = FILE.read_text()


def refused(tmp_path: Path, old: str, new: str) -> str:
    assert old in TEXT
    file = tmp_path / "lab.yaml"
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigurationError) as refusal:
        load_lab(file)
    return str(refusal.value)


def test_a_guest_has_an_address_of_its_own_after_those_of_the_spacecraft() -> None:
    assert (guest_address(LAB, "flight-2"), node_address(LAB, "flight-2")) == ("198.18.4.11", "198.18.4.1")
    assert all(not a.flight.startswith("198.18.4.") for a in board_addresses(LAB).values())


def test_packets_reach_a_guest_over_the_link_that_is_usable_and_none_passes_through_it() -> None:
    assert path(LAB, "sc-01", "flight-2", {"isl-01-02", "gst-02"}) == ["isl-01-02", "gst-02"]
    assert path(LAB, "sc-02", "sc-10", {"gst-02", "gst-10"}) is None
    table = {
        r.node: r.link
        for r in routes(LAB, {"ground", "isl-01-02", "isl-10-01", "gst-10"})
        if r.destination == "198.18.4.0/24"
    }
    assert table == {"gs-1": "ground", "sc-01": "isl-10-01", "sc-02": "isl-01-02", "sc-10": "gst-10"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("served_by: g01a", "served_by: g77", "guests.flight-2.served_by: g77 is not a board; boards: g01a"),
        ("flight_security: mtls", "flight_security: none", "needs `flight_security: mtls`"),
        ("name: flight-2", "name: sc-01", "the name sc-01 is used twice"),
        ("gst-02, kind: guest", "gst-02, kind: crosslink", "the link has a guest at an end"),
        ("isl-01-02, kind: crosslink", "isl-01-02, kind: guest", "the link does not have a guest at an end"),
        ("[flight-2, sc-02]", "[flight-2, gs-1]", "has the ground station at an end"),
        ("name: flight-2,", "name: flight-3,", "flight-2 is neither the ground station nor a spacecraft nor a guest"),
        ("served_by: g01a}", "served_by: g01a, nic: 'a b'}", "should match pattern"),
        ("time_factor: 20", "time_factor: 0.5", "time_factor"),
    ],
)
def test_a_guest_that_makes_no_sense_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert told in refused(tmp_path, old, new)


def test_a_link_between_guests_is_refused(tmp_path: Path) -> None:
    other = "guests:\n  - {name: flight-3}\n"
    file = tmp_path / "lab.yaml"
    file.write_text(TEXT.replace("guests:\n", other, 1).replace("[flight-2, sc-02]", "[flight-2, flight-3]"))
    with pytest.raises(ConfigurationError, match="both ends are guests"):
        load_lab(file)
