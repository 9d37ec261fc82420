"""Elements in the forms in which they are published, and what must not be propagated."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from random import Random

import pytest

from hil.cli.app import run
from hil.errors import ConfigurationError
from hil.orbit.contact_plan import contact_plan
from hil.orbit.element_files import parse_elements
from hil.orbit.elements import load_constellation
from hil.orbit.times import iso, parse_time
from tests.kits import checkout

CASES = checkout.DATA / "cases"
OMM: Mapping[str, object] = json.loads((CASES / "13-omm.json").read_text())[0]


def case(name: str) -> str:
    return (CASES / name).read_text()


def numbers(text: str, where: str = "here") -> dict[str, str]:
    names, sets = parse_elements(text, where=where)
    return {name: str(each.satnum_str) for name, each in zip(names, sets, strict=True)}


def omm(**changes: object) -> str:
    return json.dumps([{**OMM, **changes}])


@pytest.mark.parametrize(
    ("name", "catalogue"),
    [
        ("08-omm-nine-digits.json", {"starlink-11413": "799501299", "later-one": "340000"}),
        ("13-omm.csv", {"iss-zarya": "25544", "new-one": "100123"}),
        ("13-omm.xml", {"iss-zarya": "25544"}),
        ("56-tle-amsat.tle", {"iss": "25544"}),
        ("56-tle-alpha5.tle", {"sc-01": "T0000"}),
        ("58-omm-two-makers.json", {"iss-zarya": "25544", "helios-2a": "28492"}),
    ],
)
def test_published_files_are_read_whatever_their_form_and_their_catalogue_numbers(
    name: str, catalogue: dict[str, str]
) -> None:
    assert numbers(case(name)) == catalogue


def test_json_csv_xml_and_kvn_mean_the_same_orbit() -> None:
    kvn = "CCSDS_OMM_VERS = 2.0\nCOMMENT = made\n" + "\n".join(f"{k} = {v}" for k, v in OMM.items())
    quoted = io.StringIO()
    rows = csv.DictWriter(quoted, list(OMM), quoting=csv.QUOTE_ALL)
    rows.writeheader()
    rows.writerow(dict(OMM))
    item = "<xml><item>" + "".join(f"<{k}>{v}</{k}>" for k, v in OMM.items()) + "</item></xml>"
    spaced = '<ndm xmlns="urn:x"><omm>' + "".join(f'<{k} units="u">{v}</{k}>' for k, v in OMM.items()) + "</omm></ndm>"
    nested = json.dumps({"body": {"data": {"meanElements": dict(OMM)}}})
    strings = json.dumps([{k: str(v) for k, v in OMM.items()}])
    texts = (omm(), kvn, kvn.replace(" = ", "="), quoted.getvalue(), item, spaced, nested, strings, "\ufeff" + omm())
    places = {parse_elements(text, where="x")[1][0].sgp4(2461268.0, 0.25)[1] for text in texts}
    assert len(places) == 1


@pytest.mark.parametrize(
    "epoch",
    [
        "2026-08-15T04:00:00.000000",
        "2026-08-15T04:00:00Z",
        "2026-227T04:00:00",
        "2026-227T04:00:00.0000000000Z",
        "2026-08-15 04:00:00",
        "2026-08-15T06:00:00+02:00",
    ],
)
def test_every_form_of_an_epoch_is_the_same_moment(epoch: str) -> None:
    _, (elements,) = parse_elements(omm(EPOCH=epoch), where="x")
    assert elements.jdsatepoch + elements.jdsatepochF == pytest.approx(2461267.666667, abs=1e-6)


def test_a_leap_second_is_the_second_after_it_and_old_files_give_microseconds_apart() -> None:
    assert iso(parse_time("2016-12-31T23:59:60Z")) == iso(parse_time("2017-001T00:00:00")) == "2017-01-01T00:00:00Z"
    split = parse_elements(omm(EPOCH="2026-08-15 04:00:00", EPOCH_MICROSECONDS="250000"), where="x")[1][0]
    whole = parse_elements(omm(EPOCH="2026-08-15T04:00:00.25"), where="x")[1][0]
    assert split.jdsatepochF == whole.jdsatepochF
    for text in ("2026-366T00:00:00", "2026-000T00:00:00", "2026-08-15T23:60:60", "0001-01-01T00:00:00+05:00", ""):
        with pytest.raises(ConfigurationError, match="is not a time"):
            parse_time(text)


def test_a_placeholder_is_named_with_its_empty_epoch() -> None:
    with pytest.raises(ConfigurationError, match=r"b\.json: OMM 2 \(HYDRA-W\): missing or empty: EPOCH, MEAN_MOTION"):
        parse_elements(case("11-omm-null-placeholder.json"), where="b.json")
    without = json.loads(case("11-omm-null-placeholder.json"))
    del without[1]
    assert list(numbers(json.dumps(without))) == ["iss-zarya", "some-sat"]  # an empty optional value is no fault


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"EPHEMERIS_TYPE": 4}, "SGP4-XP"),
        ({"MEAN_ELEMENT_THEORY": "SGP4-XP"}, "SGP4-XP"),
        ({"BTERM": "0.02"}, "SGP4-XP"),
        ({"EPHEMERIS_TYPE": "6"}, "EPHEMERIS_TYPE is 6"),
        ({"MEAN_ELEMENT_THEORY": "DSST"}, "MEAN_ELEMENT_THEORY is DSST"),
        ({"REF_FRAME": "EME2000"}, "REF_FRAME is EME2000"),
        ({"CENTER_NAME": "MARS BARYCENTER"}, "CENTER_NAME is MARS"),
        ({"TIME_SYSTEM": "TAI"}, "TIME_SYSTEM is TAI"),
        ({"EPOCH": "soon"}, r"EPOCH: 'soon' is not a time"),
        ({"EPOCH": "0001-01-01T00:00:00"}, "EPOCH is in the year 1,"),
        ({"EPOCH_MICROSECONDS": "many", "EPOCH": "2026-08-15 04:00:00"}, "EPOCH_MICROSECONDS is 'many', not a number"),
        ({"MEAN_MOTION": 0}, "MEAN_MOTION is 0, not from"),
        ({"MEAN_MOTION": "1e400"}, "MEAN_MOTION is '1e400', not a number"),
        ({"ECCENTRICITY": 1.2}, "ECCENTRICITY is 1.2, not from"),
        ({"ECCENTRICITY": 0.6}, "no orbit"),  # perigee inside the Earth
        ({"INCLINATION": "NaN"}, "not a number"),
        ({"BSTAR": "none"}, "BSTAR is 'none', not a number"),
        ({"MEAN_MOTION": 17.9}, "no orbit"),
        ({"DECAY_DATE": "2026-08-20"}, "decayed on 2026-08-20"),
    ],
)
def test_elements_that_sgp4_would_compute_wrongly_are_refused_with_their_name(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"x: OMM 1 \(ISS \(ZARYA\)\).*{words}"):
        parse_elements(omm(**changes), where="x")


def test_what_makers_add_is_read_in_every_form() -> None:
    kvn = "\n".join(
        ("CCSDS_OMM_VERS = 2.0", *(f"{k} = {v}" for k, v in OMM.items()), "USER_DEFINED_DECAY_DATE = 2026-08-20")
    )
    added = '<USER_DEFINED parameter="DECAY_DATE">2026-08-20</USER_DEFINED>'
    xml = "<ndm><omm>" + "".join(f"<{k}>{v}</{k}>" for k, v in OMM.items()) + f"{added}</omm></ndm>"
    for text in (kvn, xml):
        with pytest.raises(ConfigurationError, match="decayed on 2026-08-20"):
            parse_elements(text, where="x")
        parse_elements(text.replace("2026-08-20", ""), where="x")  # as for what still flies


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("No GP data found", "it says 'No GP data found'"),
        ("<html><body>Error</body></html>", "holds no OMM"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><ndm/>", "no DOCTYPE"),
        ("<ndm><omm>", "1: not valid XML"),
        ("[1]", "OMM 1: expected keys and values"),
        ('[{"error": "rate limit"}]', "OMM 1: missing or empty: EPOCH"),
        ("[" * 100_000, "not valid JSON"),
        ('OBJECT_NAME,EPOCH\n"A,' + "x" * 200_000, "x:2: not CSV"),
        ("", "holds no elements"),
    ],
)
def test_what_is_no_file_of_elements_is_told_with_its_own_words(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_elements(text, where="x")


def tle(columns: slice, new: str, line: int = 1) -> str:
    """The ISS with other columns in one line, and the checksum right again."""
    lines = case("56-tle-amsat.tle").splitlines()
    rows = [row for row in lines if row.startswith(("1 25544", "2 25544"))][:2]
    changed = rows[line - 1][: columns.start] + new + rows[line - 1][columns.stop : 68]
    digits = sum(int(c) if c.isdigit() else c == "-" for c in changed)
    rows[line - 1] = f"{changed}{digits % 10}"
    return "ISS\n" + "\n".join(rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (tle(slice(62, 63), "4"), r"x:3: ISS: these are SGP4-XP"),
        (tle(slice(18, 32), "18499.66449166"), "not a year and a day"),
        (tle(slice(20, 32), "1x9.66449166"), "the day of the epoch is '1x9.66449166', not a number"),
        (tle(slice(8, 16), " xx.6399", 2), "INCLINATION is 'xx.6399', not a number"),
        (tle(slice(8, 16), "551.6399", 2), "INCLINATION is 551.6399, not from"),
        (tle(slice(52, 63), "99.53989406", 2), "MEAN_MOTION is 99.53989406"),
        (tle(slice(26, 33), "7003967", 2), "no orbit"),
    ],
)
def test_a_tle_with_a_right_checksum_and_an_impossible_orbit_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_elements(text, where="x")


def test_sgp4_xp_is_refused_by_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["orbit", "contacts", str(CASES / "09-sgp4-xp.yaml"), "--span", "12h", "--step", "30s"]) == 2
    assert "ISS: these are SGP4-XP elements (type 4)" in capsys.readouterr().err


def test_a_decayed_spacecraft_is_refused_with_its_name() -> None:
    decayed = load_constellation(CASES / "10-decayed.yaml")
    contact_plan(decayed, duration_s=600)  # at their own epoch the elements hold
    with pytest.raises(ConfigurationError, match=r"sc-01: its elements do not hold at 2024-12-20.*68\.2 days before"):
        contact_plan(decayed, parse_time("2024-12-20T21:39:16Z"), duration_s=3600, step_s=60)


def test_a_span_years_from_the_elements_is_refused_but_a_made_up_shell_keeps_for_ever() -> None:
    ring = load_constellation(checkout.ROOT / "lab/orbits/ring-of-ten.yaml")
    contact_plan(ring, parse_time("2031-01-01"), duration_s=600, step_s=60)
    iss = load_constellation(CASES / "10-decayed.yaml")
    with pytest.raises(ConfigurationError, match="sc-01: its elements do not hold at 2031"):
        contact_plan(iss, parse_time("2031-01-01"), duration_s=600, step_s=60)


def test_damaged_files_are_refused_or_read_but_never_end_in_another_error() -> None:
    random = Random(1)
    texts = [file.read_text() for file in CASES.glob("*omm*")] + [case("56-tle-amsat.tle"), case("56-tle-alpha5.tle")]
    for text in texts:
        for _ in range(60):
            place, length = random.randrange(len(text)), random.choice((0, 1, 7))
            damaged = (
                text[:place] + random.choice(["9", "-", "\x00", "null", "{", "é", ",", ""]) + text[place + length :]
            )
            try:
                _, sets = parse_elements(damaged, where="x")
            except ConfigurationError:
                continue
            assert all(each.sgp4(each.jdsatepoch, each.jdsatepochF)[0] == 0 for each in sets)
