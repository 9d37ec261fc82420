"""`hil site build`: every link leads somewhere, only what is new is made, and names lead nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

from hil.cli.app import cli
from hil.errors import ConfigurationError
from hil.evidence.attestation import sign
from hil.evidence.store import RunStore
from hil.nightly.site import build_site
from hil.report.make import make_report
from tests.kits.finished_run import key_pair, make
from tests.kits.html_page import Page
from tests.kits.nights import begin, job, said
from tests.kits.synthetic_run import build, dump, meta


def a_run(
    out: Path, run_id: str, *, minute: int, verdict: str = "PASS", reason: str = "fine", lab: str = "virtual"
) -> Path:
    """A run as a report leaves it, small."""
    directory = out / "runs" / run_id
    directory.mkdir(parents=True)
    facts = {**meta(run_id), "started_utc": f"2026-11-22T02:{minute:02d}:00.000Z", "lab": lab}
    dump(directory / "run.json", facts)
    test = {"id": "t", "title": "Upload <1>", "verdict": verdict, "duration_s": 1.0, "measurements": []}
    result = {"verdict": verdict, "reason": reason, "state": "finished", "plan": facts["plan"], "lab": lab}
    dump(directory / "result.json", {**result, "tests": [test], "evidence": {"first": run_id}})
    (directory / "report.html").write_text("<p>small</p>", "utf-8")
    return directory


def links_of(site: Path) -> dict[Path, list[Path]]:
    """The files to which each page of a site leads."""
    found = {}
    for path in site.rglob("*.html"):
        page = Page(path.read_text("utf-8"))
        words = [
            unquote(link.partition("#")[0]) for link in (*page.links, *page.sources) if not link.startswith("data:")
        ]
        found[path.relative_to(site)] = [(path.parent / word).resolve() for word in words if word]
    return found


def site_run(out: Path) -> str:
    """The run of the night."""
    (run,) = (out / "runs").glob("*-one-1")
    return run.name


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A whole run, two small ones, one of them FAIL, and a night."""
    out = tmp_path / "out"
    make_report(build(out / "runs" / "whole"))
    a_run(out, "a", minute=1)
    a_run(out, "b", minute=2, verdict="FAIL", reason="</script><b>1 of 1 failed")
    said(begin(tmp_path, job("one", "1")))
    run = out / "runs" / site_run(out)
    dump(run / "run.json", {**meta(run.name), "started_utc": "2026-11-20T03:00:00.000Z"})
    (out / "runs" / "b" / "secret").symlink_to("/etc/hostname")
    return out


