"""plan.yaml is read strictly, and errors name file, line and what is allowed."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from hil.core import paths
from hil.errors import ConfigurationError
from hil.evidence.fidelity_gaps import load_gaps
from hil.evidence.risk import named_scale
from hil.evidence.test_plan import Plan, load_plan

GOOD = """\
schema: 1
id: demo
title: A demo campaign
requirements:
  - {id: DEM-1, text: It works., method: T, level: system, fidelity_needed: virtual}
  - {id: DEM-2, text: It works on hardware., method: T, level: board, fidelity_needed: hardware}
risks:
  - id: R-1
    title: It might not work
    before: {likelihood: 4, severity: 3}
    after: {likelihood: 2, severity: 3}
    requirements: [DEM-1]
criteria:
  - {id: C-1, text: It all works, requirements: [DEM-1, DEM-2]}
"""


def _load(folder: Path, text: str) -> Plan:
    (folder / "plan.yaml").write_text(text, encoding="utf-8")
    return load_plan(folder)


def test_a_good_plan_is_read_whole(tmp_path: Path) -> None:
    plan = _load(tmp_path, GOOD)
    assert [r.id for r in plan.requirements] == ["DEM-1", "DEM-2"]
    assert plan.risks[0].after.likelihood == 2
    assert plan.scale is named_scale("ecss")
    assert plan.requirement("DEM-2").fidelity_needed == "hardware"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("method: T", "method: X", 5, "'T', 'A', 'R' or 'I'"),
        ("fidelity_needed: virtual", "fidelity_needed: simulated", 5, "'virtual' or 'hardware'"),
        ("level: board", "level: galaxy", 6, "'component', 'board'"),
        ("level: board", "level: board, when: sunny", 6, "'always', 'detour', 'uninvolved_boards' or 'orbit'"),
        ("likelihood: 4", "likelihood: 6", 10, "less than or equal to 5"),
        ("title: A demo", "titel: A demo", 3, "did you mean title"),
        ("id: DEM-2, text", "id: dem 2, text", 6, "pattern"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    with pytest.raises(ConfigurationError) as error:
        _load(tmp_path, GOOD.replace(old, new, 1))
    assert f"plan.yaml:{line}:" in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("id: DEM-2, text", "id: DEM-1, text", "DEM-1 is used twice"),
        ("requirements: [DEM-1]", "requirements: [DEM-9]", "risks: R-1: no requirement DEM-9"),
        ("requirements: [DEM-1, DEM-2]", "requirements: [DEM-7]", "criteria: C-1: no requirement DEM-7"),
        ("after: {likelihood: 2", "after: {likelihood: 5", "after is worse than before"),
    ],
)
def test_references_and_ids_are_checked(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        _load(tmp_path, GOOD.replace(old, new, 1))


WAIVER = """\
schema: 1
waivers:
  - id: NCR-1
    requirement: DEM-1
    date: 2026-11-01
    approved_by: A. Reviewer
    reason: The supplier mends it in the next version.
    expires: 2026-12-31
"""


def test_waivers_may_lie_beside_the_plan_and_have_a_time_of_validity(tmp_path: Path) -> None:
    (tmp_path / "waivers.yaml").write_text(WAIVER, encoding="utf-8")
    (waiver,) = _load(tmp_path, GOOD).waivers
    days = [datetime.date(2026, 10, 31), datetime.date(2026, 11, 1), datetime.date(2027, 1, 1)]
    assert [waiver.holds_on(day) for day in days] == [False, True, False]


def test_a_waiver_of_an_unknown_requirement_is_refused(tmp_path: Path) -> None:
    (tmp_path / "waivers.yaml").write_text(WAIVER.replace("DEM-1", "DEM-8"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="NCR-1"):
        _load(tmp_path, GOOD)


def test_a_waiver_without_a_name_or_a_date_is_refused(tmp_path: Path) -> None:
    for line in ("    date: 2026-11-01\n", "    approved_by: A. Reviewer\n"):
        (tmp_path / "waivers.yaml").write_text(WAIVER.replace(line, ""), encoding="utf-8")
        with pytest.raises(ConfigurationError, match="required"):
            _load(tmp_path, GOOD)


def test_a_plan_survives_the_way_through_json(tmp_path: Path) -> None:
    (tmp_path / "waivers.yaml").write_text(WAIVER, encoding="utf-8")
    plan = _load(tmp_path, GOOD)
    assert Plan.model_validate_json(plan.model_dump_json(by_alias=True)) == plan


def test_a_campaign_may_bring_its_own_risk_scale(tmp_path: Path) -> None:
    levels = ", ".join(f"{{label: L{n}, p_max: {n / 5}}}" for n in range(1, 6))
    severities = ", ".join(f"{{label: S{n}}}" for n in range(1, 6))
    scale = (
        f"risk_scale:\n  name: ours\n  likelihood: [{levels}]\n  severity: [{severities}]\n"
        "  zones: [GGGGG, GGGGY, GGGYY, GGYYR, GYYRR]\n"
    )
    plan = _load(tmp_path, GOOD + scale)
    assert (plan.scale.name, plan.scale.level_for(0.39), plan.scale.zone(5, 5)) == ("ours", 2, "R")


def test_the_preset_scales_colour_the_documented_cells() -> None:
    red = {(5, 4), (5, 5), (4, 5), (5, 3), (4, 4), (3, 5)}
    yellow = {(5, 2), (4, 3), (3, 4), (2, 5)}
    for scale in (named_scale("ecss"), named_scale("gsfc")):
        cells = {(li, se): scale.zone(li, se) for li in range(1, 6) for se in range(1, 6)}
        assert {c for c, z in cells.items() if z == "R"} == red
        assert {c for c, z in cells.items() if z == "Y"} == yellow


def test_a_probability_falls_into_the_lowest_level_that_contains_it() -> None:
    assert [named_scale("gsfc").level_for(p) for p in (0.001, 0.02, 0.1, 0.2, 0.5, 0.9)] == [1, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("path", sorted((paths.ROOT / "testplans").glob("*/plan.yaml")), ids=lambda p: p.parent.name)
def test_every_plan_of_this_checkout_is_valid(path: Path) -> None:
    assert load_plan(path).requirements


def test_the_stated_gaps_of_fidelity_are_valid_and_unique() -> None:
    gaps = load_gaps(paths.PACKAGE / "evidence" / "fidelity_gaps.yaml")
    assert len({g.id for g in gaps}) == len(gaps) > 10
    assert {"always", "container", "uml", "scaled"} <= {g.applies_to for g in gaps}


def test_a_parameter_may_be_given_another_value_within_its_bounds(tmp_path: Path) -> None:
    plan = _load(
        tmp_path, GOOD + "parameters:\n  stream_s: {value: 600, unit: s, text: how long, least: 10, most: 9e3}\n"
    )
    assert plan.parameters_with([]) == {"stream_s": 600.0}
    assert plan.parameters_with(["stream_s=30"]) == {"stream_s": 30.0}
    for wrong, says in (("stream=30", "no parameter stream"), ("stream_s=5", "from 10 to 9000"), ("stream_s=x", "'x'")):
        with pytest.raises(ConfigurationError, match=says):
            plan.parameters_with([wrong])
