"""The workflow files, this repository's and those to copy: valid YAML of the right structure, with real commands."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hil.core import paths
from tests.kits.command_lines import after_hil, fault_of

GITHUB = [
    paths.ROOT / ".github/workflows/ci.yml",
    paths.ROOT / "examples/customer/.github/workflows/campaign.yml",
    paths.ROOT / "docs/ci/nightly.github.yml",
]
GITLAB = paths.ROOT / "docs/ci/gitlab.yml"
TARGETS = set(re.findall(r"^([a-z]+):.*## ", (paths.ROOT / "Makefile").read_text("utf-8"), re.M))


def load(path: Path) -> dict[str, Any]:
    """Read a workflow; `on` stays a word, which YAML 1.1 takes for a truth."""
    document: dict[str, Any] = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
    return document


def github_scripts(path: Path) -> Iterator[str]:
    for job in load(path)["jobs"].values():
        yield from (step["run"] for step in job["steps"] if "run" in step)


def gitlab_scripts() -> Iterator[str]:
    for job in load(GITLAB).values():
        if isinstance(job, dict):
            yield from (line for key in ("script", "after_script") for line in job.get(key, []))


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_a_github_workflow_has_the_structure_of_one(path: Path) -> None:
    workflow = load(path)
    assert {"name", "on", "permissions", "jobs"} <= workflow.keys()
    assert re.fullmatch(r"(\S+ ){4}\S+", workflow["on"]["schedule"][0]["cron"])
    for name, job in workflow["jobs"].items():
        assert {"runs-on", "steps", "timeout-minutes"} <= job.keys(), name
        assert set(filter(None, [job.get("needs")])) <= workflow["jobs"].keys(), name
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/x@v1")), step
        (upload,) = (step for step in job["steps"] if step.get("uses", "").startswith("actions/upload-artifact"))
        assert upload["if"] == "always()", "what a failed run leaves is what one wants to see"
        assert not re.search(r"[\"':<>|*?\r\n]", upload["with"]["name"])


def test_the_gitlab_pipeline_has_the_structure_of_one() -> None:
    pipeline = load(GITLAB)
    jobs = {name: job for name, job in pipeline.items() if name not in ("stages", "default", "variables")}
    assert [job["stage"] for job in jobs.values()] == pipeline["stages"]
    for name, job in jobs.items():
        assert job["script"] and job["artifacts"]["when"] == "always", name
    assert {rule["if"] for rule in jobs["night"]["rules"]} == {'$CI_PIPELINE_SOURCE == "schedule"'}
    assert jobs["campaign"]["artifacts"]["reports"]["junit"].endswith("runs/*/junit.xml")


@pytest.mark.parametrize("where", ["ci.yml", "campaign.yml", "nightly.github.yml", "gitlab.yml"])
def test_the_commands_of_a_workflow_exist(where: str) -> None:
    scripts = list(gitlab_scripts() if where == GITLAB.name else github_scripts({p.name: p for p in GITHUB}[where]))
    commands = [shlex.split(part) for script in scripts for part in script.replace("\n", " && ").split("&&")]
    commands = [words[2:] if words[:2] == ["sudo", "-E"] else words for words in commands if words]
    makes = [words[1] for words in commands if words[0] == "make"]
    faults = [fault_of(arguments, complete=True) for words in commands if (arguments := after_hil(words)) is not None]
    assert set(makes) <= TARGETS
    assert faults, "no command of hil"
    assert not any(faults), faults


def test_a_nightly_campaign_runs_and_every_push_runs_the_tests() -> None:
    scripts = "\n".join(github_scripts(GITHUB[0]))
    assert "make lint" in scripts and "make unit" in scripts and "make test" in scripts
    assert "hil campaign run" in scripts


def test_the_hooks_before_a_commit_run_what_make_lint_runs() -> None:
    hooks = load(paths.ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks)
    entries = " ".join(hook["entry"] for hook in hooks)
    lint = re.search(r"^lint:.*\n((\t.*\n)+)", (paths.ROOT / "Makefile").read_text("utf-8"), re.M)
    assert lint and {"ruff", "mypy"} <= set(re.findall(r"\$\(BIN\)/(\w+)", lint[1]))
    assert "ruff check" in entries and "ruff format" in entries and "mypy" in entries


def test_the_units_for_systemd_start_the_night() -> None:
    units = {}
    for kind in ("service", "timer"):
        units[kind] = configparser.ConfigParser(interpolation=None)
        units[kind].optionxform = str  # type: ignore[assignment, method-assign]
        units[kind].read(paths.ROOT / f"docs/ci/hil-nightly.{kind}")
    assert re.fullmatch(r"\*-\*-\* \d\d:\d\d:00", units["timer"]["Timer"]["OnCalendar"])
    program, *words = shlex.split(units["service"]["Service"]["ExecStart"])
    assert program.endswith("/.venv/bin/hil") and not fault_of(words, complete=True)
    assert units["service"]["Service"]["SuccessExitStatus"] == "1 3"
