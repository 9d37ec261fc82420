"""The site, a report and the dashboard in a real browser, at the width of a phone."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from hil.core import paths
from hil.core.processes import this_process
from hil.errors import HilError
from hil.evidence.events import CollectedTest, LinkCut, RunCollected, TestEnded, TestStarted
from hil.evidence.record import Recorder
from hil.host.packages import HostPackage, install, missing
from hil.nightly.site import build_site
from hil.report.make import make_report
from tests.kits.nights import begin, job, said
from tests.kits.synthetic_run import build, meta

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

PAGES = {
    "/index.html": "Runs and nights",
    "/index.html#fail": "1 of 3 runs",
    "/plans/six-gpu/virtual/index.html": "never passed",
    "/nights/n1/index.html": "FAIL: night lab-a",
    "/bench.html": "The week of the bench",
    "/runs/whole/report.html": "Requirements",
    "/runs/failed/report.html": "What to do next",
    "/runs/unsure/report.html": "INCONCLUSIVE",
}


CHROMIUM = HostPackage("chromium", "the pages in a real browser", "this test", commands=("chromium",))


@pytest.fixture(scope="module", autouse=True)
def chromium() -> None:
    """Install the browser where there is none."""
    try:
        install(find_missing=partial(missing, [CHROMIUM]))
    except HilError as exc:
        pytest.skip(f"there is no chromium here, and {exc.message}")


def test_every_page_is_whole_in_a_browser_and_fits_a_phone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, kind in (("whole", "pass"), ("failed", "fail"), ("unsure", "inconclusive")):
        make_report(build(out / "runs" / name, kind))
    said(begin(tmp_path, job("one", "1")))
    build_site(out, tmp_path / "site")
    live = tmp_path / "live"
    with Recorder.create(live / "runs" / "now", {**meta("now"), "process": this_process()}) as recorder:
        recorder.emit(RunCollected((CollectedTest("t::a", "Links deliver"), CollectedTest("t::b", "Boards boot"))))
        with recorder.scope(test="t::a"):
            recorder.emit(TestStarted())
            recorder.emit(LinkCut("isl-ab"))
            recorder.emit(TestEnded("FAIL", message="<img src=x onerror=document.title='struck'>"))
    argv = [sys.executable, "-m", "tests.kits.browser", str(tmp_path / "site"), *PAGES, "--dashboard", str(live)]
    done = subprocess.run(["unshare", "--net", *argv], cwd=paths.ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["console"] == [] == found["dashboard"]["console"]
    for page, words in PAGES.items():
        seen = found["pages"][page]
        assert words in seen["text"] and not seen["broken"], page
        assert seen["wider_by"] == 0, f"{page} scrolls sideways: {seen['wide']}"
    shown = found["dashboard"]["text"]
    assert "isl-ab: cut" in shown and "FAIL: Links deliver" in shown and "waits: Boards boot" in shown
    assert "<img src=x" in shown, "text of a board is text"
