"""The isolation matrix: what the section says, and that it is a picture on the page."""

from __future__ import annotations

import re
from pathlib import Path

from hil.evidence.events import IsolationTried, TenantAttempt
from hil.evidence.readback import RunRecord
from hil.evidence.record import Recorder
from hil.report.make import make_report
from hil.report.tenants import MOST_TENANTS, tenants_section
from tests.kits.synthetic_run import build


def tried(directory: Path, tenants: int, *succeeded: TenantAttempt) -> RunRecord:
    with Recorder.create(directory, {}) as recorder:
        names = tuple(f"t{number}" for number in range(1, tenants + 1))
        recorder.emit(IsolationTried(names, ("reach", "forge"), succeeded))
    return RunRecord.load(directory)


def squares(picture: str) -> list[str]:
    return re.findall(r'<rect class="(none|some|own)"', picture)


def test_a_square_for_each_ordered_pair_says_what_succeeded(tmp_path: Path) -> None:
    section = tenants_section(tried(tmp_path / "run", 18, TenantAttempt("t2", "t1", ("reach",))))
    assert (section.tenants, section.pairs, section.succeeded) == (18, 306, (("t2", "t1", "reach"),))
    found = squares(section.picture)
    assert len(found) == 18 * 18 and found.count("own") == 18 and found.count("some") == 1
    assert found.index("some") == 18, "rows try: the second row's first square"
    assert "<title>t2 on t1: reach</title>" in section.picture


def test_a_run_without_tenants_has_no_section(tmp_path: Path) -> None:
    page = make_report(build(tmp_path / "run")).read_text("utf-8")
    assert 'id="tenants"' not in page
    with Recorder.create(tmp_path / "other", {}):
        pass
    assert not tenants_section(RunRecord.load(tmp_path / "other")).recorded


def test_too_many_tenants_are_counted_and_not_drawn(tmp_path: Path) -> None:
    section = tenants_section(tried(tmp_path / "run", MOST_TENANTS + 1))
    assert section.recorded and not section.picture


def test_the_matrix_is_a_picture_in_the_report_and_what_a_run_says_is_text(tmp_path: Path) -> None:
    run = build(tmp_path / "run")
    hostile = '{"t_utc":"x","mono_s":5040.0,"kind":"tenants.isolation","tenants":["<b>a","b"],"tries":["reach"]}\n'
    lines = (run / "evidence.jsonl").read_text("utf-8").splitlines(keepends=True)
    (run / "evidence.jsonl").write_text("".join([*lines[:-1], hostile, lines[-1]]), "utf-8")
    page = make_report(run).read_text("utf-8")
    section = page[page.index('id="tenants"') :]
    section = section[: section.index("</section>")]
    assert len(squares(section)) == 4 and "0 of 2 ordered pairs of 2 tenants" in section
    assert "<b>a" not in section and "&lt;b&gt;a on b: nothing succeeded" in section
