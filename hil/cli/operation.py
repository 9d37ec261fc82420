"""`hil operation`: operations as files, and whether a lab allows one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hil.cli.output import JSON_OPTION, lab_option, note, plural, print_json, print_rows, say
from hil.core import paths

if TYPE_CHECKING:
    from hil.operation.arithmetic import Term
    from hil.operation.engineering_model import EngineeringModelSpec
    from hil.operation.model import Operation
    from hil.operation.preview import Checked

INTRODUCTION = """\
<!-- Made from the models by `hil operation reference`. Do not edit: change the models, then run
     `hil operation reference > docs/operation-reference.md`. -->
# Operation file: every key

Read as strictly as a [lab file](lab-reference.md): a key that is not listed here is an error, with file, line and what
was probably meant. Durations have a unit: `90s`, `10m`, `12h`. What the check makes of it: [operations](operations.md).
"""
PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": True}
OPERATION = click.argument("file", metavar="OPERATION", type=click.Path(path_type=Path))
MODEL = click.option(
    "--model", "model_file", metavar="FILE", type=click.Path(path_type=Path),
    help="Instead of a lab: the file of an operator's engineering model.",
)  # fmt: skip


@click.group()
def operation() -> None:
    """Check an operation file against a lab; run it. OPERATION is a file, or a shipped one's name: six_gpu."""


@operation.command()
@OPERATION
@lab_option("Lab file, or the name of a shipped one, e.g. virtual.")
@MODEL
@click.option("--epoch", metavar="TIME", help="Moment of the mission at which it begins, ISO 8601 UTC.")
@click.option("--tenant", metavar="NAME", default="", help="Whose it is: its boards, shares of links and quotas.")
@JSON_OPTION
def check(
    file: Path, lab_path: Path | None, model_file: Path | None, epoch: str | None, tenant: str, as_json: bool
) -> int:
    """Check whether passes, bytes, time, power and heat of a lab allow an operation; nothing is powered or connected.

    Each term has what is needed, what there is, the share that stays free, and the source of the figures. The one with
    the least is the binding constraint.

    \b
    Exit code: 0 feasible   2 infeasible, with the constraint; or a wrong file
    """
    from hil.operation.model import load_operation

    _, found = _checked(load_operation(file), lab_path, model_file, epoch=epoch, tenant=tenant)
    if as_json:
        print_json(found.document())
    else:
        _show(found)
    return 0 if found.preview.feasible else 2


def _checked(
    operation: Operation, lab_path: Path | None, model_file: Path | None, *, epoch: str | None, tenant: str = ""
) -> tuple[EngineeringModelSpec | None, Checked]:
    """Return the engineering model, if it is for one, and what its check, or the lab's, found."""
    from hil.operation.engineering_model import check_model, load_engineering_model
    from hil.operation.preview import check

    if (lab_path is None) == (model_file is None):
        raise click.UsageError("give --lab or --model, one of the two")
    if model_file is None:
        from hil.lab.model import load_lab

        assert lab_path is not None
        return None, check(operation, load_lab(paths.lab_file(lab_path)), epoch=epoch, tenant=tenant)
    if epoch or tenant:
        raise click.UsageError("--epoch and --tenant are for a lab; an engineering model has no orbit and no tenants")
    model = load_engineering_model(model_file)
    return model, check_model(operation, model)


def _show(found: Checked) -> None:
    from hil.operation.arithmetic import quantity

    margin, binding = found.preview.margin, found.preview.binding

    def free(term: Term) -> str:
        if term.free is None:
            return "?"
        return f"{term.free:.0%}" if term.fits(margin) else "none" if term.free < 0 else f"{term.free:.0%}, too little"

    files = ", ".join(f"{name} {quantity(size, 'B')}" for name, size in found.files.items())
    click.echo(f"{found.operation.name} on {found.lab}: {files}; {found.who}")
    print_rows(
        found.preview.terms,
        {
            "": lambda term: "->" if term is binding else "",
            "term": lambda term: term.name,
            "needs": lambda term: quantity(term.needs, term.unit),
            "has": lambda term: quantity(term.has, term.unit),
            "free": free,
            "source": lambda term: term.source,
        },
        optional=["source"],
    )
    click.echo(found.sentence)
    if found.preview.unknown:
        note(f"{plural(len(found.preview.unknown), 'term')} not known; see the source of each")
    if found.preview.feasible:
        say(f"{margin:.0%} of everything must stay free (limits.margin)")


@operation.command("run", context_settings=PASS_ON)
@OPERATION
@lab_option("Lab file to bring up for this run, or the name of a shipped one, e.g. virtual.")
@MODEL
@click.option("--epoch", metavar="TIME", help="Moment of the mission to start at, ISO 8601 UTC.")
@click.option("--unchecked", is_flag=True, help="Run it also when the check finds it infeasible.")
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Where runs and reports go.")
@JSON_OPTION
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_operation(
    file: Path,
    lab_path: Path | None,
    model_file: Path | None,
    epoch: str | None,
    unchecked: bool,
    output: Path | None,
    as_json: bool,
    arguments: tuple[str, ...],
) -> int:
    """Check an operation, and run it as a campaign: the same rollout, evidence and report.

    The campaign, with the operation file in it, is written to operations/ in the reports folder. Further arguments are
    those of `hil campaign run`.

    \b
    Exit code: 0 PASS   1 FAIL   2 infeasible, or a configuration error   3 INCONCLUSIVE
    """
    from hil.cli.campaign.group import run_campaign
    from hil.errors import ConfigurationError
    from hil.operation.campaign import write_campaign
    from hil.operation.model import load_operation

    wanted = load_operation(file)
    model, found = _checked(wanted, lab_path, model_file, epoch=epoch)
    place = ["--model", str(model_file)] if lab_path is None else ["--lab", str(paths.lab_file(lab_path))]
    if not found.preview.feasible and not unchecked:
        raise ConfigurationError(
            found.sentence,
            remedy=f"see `hil operation check {file} {' '.join(place)}`; change the file, or run it with --unchecked",
        )
    say(found.sentence)
    folder = write_campaign(wanted, (output or paths.reports_out()).absolute(), model)
    say(f"campaign: {folder}")
    on = ",".join(wanted.boards.on) if wanted.boards.on else None
    given = {"--on": on, "--split": wanted.boards.split, "--epoch": epoch} if model is None else {}
    words = [str(word) for option, value in (given | {"-o": output}).items() if value for word in (option, value)]
    argv = [str(folder), *(place if model is None else ()), *words, *(["--json"] if as_json else []), *arguments]
    context = run_campaign.make_context("run", argv, parent=click.get_current_context())
    with context:
        return int(run_campaign.invoke(context) or 0)


@operation.command()
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "schema"]),
    default="md",
    show_default=True,
    help="md: Markdown for people; schema: a JSON schema for editors (--json).",
)
@JSON_OPTION
def reference(form: str, as_json: bool) -> None:
    """Print every key of an operation file: type, default, bounds, meaning, examples."""
    if as_json or form == "schema":
        from hil.operation.model import Operation

        print_json(Operation.model_json_schema())
    else:
        click.echo(document(), nl=False)


def document() -> str:
    """Return the whole of docs/operation-reference.md."""
    from hil.lab.reference import markdown, sections
    from hil.operation.model import Operation
    from hil.operation.pods import PodsSpec

    found = [*sections(Operation, "Operation file", {}), *sections(PodsSpec, "Engineering model", {})]
    return "\n".join([INTRODUCTION, markdown(found)])
