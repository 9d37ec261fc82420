"""The root command: subcommands that are imported when used, errors with blame, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cache
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from textwrap import indent
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from hil.cli.output import QUIET, VERBOSE
from hil.errors import Blame, ConfigurationError, HarnessError, HilError
from hil.text import clean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

EXIT_CODES: Mapping[Blame, int] = {Blame.DEVICE: 1, Blame.CONFIGURATION: 2, Blame.BENCH: 3, Blame.HARNESS: 3}
"""Exit status of a command that ends in an error, by whose fault it is (the same numbers as a campaign's)."""

UNDONE = "what this command had switched on is off again"
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

COMMANDS: Mapping[str, tuple[str, str]] = {
    "setup": ("hil.cli.host", "Install and build what the virtual lab needs."),
    "doctor": ("hil.cli.host", "Check this host and name what it lacks."),
    "clean": ("hil.cli.host", "Remove what killed runs left on this host."),
    "lab": ("hil.cli.lab.group", "Check and show lab files; find boards for a first one."),
    "orbit": ("hil.cli.orbit", "Compute contact plans, link plans and pictures of orbits."),
    "twin": ("hil.cli.twin", "Predict heat and power of a lab's spacecraft."),
    "lease": ("hil.cli.lease", "Take, list, free and await leases of boards."),
    "bench": ("hil.cli.bench.group", "Bring a lab up, watch it, take it down."),
    "board": ("hil.cli.board.group", "List, watch, power, flash and log in to boards."),
    "link": ("hil.cli.link", "Show, shape, cut and measure links."),
    "fault": ("hil.cli.fault", "List faults, inject and heal them."),
    "campaign": ("hil.cli.campaign.group", "Run a test campaign, write one, check one."),
    "operation": ("hil.cli.operation", "Check an operation file against a lab; run it."),
    "trials": ("hil.cli.trials", "Repeat a rollout under faults, and say what was shown."),
    "nightly": ("hil.cli.nightly", "Run several campaigns and series in one night, unattended."),
    "worker": ("hil.cli.worker", "Run trials for a series that another host leads."),
    "runs": ("hil.cli.runs", "List past runs and open their reports."),
    "history": ("hil.cli.runs", "Show what the last runs of a plan show together."),
    "compare": ("hil.cli.runs", "Compare two runs."),
    "verify": ("hil.cli.runs", "Check that runs are what was recorded."),
    "dashboard": ("hil.cli.dashboard", "Show the campaign that runs on a page."),
    "site": ("hil.cli.site", "Make static pages of all runs and nights."),
    "completion": ("hil.cli.completion", "Print the script for completion in your shell."),
    "version": ("hil.cli.host", "Show the versions of this program and of its host."),
    "help": ("hil.cli.host", "Show the help of a command."),
}
"""Name to (module, first line of its help): what `hil --help` prints without importing a command."""

EXAMPLES = "\n\n\b\nExamples:\n"


@cache
def load_command(name: str) -> click.Command:
    """Import one of ``COMMANDS``; its help and those of its subcommands get their lines of examples.txt."""
    command: click.Command = copy(getattr(import_module(COMMANDS[name][0]), name))  # `hil verify` is `hil runs verify`
    sections = Path(__file__).with_name("examples.txt").read_text("utf-8").split("\n\n")
    examples = dict(section.strip().split("\n", 1) for section in sections)

    def add_to(command: click.Command, words: str) -> None:
        if lines := examples.get(f"[{words}]"):
            text = cleandoc((command.help or "").partition(EXAMPLES)[0])
            command.help = f"{text}{EXAMPLES}{indent(lines, '  ')}"
        for sub in command.commands.values() if isinstance(command, click.Group) else ():
            add_to(sub, f"{words} {sub.name}")

    add_to(command, name)
    return command


class LazyGroup(click.Group):
    """The group of all commands; it imports a command when that is used, not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest a command for a mistyped one; click itself knows only those that are imported already."""
        if not (args[0].startswith("-") or ctx.resilient_parsing or self.get_command(ctx, args[0])):
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=1)
            raise click.UsageError(
                f"No such command {args[0]!r}." + (f" Did you mean {close[0]!r}?" if close else ""), ctx
            )
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names and options without importing the commands: the shell waits for this."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items()]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [item for item in names if item.value.startswith(incomplete)] + options

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `hil doctor`, then `hil setup` and `hil bench up --lab virtual`.",
)
@click.option("-v", "--verbose", count=True, help="Log to stderr: -v actions, -vv every command and request.")
@click.option("-q", "--quiet", is_flag=True, help="Print results and errors, but no progress and no notes.")
@click.option("--debug", is_flag=True, envvar="HIL_DEBUG", help="Show the traceback of an error.")
@click.version_option(package_name="orbital-hil", prog_name="hil")
@click.pass_context
def cli(ctx: click.Context, verbose: int, quiet: bool, debug: bool) -> None:
    """Rehearse an operating-system upload to GPUs in orbit, on a bench of boards and emulated laser links.

    \b
    HIL_LOG=DEBUG or HIL_LOG=hil.links=DEBUG,hil.boards=INFO sets the level of the log for all or some parts.

    \b
    Exit codes: 0 done, or PASS;  1 the device under test failed;  2 wrong configuration or arguments;
    3 the bench or the harness failed (INCONCLUSIVE);  130 interrupted.
    """
    ctx.meta[VERBOSE], ctx.meta[QUIET] = verbose, quiet
    if verbose or os.environ.get("HIL_LOG"):
        from hil.core.log import ROOT, log_to, parse_levels

        levels = parse_levels(os.environ.get("HIL_LOG", ""))
        if verbose:
            levels[ROOT] = parse_levels("DEBUG" if verbose > 1 else "INFO")[ROOT]
        ctx.with_resource(log_to(sys.stderr, levels))


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    An error is printed with its blame and its remedy: on stderr, or with ``--json`` as JSON on stdout.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    _end_like_interrupt(signal.SIGTERM, signal.SIGHUP)
    try:
        if os.geteuid() != 0 and (code := _shown_by_keeper(arguments)) is not None:
            return code
        code = cli.main(args=arguments, prog_name="hil", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except Terminated as exc:
        click.echo(f"hil: ended by {exc.signal.name}; {UNDONE}", err=True)
        return 128 + exc.signal
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"hil: interrupted; {UNDONE}", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, a pager) has seen enough: no complaint, also not from the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as exc:
        if "--debug" in options or os.environ.get("HIL_DEBUG"):
            import traceback

            traceback.print_exc()
        return _report(exc, as_json="--json" in options)


