"""Every number on the first page of a report is followed to the records that it comes from, as a reviewer would."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import beta

from hil.report.make import make_report
from tests.kits.html_page import Page
from tests.kits.synthetic_run import build

TILE = re.compile(r'<a class="tile" href="#([^"]+)"><b>(.*?)</b><span>(.*?)</span><small>(.*?)</small></a>')
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


class Reviewer:
    """Reads a page, and the raw files beside it with nothing but JSON."""

    def __init__(self, directory: Path) -> None:
        self.html = make_report(directory).read_text("utf-8")
        self.lines = [json.loads(line) for line in (directory / "evidence.jsonl").read_text("utf-8").splitlines()]
        self.meta = json.loads((directory / "run.json").read_text("utf-8"))
        self.plan = json.loads((directory / "plan.json").read_text("utf-8"))
        self.history = json.loads((directory / "history.json").read_text("utf-8"))["runs"]

    def section(self, name: str) -> str:
        """What stands where a link of the first page leads to."""
        return self.html[self.html.index(f'id="{name}"') :].split("</section>")[0]

    def record(self, link: str) -> dict[str, Any]:
        """The record to which a link of the page leads: its line of the evidence."""
        found = re.search(r'href="evidence\.jsonl" title="evidence\.jsonl, line (\d+)"', link)
        assert found, link
        return dict(self.lines[int(found[1]) - 1])

    def ends(self) -> dict[str, dict[str, Any]]:
        """The end of each test, by the links of the steps."""
        articles = self.section("steps").split("<article")[1:]
        found = [self.record(article.split("</header>")[0]) for article in articles]
        for article, end in zip(articles, found, strict=True):
            assert (end["kind"], end["retried"]) == ("test.end", False)
            assert f"tone-{end['verdict'].lower().replace(' ', '-')}" in article.split(">")[0]
            for row in re.findall(r"<tr><td>.*?</tr>", article):
                self.measurement(row, end["test"])
        return {end["test"]: end for end in found}

    def measurement(self, row: str, test: str) -> None:
        """A measurement on the page is that of its record."""
        label, shown = (unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall(r"<td.*?</td>", row)[:2])
        record = self.record(row)
        assert record["test"] == test
        if record["kind"] == "measurement":
            assert record["name"] == label and NUMBER.findall(str(record["value"]))[0] in shown.replace(",", "")
        else:
            assert record["kind"] == "link.calibration" and label.startswith(record["quantity"])


@pytest.mark.parametrize("kind", ["pass", "fail", "inconclusive"])
def test_every_number_of_the_first_page_leads_to_its_records(tmp_path: Path, kind: str) -> None:
    page = Reviewer(build(tmp_path / "run-1", kind))
    tiles = {label: (place, figure, note) for place, figure, label, note in TILE.findall(page.html)}
    ends = page.ends()
    (collected,) = (line for line in page.lines if line["kind"] == "run.collected")
    assert {test["test"] for test in collected["tests"]} == ends.keys()

    verdicts = [end["verdict"] for end in ends.values()]
    passed = tiles.pop("tests passed")
    assert passed[:2] == ("steps", f"{verdicts.count('PASS')}/{len(verdicts)}")
    assert NUMBER.findall(passed[2]) == [str(verdicts.count(v)) for v in ("FAIL", "INCONCLUSIVE") if v in verdicts]

    naming = {r["id"]: [t["test"] for t in collected["tests"] if r["id"] in t["requirements"]] for r in wanted(page)}
    shown = {name for name, tests in naming.items() if tests and all(ends[t]["verdict"] == "PASS" for t in tests)}
    closed = {r["id"] for r in wanted(page) if r["id"] in shown and r["fidelity_needed"] == "virtual"}
    place, figure, note = tiles.pop("requirements demonstrated")
    assert (place, figure, note) == ("requirements", f"{len(shown)}/{len(naming)}", f"{len(closed)} closed")
    for name in naming:
        assert f'id="{name.lower()}"' in page.section("requirements")

    overall = "FAIL" if "FAIL" in verdicts else "INCONCLUSIVE" if "INCONCLUSIVE" in verdicts else "PASS"
    runs = [r["verdict"] for r in page.history if r["same_inputs"] and r["verdict"] in ("PASS", "FAIL")]
    runs += [overall] if overall in ("PASS", "FAIL") else []
    passes, confidence = runs.count("PASS"), page.plan["confidence"]
    bound = beta.ppf(1 - confidence, passes, len(runs) - passes + 1)
    place, figure, note = tiles.pop("reliability shown at 90%")
    assert (place, figure) == ("record", f"{bound:.2f}")
    assert note == f"{passes}/{len(runs)} runs, goal {page.plan['reliability_goal']:g}"
    record = page.section("record")
    assert "Clopper-Pearson" in record and all(r["run_id"] in record for r in page.history if r["same_inputs"])

    place, figure, note = tiles.pop("epoch violations")
    summary = page.record(page.section(place))
    assert summary["kind"] == "watch.summary"
    assert (figure, note) == (str(len(summary["violations"])), f"{summary['samples']:,} samples")

    place, figure, note = tiles.pop("duration")
    (end,) = (line for line in page.lines if line["kind"] == "run.end")
    assert figure == f"{end['mono_s'] - page.meta['mono_start_s']:.1f} s"
    assert note == f"{sum(line['kind'] == 'test.end' and line['retried'] for line in page.lines)} test was repeated"
    assert tiles == {}, "a number that nobody followed"

    text = Page(page.html).text
    sentence = text[text.index("Demonstrated ") :].split("Still unproven")[0]
    known = {
        str(passes),
        str(len(runs)),
        f"{bound:.3f}",
        f"{confidence * 100:.0f}",
        f"{page.plan['reliability_goal']:g}",
    }
    needed = next(n for n in range(2000) if beta.ppf(1 - confidence, passes + n, len(runs) - passes + 1) >= 0.9)
    unsure = len([r for r in page.history if r["verdict"] == "INCONCLUSIVE"]) + (overall == "INCONCLUSIVE")
    commits = {r["commit"] for r in page.history} | {page.meta["git"]["commit"]}
    known |= {str(needed), str(unsure), str(len(commits))}
    assert {each.rstrip(".,") for each in NUMBER.findall(sentence)} <= known

    open_ones = page.section("open")
    for name, before, now in re.findall(r"<li>([^<]*?): ([\d.]+)[^<]* → ([\d.]+)", open_ones):
        (old,) = {r["measurements"][unescape(name)]["value"] for r in page.history}
        (new,) = (m["value"] for m in page.lines if m["kind"] == "measurement" and unescape(name).endswith(m["name"]))
        assert (float(before), float(now)) == (old, new)
    assert page.meta["started_utc"][:16].replace("T", " ") in text and page.meta["git"]["commit"][:10] in text


def wanted(page: Reviewer) -> list[dict[str, Any]]:
    return list(page.plan["requirements"])
