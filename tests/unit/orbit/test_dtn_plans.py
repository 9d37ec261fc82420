"""ION's and HDTN's contact plans, as those programs themselves read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.cli.app import run
from hil.errors import ConfigurationError
from hil.orbit.dtn_plans import WireContact, WirePlan, lint, read_wire, to_hdtn, to_ion
from hil.orbit.times import parse_time
from tests.kits import checkout

CASES = checkout.DATA / "cases"
RANGE = "a range +0 +1000 1 2 1\n"
BOTH = "a contact +0 +100 1 2 1000\na contact +0 +100 2 1 1000\n"


def read(text: str, folder: Path) -> list[tuple[int, int, int, int, int, int]]:
    file = folder / "plan"
    file.write_text(text)
    plan = read_wire(file)
    return [(c.start_s, c.end_s, c.source, c.destination, c.rate_bps, c.light_time_s) for c in plan.contacts]


def errors(text: str) -> list[tuple[int, str]]:
    return [(f.line, f.reason) for f in lint(text) if f.error]


# -- the cases ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "warnings"),
    [
        ("01-ion-loopback.ionrc", 0),
        ("02-ion-at-relative.ionrc", 0),
        ("04-ion-delete-change.ionrc", 0),
        ("06-hdtn-defaults.json", 1),
        ("65-hdtn-several-contacts.json", 0),
    ],
)
def test_plans_that_others_use_pass(name: str, warnings: int) -> None:
    findings = lint((CASES / name).read_text())
    assert (sum(f.error for f in findings), len(findings)) == (0, warnings)


def test_loopback_contacts_are_no_fault_and_no_link(tmp_path: Path) -> None:
    plan = read_wire(CASES / "01-ion-loopback.ionrc")
    assert [(c.source, c.destination, c.light_time_s) for c in plan.contacts] == [(1, 2, 1), (2, 1, 1)]
    hdtn = {"contacts": [{"source": 1, "dest": 1, "endTime": 9}, {"source": 1, "dest": 2, "endTime": 9}]}
    assert [row[2:4] for row in read(json.dumps(hdtn), tmp_path)] == [(1, 2)]


def test_a_relative_reference_time_moves_on_from_the_one_before() -> None:
    starts = [(c.start_s, c.source) for c in read_wire(CASES / "02-ion-at-relative.ionrc").contacts]
    assert starts == [(0, 5), (0, 9), (1200, 5), (1200, 9), (1200, 7), (1200, 8)]


def test_times_of_both_kinds_without_a_reference_are_one_error() -> None:
    ((line, reason),) = errors((CASES / "03-ion-relative-and-absolute.ionrc").read_text())
    assert line == 5 and "nothing says when 0 is" in reason and "@ yyyy" in reason


def test_delete_and_change_are_carried_out() -> None:
    rows = [(c.start_s, c.source, c.rate_bps) for c in read_wire(CASES / "04-ion-delete-change.ionrc").contacts]
    assert rows == [(0, 1, 800_000), (0, 2, 4_000)]


def test_hdtn_s_defaults_strings_and_older_rate(tmp_path: Path) -> None:
    plan = read_wire(CASES / "06-hdtn-defaults.json")
    rows = [(c.source, c.destination, c.rate_bps, c.light_time_s) for c in plan.contacts]
    assert rows == [(1, 10, 10**9, 1), (10, 1, 10**9, 0), (1, 2, 20_000_000, 1), (2, 1, 20_000_000, 1)]
    (tmp_path / "p.ionrc").write_text(to_ion(plan))
    assert read_wire(tmp_path / "p.ionrc").contacts == plan.contacts  # also where the ways differ in light time


# -- ION ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("@ +50\n@ 0\n" + BOTH, [(0, 100, 1, 2), (0, 100, 2, 1)]),  # back to now
        (BOTH + "d contact * 1 2\n", [(0, 100, 2, 1)]),
        (BOTH + "d contact +1 1 2\n", [(0, 100, 1, 2), (0, 100, 2, 1)]),  # none begins then
        (BOTH + "q\nd contact * 1 2\n", [(0, 100, 1, 2), (0, 100, 2, 1)]),  # it ends before
        (BOTH + "^ 1\ne 1\nm horizon +0\nr 'ltpadmin x'\nl contact\n", [(0, 100, 1, 2), (0, 100, 2, 1)]),
        ("add contact +0 +9 1 2 1000 0.5\n", [(0, 9, 1, 2)]),  # ionadmin looks at one letter; a confidence
        ("## begin bpadmin\na contact\n## end bpadmin\n## begin ionadmin\n" + RANGE + BOTH + "## end ionadmin\n"
         "## begin ipnadmin\na plan 1 ltp/1\n## end ipnadmin\n", [(0, 100, 1, 2), (0, 100, 2, 1)]),
        (BOTH + "a contact 0 0 1 2 0\na contact -1 -1 1 1 0\n", [(0, 100, 1, 2), (0, 100, 2, 1)]),
        ("a contact 0 0 1 2 0\nd contact 0 1 2\n" + BOTH, [(0, 100, 1, 2), (0, 100, 2, 1)]),
    ],
)  # fmt: skip
def test_commands_are_read_as_ionadmin_reads_them(
    text: str, rows: list[tuple[int, int, int, int]], tmp_path: Path
) -> None:
    assert [row[:4] for row in read(RANGE * ("##" not in text) + text, tmp_path)] == rows


def test_dates_count_from_the_reference_time(tmp_path: Path) -> None:
    file = tmp_path / "p"
    date = "2026/03/21-00:"
    file.write_text(
        f"@ {date}00:10\na range {date}00:00 2026/3/21-24:00:00 1 2 1\na contact {date}00:00 {date}01:00 1 2 9\n"
        f"@ +20\na contact +40 +50 1 2 9\na contact {date}00:00 +50 2 1 9\n"
    )
    plan = read_wire(file)
    assert plan.start == parse_time("2026-03-21")  # nothing begins before 0
    assert [(c.start_s, c.end_s, c.source) for c in plan.contacts] == [(0, 60, 1), (0, 80, 2), (70, 80, 1)]


def test_ranges_hold_both_ways_until_another_says_otherwise(tmp_path: Path) -> None:
    light = "a range +0 +1000 1 2 7\na range +0 +1000 2 1 9\n"
    assert [row[5] for row in read(light + BOTH, tmp_path)] == [7, 9]
    light += "d range +0 2 1\na range +0 +1000 2 1 4\n"
    assert [row[5] for row in read(light + BOTH, tmp_path)] == [7, 4]
    (only,) = errors(light + "d range * 1 2\n" + BOTH)  # what was given the other way round stays
    assert "no range between 1 and 2" in only[1] and "write the lower node number first" in only[1]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (BOTH + "a contact +100 +200 1 2 1000\n", 4, "touches the contact of line 2"),
        (BOTH + "c range +0 1 2 5\n", 4, ""),
        ("a contact 0 0 1 2 0\nd contact * 1 2\n" + BOTH, 4, "overlaps the hypothetical contact of line 2"),
        (BOTH + "a contact +0600 +700 1 2 1000\n", 4, "begins with 0: ION reads that as an octal number"),
        (BOTH + "a contact +600 +700 1 2 1e6\n", 4, "whole numbers only"),
        (BOTH + "a contact +600 +700 1 2 ٣\n", 4, "whole numbers only"),
        (BOTH + "a contact +600 +700 1 2 5 0.٣\n", 4, "confidence 0.٣"),
        (BOTH + "a contact ٢026/01/01-00:00:00 +700 1 2 5\n", 4, "is not a time"),
        (BOTH + "a contact +600 +700 1 2 0\n", 4, "at least 1"),
        (BOTH + "a contact +600 +700 0 2 5\n", 4, "is not a node number"),
        (BOTH + "a contact +600 +700 1 2 5 1.5\n", 4, "confidence 1.5"),
        (BOTH + "a contact +600 +700 1 2 5 1.0 x\n", 4, "a contact takes start, stop"),
        (BOTH + "a contact 2039/01/01-00:00:00 +700 1 2 5\n", 4, "ends on 19 January 2038"),
        (BOTH + "a contact +600 +700 1 2 5 #\n", 4, "confidence #"),
        (BOTH + "a contact 2026/13/01-00:00:00 +700 1 2 5\n", 4, "'2026/13/01-00:00:00' is not a time"),
        (BOTH + "@ tomorrow\n", 4, "the reference time 'tomorrow' is not a time"),
        (BOTH + "c contact 0 1 2 5\n", 4, "scheduled contacts only"),
    ],
)
def test_what_ion_ignores_or_reads_otherwise_is_an_error(text: str, line: int, words: str) -> None:
    found = [f for f in lint(RANGE + text) if f.line == line]
    assert found and words in found[0].reason and (found[0].error or not words)


def test_what_changes_nothing_is_a_warning_and_so_is_the_same_line_again() -> None:
    text = RANGE + BOTH + BOTH + "c contact +5 1 2 1\nd range +6 1 2\n"
    assert [(f.line, f.error) for f in lint(text)] == [(4, False), (6, False)]


def test_a_rate_of_more_than_32_bits_is_what_ion_reads(tmp_path: Path) -> None:
    text = RANGE + BOTH.replace("1000\n", "10000000000\n")
    assert [row[4] for row in read(text, tmp_path)] == [1_410_065_408 * 8] * 2
    assert any("ION reads 1,410,065,408" in f.reason for f in lint(text))


def test_a_line_that_ionadmin_does_not_know_is_a_warning() -> None:
    assert [(f.line, f.error) for f in lint(RANGE + BOTH + "Contact +0 +9 1 2 5\na contacts +0 +9 1 2 5\n")] == [
        (4, False)
    ]


def test_a_kind_of_warning_is_told_once_with_its_lines() -> None:
    far = "".join(f"a contact +{t} +{t + 50} 1 2 1000\na contact +{t} +{t + 50} 2 1 1000\n" for t in range(0, 900, 100))
    (finding,) = lint("a range +0 +1000 1 2 480\n" + far)
    assert finding.line == 2 and finding.reason.endswith("(the same in lines 3, 4, 5, 6, 7 and 12 more)")
    (finding,) = lint(far)
    assert finding.error and "ranges in another file?" in finding.reason


def test_contacts_that_touch_are_written_so_that_ion_keeps_them(tmp_path: Path) -> None:
    plan = WirePlan(tuple(WireContact(t, t + 10, 1, 2, 8000, t // 10) for t in (0, 10, 20)))
    text = to_ion(plan)
    assert not errors(text)
    assert [row[:2] + row[5:] for row in read(text, tmp_path)] == [(0, 9, 0), (10, 19, 1), (20, 30, 2)]
    back = WirePlan((WireContact(0, 10, 2, 1, 8000, 1),))  # one way only, from the higher number
    (tmp_path / "b").write_text(to_ion(back))
    assert read_wire(tmp_path / "b").contacts == back.contacts


# -- HDTN --------------------------------------------------------------------------------------------------------


def hdtn(**contact: object) -> str:
    return json.dumps({"contacts": [{"source": 1, "dest": 2, "endTime": 9, "rateBitsPerSec": 8000, **contact}]})


@pytest.mark.parametrize(
    ("contact", "words"),
    [
        ({"rateBitsPerSec": 1e9}, "rateBitsPerSec is '1000000000.0'"),
        ({"rateBitsPerSec": "1 Gbit"}, "rateBitsPerSec is '1 Gbit'"),
        ({"startTime": -1}, "startTime is '-1'"),
        ({"endTime": 1_800_000_000_000}, "a whole number up to 2,147,483,647"),
        ({"owlt": "٣"}, "owlt is '٣'"),
        ({"source": 0}, "source and dest are node numbers from 1"),
        ({"dest": True}, "dest is 'True'"),
        ({"owlt": None}, "owlt is 'None'"),
        ({"endTime": "0"}, "not after its start"),
    ],
)
def test_what_hdtn_would_silently_take_for_0_is_an_error(contact: dict[str, object], words: str) -> None:
    ((line, reason),) = errors(hdtn(**contact))
    assert line == 1 and words in reason


def test_the_contacts_of_a_plan_are_those_at_its_top_and_each_has_its_line(tmp_path: Path) -> None:
    contacts = hdtn().removeprefix("{")
    for other in ('"meta": {"contacts": []}', '"meta": {"contacts": [{"source": 7}]}', '"contacts": []'):
        assert len(read("{" + other + ",\n" + contacts, tmp_path)) == 1
    ((line, _),) = errors('{"meta": {"contacts": []},\n' + hdtn(source=0).removeprefix("{"))
    assert line == 2


def test_a_rate_of_0_is_no_limit_and_counts_as_1_gbit_s(tmp_path: Path) -> None:
    assert [row[4] for row in read(hdtn(rateBitsPerSec=0), tmp_path)] == [10**9]
    assert any("no limit of the rate" in f.reason for f in lint(hdtn(rateBitsPerSec=0)))


def test_numbers_that_are_no_json_objects_or_too_deep_are_told() -> None:
    assert errors('{"contacts": [' + "9" * 5000 + "]}")
    ((_, reason),) = errors(f"a contact +{'9' * 5000} +9 1 2 5\x1b[2J\n")
    assert len(reason) < 500 and reason.isprintable()
    assert errors("[" * 100_000) and errors('{"contacts": [5]}') and errors('{"contacts": {}}')


def test_convert_refuses_what_lint_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match="nothing says when 0 is"):
        read_wire(CASES / "03-ion-relative-and-absolute.ionrc")
    assert run(["orbit", "convert", str(CASES / "04-ion-delete-change.ionrc"), "--to", "hdtn"]) == 0
    assert len(json.loads(capsys.readouterr().out)["contacts"]) == 2
    assert not errors(to_hdtn(read_wire(CASES / "02-ion-at-relative.ionrc")))