def _shown_by_keeper(arguments: Sequence[str]) -> int | None:
    """Have root's bench run a command that only looks, for a member of the group; None for all other commands."""
    from hil.bench import rootless_looking
    from hil.bench.state import pick

    wanted = rootless_looking.Look.of(arguments)
    return rootless_looking.look(pick(wanted.bench or os.environ.get("HIL_BENCH")), wanted.words) if wanted else None


def _report(exc: Exception, *, as_json: bool) -> int:
    """Print an error and return the exit code of its blame."""
    if isinstance(exc, click.ClickException) and not as_json:
        exc.show()
        return EXIT_CODES[Blame.CONFIGURATION]
    if isinstance(exc, click.ClickException):
        context = exc.ctx if isinstance(exc, click.UsageError) else None
        help_of = f"see `{context.command_path} --help`" if context else ""
        error: HilError = ConfigurationError(exc.format_message(), remedy=help_of)
    elif isinstance(exc, HilError):
        error = exc
    else:
        message = " ".join(str(exc).split())[:500]
        error = HarnessError(
            f"{type(exc).__name__}: {message}", remedy="run it again as `hil --debug ...` and report the traceback"
        )
    if as_json:
        click.echo(json.dumps(error_document(error), indent=2))
    else:
        show_error(error)
    return EXIT_CODES[error.blame]


def error_document(error: HilError, exit_code: int | None = None) -> dict[str, Any]:
    """Return an error as every command with ``--json`` prints it; ``exit_code`` where it is not that of the blame."""
    code = EXIT_CODES[error.blame] if exit_code is None else exit_code
    facts = {"blame": error.blame.value, "message": error.message, "remedy": error.remedy, "exit_code": code}
    return {"error": facts}


def show_error(exc: HilError) -> None:
    """Print on stderr whose fault it is, what happened, and what to do."""
    click.secho(f"hil: error ({exc.blame.value}): ", fg="red", bold=True, nl=False, err=True)
    click.echo(clean(exc.message), err=True)
    if exc.remedy:
        click.echo(f"  remedy: {clean(exc.remedy)}", err=True)


class Terminated(BaseException):
    """SIGTERM or SIGHUP; unwinds as Ctrl-C does, so that everything is switched off."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.signal = number


def _end_like_interrupt(*numbers: signal.Signals) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(signal.Signals(number))

    for number in numbers:
        # A signal that is ignored already (nohup) stays ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)
