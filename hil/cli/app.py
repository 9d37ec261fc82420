"""The root command: subcommands that are imported when used, errors with blame, exit codes, Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING

import click

from hil.errors import Blame, HilError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

EXIT_CODES: Mapping[Blame, int] = {
    Blame.DEVICE: 1,
    Blame.CONFIGURATION: 2,
    Blame.BENCH: 3,
    Blame.HARNESS: 3,
}
"""Exit status of a command that ends in an error, by whose fault it is (the same numbers as a campaign's)."""

UNDONE = "what this command had switched on is off again"
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

COMMANDS: Mapping[str, tuple[str, str]] = {
    "setup": ("hil.cli.host", "Install and build whatever the virtual lab needs."),
    "doctor": ("hil.cli.host", "What this host has and lacks, and what to do about it."),
    "clean": ("hil.cli.host", "Find and remove what killed runs left."),
    "lab": ("hil.cli.lab.group", "Check and show lab files; find boards for a first one."),
    "orbit": ("hil.cli.orbit", "Contact plans and pictures of a constellation."),
    "lease": ("hil.cli.lease.group", "The right to use boards: take, list, free, wait."),
    "bench": ("hil.cli.bench.group", "Bring a lab up, see it, take it down."),
    "board": ("hil.cli.board.group", "Boards: list, watch, console, shell, power, flash."),
    "link": ("hil.cli.link.group", "Show, shape, cut and measure links."),
    "fault": ("hil.cli.fault", "What can go wrong on purpose: list it, cause it."),
    "campaign": ("hil.cli.campaign", "Run a test campaign."),
    "runs": ("hil.cli.runs", "Runs of the past: list, show, open, report."),
    "completion": ("hil.cli.completion", "Script that completes commands and names in your shell."),
    "version": ("hil.cli.host", "Versions of what is at work here."),
}


class LazyGroup(click.Group):
    """A group that knows its subcommands' names and one-line helps, and imports a subcommand when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click has it, which looks for what was meant only among commands that are imported already."""
        if not (args[0].startswith("-") or ctx.resilient_parsing or self.get_command(ctx, args[0])):
            from difflib import get_close_matches

            close = get_close_matches(args[0], COMMANDS, n=1)
            raise click.UsageError(
                f"No such command {args[0]!r}." + (f" Did you mean {close[0]!r}?" if close else ""), ctx
            )
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names and helps without importing the commands: the shell waits for this."""
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
    epilog="Start with `hil doctor`, then `hil setup` and `hil bench up --lab lab/virtual.yaml`.",
)
@click.option("--debug", is_flag=True, envvar="HIL_DEBUG", help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Rehearse an operating-system upload to GPUs in orbit, on a bench of boards and emulated laser links.

    \b
    Exit codes: 0 done, or PASS;  1 the device under test failed;  2 wrong configuration or arguments;
    3 the bench or the harness failed (INCONCLUSIVE);  130 interrupted.
    """
    ctx.obj = debug


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code.  Prints errors with their blame and their remedy to stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments or bool(os.environ.get("HIL_DEBUG"))
    _end_like_interrupt(signal.SIGTERM, signal.SIGHUP)
    try:
        code = cli.main(args=arguments, prog_name="hil", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as exc:
        exc.show()
        return EXIT_CODES[Blame.CONFIGURATION]
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
    except HilError as exc:
        if debug:
            raise
        show_error(exc)
        return EXIT_CODES[exc.blame]
    except Exception as exc:
        if debug:
            raise
        message = " ".join(str(exc).split())[:500]
        click.echo(f"hil: error (harness): {type(exc).__name__}: {message}", err=True)
        click.echo("  remedy: run it again as `hil --debug ...` and report the traceback", err=True)
        return EXIT_CODES[Blame.HARNESS]


def show_error(exc: HilError) -> None:
    """Whose fault it is, what happened, what to do: on stderr."""
    click.secho(f"hil: error ({exc.blame.value}): ", fg="red", bold=True, nl=False, err=True)
    click.echo(exc.message, err=True)
    if exc.remedy:
        click.echo(f"  remedy: {exc.remedy}", err=True)


class Terminated(BaseException):
    """SIGTERM or SIGHUP: everything is switched off as after Ctrl-C (which click turns into its Abort)."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.signal = number


def _end_like_interrupt(*numbers: signal.Signals) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(signal.Signals(number))

    for number in numbers:
        # What somebody chose to ignore (nohup) stays ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)
