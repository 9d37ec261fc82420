"""Orbit files, element sets, contact plan formats, the linter, pictures and the command."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sgp4.exporter import export_tle

from hil.cli.app import run
from hil.errors import ConfigurationError
from hil.orbit.contact_plan import Contact, ContactPlan, contact_plan
from hil.orbit.dtn_plans import WirePlan, lint, read_wire, to_hdtn, to_ion, to_wire
from hil.orbit.element_files import parse_elements, parse_tle
from hil.orbit.elements import load_constellation
from hil.orbit.picture import show
from hil.orbit.plan_export import to_csv, to_czml, to_json
from hil.orbit.times import iso, parse_time
from tests.kits import checkout

ORBITS = checkout.ROOT / "lab" / "orbits"
START = parse_time("2026-03-21T00:00:00Z")
RING_TLE = export_tle(load_constellation(ORBITS / "ring-of-ten.yaml").element_sets[1])
OMM = {
    "OBJECT_NAME": "AETHER 1",
    "EPOCH": "2026-03-21T00:00:00",
    "MEAN_MOTION": "14.893",
    "ECCENTRICITY": "0.001",
    "INCLINATION": "97.79",
    "RA_OF_ASC_NODE": "10",
    "ARG_OF_PERICENTER": "90",
    "MEAN_ANOMALY": "36",
}


@pytest.fixture(scope="module")
def plan() -> ContactPlan:
    return contact_plan(load_constellation(ORBITS / "two-planes.yaml"), duration_s=7200, step_s=10)


def orbit_file(folder: Path, *lines: str) -> Path:
    file = folder / "o.yaml"
    file.write_text("\n".join(["schema: 1", "name: o", *lines]) + "\n")
    return file


# -- orbit files and elements ------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(ORBITS.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_shipped_orbit_file_is_valid_and_says_what_is_assumed(file: Path) -> None:
    found = load_constellation(file)
    assert found.name == file.stem and found.assumed and found.stations


def test_an_unknown_key_is_named_with_its_line(tmp_path: Path) -> None:
    shell = "shell: {planes: 1, slots_per_plane: 2, altitude: 600, ltan: '18:00'}"
    file = orbit_file(tmp_path, "epoch: '2026-03-21'", shell)
    with pytest.raises(ConfigurationError, match=r"o\.yaml:4: shell\.altitude: unknown key; did you mean altitude_km"):
        load_constellation(file)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["tle: x", "elements_file: y"], "exactly one of shell, tle, elements_file"),
        (["shell: {planes: 1, slots_per_plane: 2, altitude_km: 600.0, ltan: '18:00'}"], "needs an epoch"),
        (["epoch: soon", "tle: x"], r"o\.yaml:3: .*'soon' is not a time"),
        (["epoch: '2026-03-21'", "shell: {planes: 1, slots_per_plane: 2, altitude_km: 600.0}"], "needs ltan"),
        (
            ["epoch: '2026-03-21'", "shell: {planes: 1, slots_per_plane: 2, altitude_km: 600.0, ltan: '25:00'}"],
            r"o\.yaml:4: .*'25:00' is not a local time",
        ),
        (["elements_file: nowhere.txt"], "nowhere.txt: no such file"),
    ],
)
def test_what_contradicts_itself_or_is_missing_is_refused(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_constellation(orbit_file(tmp_path, *lines))


@pytest.mark.parametrize(
    ("file", "words", "remedy"),
    [
        ("lab/kepler.yaml", "this is a lab file", "lab/orbits/ring-of-ten.yaml"),
        ("lab/virtual.yaml", "this is a lab file", "it has no orbit"),
        ("tests/data/cases/56-tle-amsat.tle", "these are elements", "elements_file: 56-tle-amsat.tle"),
        ("tests/data/cases/13-omm.csv", "these are elements", "elements_file: 13-omm.csv"),
    ],
)
def test_another_kind_of_file_is_told_by_what_it_is(file: str, words: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_constellation(checkout.ROOT / file)
    assert remedy in caught.value.remedy


def test_tle_lines_in_an_orbit_file_give_names_and_an_epoch(tmp_path: Path) -> None:
    block = ["tle: |", "  AETHER 1 (A)", *(f"  {line}" for line in RING_TLE)]
    found = load_constellation(orbit_file(tmp_path, *block))
    assert found.spacecraft == ("aether-1-a",)
    assert iso(found.epoch) == "2026-03-21T00:00:00Z"


def test_a_tle_with_a_wrong_digit_is_refused_with_its_line() -> None:
    broken = RING_TLE[1].replace("97.78", "97.77", 1)
    assert broken != RING_TLE[1]
    with pytest.raises(ConfigurationError, match="here:2: checksum"):
        parse_tle([RING_TLE[0], broken], where="here")
    with pytest.raises(ConfigurationError, match="no line 2"):
        parse_tle([RING_TLE[0]], where="here")


def test_an_omm_means_the_same_in_json_and_in_kvn() -> None:
    kvn = "CCSDS_OMM_VERS = 2.0\n" + "\n".join(f"{k} = {v}" for k, v in OMM.items()).replace("97.79", "97.79 [deg]")
    (name, *_), (a, *_) = parse_elements(json.dumps([OMM]), where="j")
    (other, *_), (b, *_) = parse_elements(kvn, where="k")
    assert name == other == "aether-1"
    assert a.sgp4(a.jdsatepoch, 0.5) == b.sgp4(b.jdsatepoch, 0.5)
    with pytest.raises(ConfigurationError, match=r"OMM 1 \(AETHER 1\): missing or empty: INCLINATION"):
        parse_elements(json.dumps({k: v for k, v in OMM.items() if k != "INCLINATION"}), where="j")


# -- formats -----------------------------------------------------------------------------------------------------


def test_json_holds_every_contact_to_the_millisecond(plan: ContactPlan) -> None:
    document = json.loads(to_json(plan))
    assert document["nodes"] == list(plan.nodes) and parse_time(document["start"]) == plan.start
    back = [Contact(**contact) for contact in document["contacts"]]
    assert all(abs(a.start_s - b.start_s) <= 0.0005 for a, b in zip(back, plan.contacts, strict=True))
    assert all(abs(a.max_delay_us - b.max_delay_us) <= 0.0005 for a, b in zip(back, plan.contacts, strict=True))


def test_csv_has_a_row_per_contact_with_units_in_the_header(plan: ContactPlan) -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(plan))))
    assert len(rows) == len(plan.contacts)
    assert {"start", "end", "start_s", "max_delay_us", "rate_bps"} <= set(rows[0])


@pytest.mark.parametrize("write", [to_ion, to_hdtn], ids=["ion", "hdtn"])
def test_what_we_export_is_clean_and_comes_back_as_the_same_contacts(
    plan: ContactPlan, write: Callable[[WirePlan], str], tmp_path: Path
) -> None:
    wire = to_wire(plan)
    text = write(wire)
    assert lint(text) == []
    file = tmp_path / "plan"
    file.write_text(text)
    assert read_wire(file).contacts == wire.contacts
    if write is to_ion:
        assert read_wire(file) == wire  # names and start too: as comments, and as the reference time


def test_the_two_formats_carry_the_same_rate_in_their_own_units(plan: ContactPlan) -> None:
    wire = to_wire(plan)
    ion = next(line.split() for line in to_ion(wire).splitlines() if line.startswith("a contact"))
    hdtn = json.loads(to_hdtn(wire))["contacts"][0]
    assert int(ion[6]) * 8 == hdtn["rateBitsPerSec"] == wire.contacts[0].rate_bps


contact_lists = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 50), st.integers(8, 10**10)), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(contact_lists, st.integers(0, 999_999))
def test_whole_seconds_never_promise_more_than_there_is(spans: list[tuple[float, float, int]], micros: int) -> None:
    second, found = 0.0, []
    for gap, length, rate in spans:
        found.append(Contact("crosslink", "a", "b", second + gap, second + gap + length, 1.0, 2.0, 0.0, 0.0, rate))
        second += gap + length
    start = START + timedelta(microseconds=micros)
    wire = to_wire(ContactPlan("p", start, second + 1, 1.0, ("a", "b"), tuple(found)))
    for leg in wire.contacts:
        begin, end = leg.start_s - micros / 1e6, leg.end_s - micros / 1e6
        assert any(c.start_s <= begin + 1e-5 and end <= c.end_s + 1e-5 for c in found)
    assert {(c.start_s, c.source) for c in wire.contacts if c.source == 1} == {
        (c.start_s, 1) for c in wire.contacts if c.source == 2
    }
    if wire.contacts:
        assert not any(f.error for f in lint(to_ion(wire)))
        assert not any(f.error for f in lint(to_hdtn(wire)))


GOOD_ION = "a range +0 +100 1 2 0\na contact +0 +100 1 2 1000000\na contact +0 +100 2 1 1000000\n"


@pytest.mark.parametrize(
    ("text", "line", "error", "reason"),
    [
        (GOOD_ION + "a contact +50 +150 1 2 1000000\n", 4, True, "overlaps the contact of line 2"),
        (GOOD_ION.replace("1 2 1000000", "1 2 2500000000"), 2, False, "ION's rates are bytes per second"),
        ("\n".join(GOOD_ION.splitlines()[:2]), 2, False, "contact from 1 to 2 only"),
        (GOOD_ION.replace("1 2 0", "1 2 0.014"), 1, True, "light time in whole seconds"),
        (GOOD_ION.replace("1 2 0", "1 2 14"), 2, False, "whole light seconds, not milliseconds"),
        (GOOD_ION.replace("1 2 0", "2 1 0"), 1, False, "holds one way only"),
        (GOOD_ION.replace("a range +0 +100 1 2 0\n", ""), 1, True, "no range between 1 and 2"),
        (GOOD_ION.replace("range +0 +100", "range +0 +60"), 2, False, "ends before this contact"),
        (GOOD_ION.replace("+0 +100 2 1", "+100 +100 2 1"), 3, True, "not after its start"),
        (GOOD_ION.replace("+0 +100 2 1", "0.5 +100 2 1"), 3, True, "is not a time"),
        (GOOD_ION + "a contact -1 +5 1 1 1000000\n", 4, False, "registers a node"),
        (GOOD_ION + "a contact -1 +5 1 2 1000000\n", 4, True, "names one node twice"),
        (GOOD_ION + "a contact +200 +300 1 2\n", 4, True, "a contact takes start, stop"),
        ("# nothing\n", 1, True, "holds no contact"),
    ],
)
def test_the_linter_names_line_and_reason_of_every_ion_trap(text: str, line: int, error: bool, reason: str) -> None:
    found = [f for f in lint(text) if reason in f.reason]
    assert found and (found[0].line, found[0].error) == (line, error), lint(text)


def hdtn(**changes: object) -> str:
    first = {"contact": 0, "source": 1, "dest": 2, "startTime": 0, "endTime": 100, "rateBitsPerSec": 10**9, "owlt": 0}
    second = {**first, "contact": 1, "source": 2, "dest": 1}
    changed = {k: v for k, v in {**second, **changes}.items() if v is not None}
    return '{"contacts": [\n' + json.dumps(first) + ",\n" + json.dumps(changed) + "\n]}\n"


@pytest.mark.parametrize(
    ("text", "line", "error", "reason"),
    [
        (hdtn(contact=0), 3, False, "contact 0 is given twice (first in line 2)"),
        (hdtn(owlt=0.014), 3, True, "whole light seconds"),
        (hdtn(rateBitsPerSec=None, rate=10**9), 3, False, "HDTN takes Mbit/s"),
        (hdtn(rateBitsPerSec=10**11), 3, False, "rateBitsPerSec is bits per second"),
        (hdtn(source=1, dest=2), 3, True, "overlaps the contact of line 2"),
        (hdtn(startTime=200, endTime=300), 2, False, "contact from 1 to 2 only"),
        (hdtn(endTime=0), 3, True, "not after its start"),
        ('{"contacts": [\n{"contact": 0,}\n]}', 2, True, "not valid JSON"),
        ('{"links": []}', 1, True, 'expected {"contacts"'),
    ],
)
def test_the_linter_names_line_and_reason_of_every_hdtn_trap(text: str, line: int, error: bool, reason: str) -> None:
    found = [f for f in lint(text) if reason in f.reason]
    assert found and (found[0].line, found[0].error) == (line, error), lint(text)


def test_repeated_contacts_of_one_pair_are_no_fault() -> None:
    later = GOOD_ION.replace("+0 +100", "+200 +300")
    assert lint(GOOD_ION + later) == []


def test_absolute_times_and_a_reference_time_mean_the_same(tmp_path: Path) -> None:
    day = "2026/03/21-00:"
    absolute = GOOD_ION.replace("+0 ", f"{day}00:00 ").replace("+100", f"{day}01:40")
    plans: list[WirePlan] = []
    for text in (absolute, f"@ {day}00:00\n{GOOD_ION}"):
        (tmp_path / "p").write_text(text)
        plans.append(read_wire(tmp_path / "p"))
    assert plans[0] == plans[1] and plans[0].start == START


def test_a_broken_plan_is_not_read_and_says_file_line_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "p.ionrc"
    file.write_text(GOOD_ION + "a contact +50 +150 1 2 1000000\n")
    with pytest.raises(ConfigurationError, match=r"p\.ionrc:4: error: overlaps the contact of line 2"):
        read_wire(file)


def test_czml_has_a_packet_per_node_and_pair_and_shows_lines_only_during_contacts(plan: ContactPlan) -> None:
    found = load_constellation(ORBITS / "two-planes.yaml")
    document, *packets = json.loads(to_czml(found, plan))
    assert document["id"] == "document" and document["version"] == "1.0"
    by_id = {p["id"]: p for p in packets}
    assert set(plan.nodes) <= set(by_id)
    contact = plan.contacts[0]
    shows = by_id[f"{contact.a}--{contact.b}"]["polyline"]["show"]
    assert shows[0]["boolean"] is False
    assert len(shows) - 1 == len(plan.between(contact.a, contact.b))


# -- pictures and the command ------------------------------------------------------------------------------------


def test_the_picture_is_one_self_contained_svg_with_every_spacecraft_and_contact() -> None:
    found = load_constellation(ORBITS / "ring-of-ten.yaml")
    text = show(found, found.epoch, hours=1)
    root = ET.fromstring(text)
    words = {element.text for element in root.iter() if element.text}
    assert set(found.spacecraft) <= words
    assert "sc-01 – sc-02" in words and any("10 crosslinks possible" in w for w in words)
    assert "href" not in text and "url(" not in text


@pytest.mark.parametrize("format_", ["table", "csv", "json", "ionrc", "hdtn", "czml"])
def test_the_command_writes_every_format(format_: str, tmp_path: Path) -> None:
    out = tmp_path / "plan"
    file = str(ORBITS / "two-planes.yaml")
    arguments = ["orbit", "contacts", file, "--span", "30m", "--step", "10s", "--format", format_]
    assert run([*arguments, "-o", str(out)]) == 0
    assert out.stat().st_size > 300


def test_lint_exits_with_2_on_errors_and_0_on_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.ionrc"
    file.write_text(GOOD_ION + "a contact +50 +150 1 2 1000000\n")
    assert run(["orbit", "lint", str(file)]) == 2
    assert f"{file}:4: error: overlaps" in capsys.readouterr().out
    file.write_text("\n".join(GOOD_ION.splitlines()[:2]) + "\n")
    assert run(["orbit", "lint", str(file)]) == 0


def test_convert_turns_one_dtn_format_into_the_other(tmp_path: Path) -> None:
    ion, other = tmp_path / "p.ionrc", tmp_path / "p.json"
    ion.write_text(GOOD_ION)
    assert run(["orbit", "convert", str(ion), "--to", "hdtn", "-o", str(other)]) == 0
    assert read_wire(other).contacts == read_wire(ion).contacts


def test_the_help_of_the_orbit_command_loads_neither_numpy_nor_sgp4() -> None:
    code = (
        "import sys\nfrom hil.cli.app import run\n"
        "run(['orbit', 'contacts', '--help'])\n"
        "sys.exit(any(m in sys.modules for m in ('numpy', 'sgp4', 'pydantic')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