def test_every_link_of_the_site_leads_into_it(out: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    built = build_site(out, site)
    assert (built.runs, built.histories, built.nights) == (4, 1, 1)
    links = links_of(site)
    assert {Path("index.html"), Path("plans/six-gpu/virtual/index.html"), Path("nights/n1/index.html")} <= links.keys()
    for page, files in links.items():
        for file in files:
            assert file.is_file() and file.is_relative_to(site.resolve()), (page, file)
    assert not (site / "runs/b/secret").exists()
    assert f"runs/{site_run(out)}/report.html" in (site / "nights/n1/index.html").read_text("utf-8")
    history = Page((site / "plans/six-gpu/virtual/index.html").read_text("utf-8")).text
    assert "new regression" in history and "Upload <1>" in history


def test_a_series_of_a_night_is_in_the_site_with_the_evidence_of_its_trials(tmp_path: Path) -> None:
    said(begin(tmp_path, "- {name: faults, lab: virtual, trials: default, count: 1}\n"))
    (series,) = (tmp_path / "out/series").iterdir()
    (series / "index.html").write_text('<a href="trials/0001-1/evidence.jsonl">evidence</a>', "utf-8")
    (series / "trials/0001-1").mkdir(parents=True)
    (series / "trials/0001-1/evidence.jsonl").write_text("{}\n", "utf-8")
    (series / "trials/0002-1").symlink_to("/etc")
    site = tmp_path / "site"
    build_site(tmp_path / "out", site)
    links = links_of(site)
    assert all(file.is_file() for files in links.values() for file in files)
    assert site.resolve() / f"series/{series.name}/index.html" in links[Path("nights/n1/index.html")]
    build_site(tmp_path / "out", tmp_path / "small", artefacts=False)
    assert not (tmp_path / f"small/series/{series.name}/trials").exists()


def test_the_search_knows_every_run_and_ends_no_script(out: Path, tmp_path: Path) -> None:
    build_site(out, tmp_path / "site")
    text = (tmp_path / "site/runs.js").read_text("utf-8")
    assert "<" not in text
    rows = json.loads(text.removeprefix("window.RUNS = ").rstrip(";\n"))
    assert [(row[0], row[4]) for row in rows[:3]] == [("b", "FAIL"), ("a", "PASS"), ("whole", "PASS")]
    index = (tmp_path / "site/index.html").read_text("utf-8")
    assert "&lt;b&gt;1 of 1 failed" in index and "<b>1 of" not in index


def marks_of(site: Path) -> dict[str, str]:
    """The mark of each run in the search, which the table shows as well."""
    rows = json.loads((site / "runs.js").read_text("utf-8").removeprefix("window.RUNS = ").rstrip(";\n"))
    index = (site / "index.html").read_text("utf-8")
    assert index.count('<strong class="mark">') == sum(bool(row[7]) for row in rows)
    return {row[0]: row[7] for row in rows}


def test_a_run_that_does_not_verify_is_marked_in_the_list(tmp_path: Path) -> None:
    out, site = tmp_path / "out", tmp_path / "site"
    make(out, "good")
    changed, old = make(out, "changed") / "evidence.jsonl", make(out, "old") / "evidence.jsonl"
    changed.write_text(changed.read_text("utf-8").replace("Links", "Boards"), "utf-8")
    lines = [json.loads(line) for line in old.read_text("utf-8").splitlines()]
    old.write_text("".join(json.dumps({**line, "prev": None}) + "\n" for line in lines), "utf-8")
    build_site(out, site)
    marks = {"good": "", "changed": "does not verify", "old": "unverifiable"}
    assert marks_of(site) == marks
    a_run(out, "later", minute=9)  # without a manifest; the marks of the others are kept
    build_site(out, site)
    assert marks_of(site) == {**marks, "later": "does not verify"}


def test_a_run_that_is_not_signed_with_the_key_is_marked(tmp_path: Path) -> None:
    out, site, pairs = tmp_path / "out", tmp_path / "site", []
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        pairs.append(key_pair(tmp_path / name))
    (mine, public), (other, _) = pairs
    sign(make(out, "signed"), mine)
    sign(make(out, "forged"), other)
    make(out, "plain")
    build_site(out, site)
    assert {*marks_of(site).values()} == {""}
    assert build_site(out, site, key=public).runs == 3
    assert marks_of(site) == {"signed": "", "forged": "wrong signature", "plain": "not signed"}
    sign(out / "runs/plain", mine)
    assert build_site(out, site, key=public).runs == 1
    assert marks_of(site)["plain"] == ""


def test_only_what_is_new_is_made(out: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    build_site(out, site)
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*") if path.is_file()}
    again = build_site(out, site)
    assert (again.runs, again.histories, again.nights) == (0, 0, 0)
    a_run(out, "c", minute=3, lab="other/../lab")
    new = build_site(out, site)
    assert (new.runs, new.histories) == (1, 1)
    changed = {str(path.relative_to(site)) for path, when in before.items() if path.stat().st_mtime_ns != when}
    assert changed == {"index.html", "runs.js", "bench.html", "site.json"}
    (lab,) = (site / "plans/six-gpu").glob("other*")
    assert lab.name.startswith("other_.._lab-") and (lab / "index.html").is_file()


def test_a_deleted_run_keeps_its_link_and_one_reported_again_is_copied_again(out: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    build_site(out, site)
    for path in (out / "runs/a").iterdir():
        path.unlink()
    result = json.loads((out / "runs/b/result.json").read_text("utf-8"))
    RunStore(out).finish(out / "runs/b", {**result, "verdict": "PASS"})
    (out / "runs/b/report.html").write_text("<p>again</p>", "utf-8")
    assert build_site(out, site).runs == 1
    assert (site / "runs/a/report.html").is_file() and '["a", ' in (site / "runs.js").read_text("utf-8")
    assert (site / "runs/b/report.html").read_text("utf-8") == "<p>again</p>"


def test_a_folder_with_something_else_in_it_is_left_alone(out: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    with pytest.raises(ConfigurationError, match="no site"):
        build_site(out, tmp_path / "home")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError):
        build_site(out, tmp_path / "file")


def test_the_command(out: Path, tmp_path: Path) -> None:
    words = ["site", "build", str(tmp_path / "site"), "--out", str(out), "--no-artefacts"]
    done = CliRunner().invoke(cli, words)
    assert done.output.splitlines()[1] == "4 runs, 1 night, 1 histories made"
    assert not (tmp_path / "site/runs/whole/artefacts").exists()


def test_a_folder_of_a_run_that_leads_elsewhere_is_not_published(out: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "id_ed25519").write_text("secret", "utf-8")
    (out / "runs/a/artefacts").symlink_to(tmp_path / "keys")
    build_site(out, tmp_path / "site")
    assert (tmp_path / "site/runs/a").is_dir() and not list((tmp_path / "site").rglob("id_ed25519"))


def test_a_folder_with_another_site_json_is_left_alone(out: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "site.json").write_text('{"title": "a blog", "schema": 1}', "utf-8")
    (site / "index.html").write_text("mine", "utf-8")
    with pytest.raises(ConfigurationError, match="no site"):
        build_site(out, site)
    assert (site / "index.html").read_text("utf-8") == "mine"


def test_a_build_that_was_killed_goes_on(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("hil.nightly.site._write_index", killed)
        build_site(out, tmp_path / "site")
    assert build_site(out, tmp_path / "site").runs == 4
    assert (tmp_path / "site/index.html").is_file()


def test_a_name_of_any_length_has_a_page_of_its_own(out: Path, tmp_path: Path) -> None:
    for number, lab in enumerate(["x" * 400, "a b", "a_b", "..", "\u00e9" * 300]):
        a_run(out, f"odd-{number}", minute=10 + number, lab=lab)
    assert build_site(out, tmp_path / "site").histories == 6
    assert len(list((tmp_path / "site/plans/six-gpu").iterdir())) == 6
