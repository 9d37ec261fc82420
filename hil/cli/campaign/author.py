"""`hil campaign new` and `hil campaign validate`: for those who write a campaign."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.completion import spacecraft_names
from hil.cli.output import JSON_OPTION, lab_option, note, plural, print_json, print_result, say
from hil.core import paths
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.campaign.validate import Validated

PLAN = """\
schema: 1
id: {id}
title: {title}
purpose: What is to be known after this campaign, in one question?
article: what is under test

requirements:
  - id: {prefix}-010
    text: Every board that takes part runs its OS from slot A.
    method: T # test; A analysis, R review, I inspection
    level: system
    fidelity_needed: virtual # hardware: stays open until it was shown on real Orins
  - id: {prefix}-020
    text: A board reaches the other spacecraft again within two seconds after the crosslink is back.
    method: T
    level: system
    fidelity_needed: virtual
"""

TESTS = '''\
"""{title}: each test shows a requirement of plan.yaml, and the run ends in a report."""

import time

import pytest

from hil import at_most, equals


@pytest.mark.requirement("{prefix}-010")
@pytest.mark.step("boards")
@pytest.mark.retry_bench(1)
def test_every_board_runs_slot_a(boards, verify):
    """The boards that take part, over the management network."""
    for name, board in boards.items():
        verify("running_slot", board.identity().slot, limit=equals("A"), board=name)


@pytest.mark.requirement("{prefix}-020")
@pytest.mark.needs("boards")
def test_the_other_spacecraft_is_reached_again_after_an_outage(bench, boards, participants, links, crosslink, verify):
    """The crosslink is cut and restored; the gateway pings a board over there."""
    far = next(name for name, board in boards.items() if board.spacecraft == participants.far)
    ping = ["ping", "-c", "1", "-W", "1", far]
    with bench.boards[participants.gateway].shell() as shell:
        shell.run(ping)
        links.cut(crosslink)
        try:
            assert shell.run(ping, check=False).returncode != 0, f"{{far}} answers over a link that is cut"
        finally:
            links.restore(crosslink)
        begin = time.monotonic()
        while shell.run(ping, check=False).returncode != 0:
            assert time.monotonic() < begin + 10, f"{{far}} does not answer any more"
        verify("time until it answers again", time.monotonic() - begin, "s", limit=at_most(2.0))
'''


@click.command()
@click.argument("directory", metavar="NAME", type=click.Path(path_type=Path, file_okay=False))
@JSON_OPTION
def new(directory: Path, as_json: bool) -> None:
    """Write a plan and its first tests into the new folder NAME; they pass as they are on lab virtual.

    No file is overwritten.
    """
    words = re.findall(r"[a-z0-9]+", directory.name.lower())
    if not words or not words[0][0].isalpha() or len("-".join(words)) > 40 or len("-".join(words)) < 2:
        raise ConfigurationError(
            f"{directory.name!r} cannot name a campaign",
            remedy="use letters, digits and _ or -, 2 to 40 in all, a letter first",
        )
    facts = {
        "id": "-".join(words),
        "title": " ".join(words).capitalize(),
        "prefix": re.sub("[^A-Z0-9]", "", directory.name.upper())[:12],
    }
    files = {directory / "plan.yaml": PLAN, directory / f"test_{'_'.join(words)}.py": TESTS}
    if present := [str(path) for path in files if path.exists()]:
        raise ConfigurationError(f"these files are there already: {', '.join(present)}", remedy="choose another name")
    directory.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text.format(**facts), encoding="utf-8")
    print_result(as_json, [str(path) for path in files], "\n".join(map(str, files)))
    say(f"next: hil campaign validate {directory} --lab virtual, then hil campaign run {directory} --lab virtual")


@click.command()
@click.argument("plan_dir", metavar="PLAN", type=click.Path(path_type=Path))
@lab_option("Lab file that it is to run in, or the name of a shipped one.")
@click.option(
    "--on", metavar="SC1,SC2", shell_complete=spacecraft_names, help="The two spacecraft, the gateway's first."
)
@click.option("--split", metavar="N+M", help="Boards that take part on each of the two.")
@JSON_OPTION
def validate(plan_dir: Path, lab_path: Path | None, on: str | None, split: str | None, as_json: bool) -> None:
    """Check a campaign without running it: plan, test files, markers, and whether a lab fits.

    PLAN is a folder with a plan.yaml, or the name of a shipped plan, e.g. six_gpu. Nothing is started or written.

    \b
    Exit code: 0 in order   2 not, with the reason
    """
    from hil.campaign.validate import validate
    from hil.lab.model import load_lab

    folder = folder_of(plan_dir)
    lab = load_lab(paths.lab_file(lab_path)) if lab_path else None
    found = validate(folder, lab=lab, on=on or "", split=split or "")
    if as_json:
        print_json(_document(found))
        return
    plan, run = found.run.plan, found.run
    many = plural(len(plan.requirements), "requirement")
    click.echo(f"plan {plan.id}: {plural(len(found.tests), 'test')}, {plural(len(found.steps), 'step')}, {many}")
    if run.lab is not None:
        click.echo(f"lab {run.lab.name}: {run.participants}")
    for identifier, why in found.absent.items():
        note(f"{identifier} cannot be shown there: {why}")
    if found.uncovered:
        note(f"no test names {', '.join(found.uncovered)}")
    click.echo("in order")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--plan", "plan_dir", type=click.Path(path_type=Path), help="Compare with the requirements of this plan.")
@JSON_OPTION
def requirements(file: Path, plan_dir: Path | None, as_json: bool) -> None:
    """Print the requirements of a ReqIF file as a plan.yaml has them; with --plan say where that plan differs.

    Needs the extra [reqif]. `hil runs export --format reqif` gives results back to the tool that FILE came from.

    \b
    Exit code: 0 printed, or no difference   1 the plan differs   2 FILE cannot be read
    """
    from hil.evidence.test_plan import load_plan
    from hil.report.requirements import as_plan, differences, requirements_of

    found = requirements_of(file)
    if plan_dir is None:
        print_result(as_json, [vars(each) for each in found], as_plan(found).rstrip())
        return
    said = differences(load_plan(folder_of(plan_dir)), found)
    print_result(as_json, said, "\n".join(said) or f"the plan has these {plural(len(found), 'requirement')}")
    raise SystemExit(bool(said))


def _document(found: Validated) -> dict[str, Any]:
    run = found.run
    return {
        "plan": run.plan.id,
        "folder": str(run.folder),
        "requirements": [requirement.id for requirement in run.plan.requirements],
        "uncovered": found.uncovered,
        "steps": found.steps,
        "tests": [asdict(test) for test in found.tests],
        "lab": run.lab.name if run.lab is not None else None,
        "participants": run.participants.facts() if run.participants is not None else None,
        "absent": found.absent,
    }


def folder_of(plan: Path) -> Path:
    """Return the folder of a plan: a path, or the shipped one of that name. ConfigurationError: no plan.yaml."""
    folder = paths.plan_folder(plan)
    if not (folder / "plan.yaml").is_file():
        raise ConfigurationError(
            f"{folder} has no plan.yaml",
            remedy="give a folder with a plan.yaml, or the name of a shipped plan, e.g. six_gpu",
        )
    return folder
