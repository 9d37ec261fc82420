"""`hil lease`: the right to use boards, one holder at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hil.cli.output import JSON_OPTION, Progress, print_json, print_table, seconds
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.leases.leases import Claim

F = TypeVar("F", bound=Callable[..., object])


class BeforeCommand(click.Command):
    """A command whose arguments after ``--`` are a command line to run; it finds them in ``ctx.obj``'s stead."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta["argv"] = args[cut + 1 :] if cut < len(args) else None
        return super().parse_args(ctx, args[:cut])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def store_option(command: F) -> F:
    """``--store FILE``."""
    return click.option(
        "--store",
        envvar="HIL_LEASES",
        type=click.Path(path_type=Path),
        help="The lease store of this lab controller (default: leases.db in this program's home).",
    )(command)


def lab_option(command: F) -> F:
    """``--lab FILE``."""
    return click.option(
        "--lab",
        "lab_path",
        type=click.Path(path_type=Path),
        help="Lab file: BOARD may then be a plain name, and no BOARD means all of them.",
    )(command)


def holder_option(command: F) -> F:
    """``--as NAME``."""
    return click.option("--as", "holder", metavar="NAME", default="", help="Who asks (default: the user).")(
        command
    )


@click.group()
def lease() -> None:
    """The right to use boards: all of a bench at once, one holder at a time, first come first served.

    \b
    Examples:
      hil lease take --lab lab/mine.yaml --for "night run" --wait 30m -- hil campaign run testplans/six_gpu --bench mine
      hil lease take virtual/a1 --for "new fan" --ttl 4h       for a person: until `hil lease free`, or 4 h
      hil lease list
      hil lease free virtual/a1
      hil lease wait --lab lab/virtual.yaml
    """


@lease.command(cls=BeforeCommand)
@click.argument("boards", nargs=-1, metavar="[BOARD]...")
@lab_option
@click.option("--for", "purpose", required=True, metavar="TEXT", help="What for; others read it.")
@click.option(
    "--ttl",
    "ttl_s",
    type=seconds,
    metavar="TIME",
    help="Without COMMAND: how long (default 2h). With one: how long the lease outlives a holder that nobody can "
    "see any more (default 60s); it is renewed while COMMAND runs.",
)
@click.option(
    "--wait",
    "wait_s",
    type=seconds,
    metavar="TIME",
    help="Queue for at most so long (default: refuse at once).",
)
@holder_option
@store_option
@JSON_OPTION
@click.pass_context
def take(
    ctx: click.Context,
    boards: tuple[str, ...],
    lab_path: Path | None,
    purpose: str,
    ttl_s: float | None,
    wait_s: float | None,
    holder: str,
    store: Path | None,
    as_json: bool,
) -> int:
    """Take boards, all or none; with COMMAND, hold them while it runs.

    BOARD is <lab>/<board>. With COMMAND the exit code is COMMAND's, and the boards are free as soon as it has ended,
    also by kill -9. Commands of this program that COMMAND runs use the same boards within this lease. Without
    COMMAND the lease is yours until `hil lease free` or until --ttl is over.

    \b
    Examples:
      hil lease take six/a1 six/a2 --for "thermal run" -- ./thermal.sh
      hil lease take --lab lab/mine.yaml --for "night run" --wait 30m -- hil campaign run testplans/six_gpu --bench mine
      hil lease take six/a1 --for "new fan" --ttl 4h
    Exit code 3 when a board is not free (in time): the message says who has it, for what and until when.
    """
    from hil.leases.leases import PERSON_TTL_S, PROCESS_TTL_S, Leases

    argv: list[str] | None = ctx.meta["argv"]
    if argv == []:
        raise ConfigurationError("no command after --", remedy="write it, or leave -- out")
    if argv and as_json:
        raise ConfigurationError("--json is for leases without COMMAND", remedy="leave one of them out")
    keys = board_keys(boards, lab_path)
    leases = Leases(store)
    with Progress() as progress:
        if argv is None:
            claim = leases.reserve(
                keys,
                holder=holder,
                purpose=purpose,
                ttl_s=ttl_s or PERSON_TTL_S,
                wait_s=wait_s,
                progress=progress.say,
            )
        else:
            taken = leases.take(
                keys,
                holder=holder,
                purpose=purpose,
                ttl_s=ttl_s or PROCESS_TTL_S,
                wait_s=wait_s,
                progress=progress.say,
            )
    if argv is not None:
        from hil.cli.lease.run import run_with

        with taken:
            return run_with(taken, argv)
    if as_json:
        print_json(document(claim))
    else:
        _say_taken(claim)
    return 0


@lease.command("list")
@store_option
@JSON_OPTION
def list_leases(store: Path | None, as_json: bool) -> None:
    """Who holds what, since when, until when, on which host, for what; and who waits at which place.

    \b
    Examples:
      hil lease list
      hil lease list --json
    """
    from hil.leases.leases import Leases
    from hil.leases.rules import boards_text, span, utc

    leases = Leases(store)
    held, queue = leases.list(), leases.queue()
    if as_json:
        print_json({"leases": [document(c) for c in held], "queue": [document(c) for c in queue]})
        return
    print_table(
        ["lease", "boards", "holder", "host", "for", "since", "until", "left", "held by"],
        [
            (
                c.id,
                boards_text(c.boards),
                c.holder,
                c.place.host,
                c.purpose,
                utc(c.taken),
                utc(c.expires),
                span(c.left_s),
                "person" if c.by_person else f"process {c.pid}, renewed",
            )
            for c in held
        ],
        empty="no board is leased",
    )
    if queue:
        click.echo()
        print_table(
            ["place", "id", "boards", "holder", "host", "for", "waits since"],
            [
                (c.position, c.id, boards_text(c.boards), c.holder, c.place.host, c.purpose, utc(c.asked))
                for c in queue
            ],
        )


@lease.command()
@click.argument("which", nargs=-1, metavar="[LEASE|BOARD]...")
@lab_option
@click.option("--force", is_flag=True, help="Also another's lease, or one whose process still runs.")
@holder_option
@store_option
@JSON_OPTION
def free(
    which: tuple[str, ...],
    lab_path: Path | None,
    force: bool,
    holder: str,
    store: Path | None,
    as_json: bool,
) -> None:
    """End leases (or waits) by number, or whatever holds a board.

    \b
    Examples:
      hil lease free 17
      hil lease free six/a1
      hil lease free --lab lab/virtual.yaml --force     whoever holds them; they see that their lease is lost
    """
    from hil.leases.leases import Leases
    from hil.leases.rules import boards_text

    leases = Leases(store)
    numbers = [int(w) for w in which if w.isdecimal()]
    names = [w for w in which if not w.isdecimal()]
    wanted: list[int | str] = [*numbers]
    if names or not numbers:
        keys = board_keys(tuple(names), lab_path)
        leased = frozenset(board for claim in leases.list() for board in claim.boards)
        # "All boards of the lab" means those that are leased; a board that is named must be.
        wanted += keys if names else [key for key in keys if key in leased]
    ended: dict[int, Claim] = {}
    for each in wanted:
        if not any(each in c.boards for c in ended.values()):
            ended |= {c.id: c for c in leases.free(each, by=holder, force=force)}
    if as_json:
        print_json([document(c) for c in ended.values()])
        return
    for claim in ended.values():
        click.echo(f"lease {claim.id} of {claim.holder} has ended: {boards_text(claim.boards)}")
    if not ended:
        click.echo("nothing to free: no board of that lab is leased")


@lease.command()
@click.argument("boards", nargs=-1, metavar="[BOARD]...")
@lab_option
@click.option(
    "--timeout",
    "wait_s",
    type=seconds,
    metavar="TIME",
    default="1h",
    show_default=True,
    help="Give up after.",
)
@store_option
@JSON_OPTION
def wait(
    boards: tuple[str, ...], lab_path: Path | None, wait_s: float, store: Path | None, as_json: bool
) -> None:
    """Wait until nobody holds or waits for these boards. Takes nothing: `take --wait` queues for them.

    \b
    Example:
      hil lease wait six/a1 --timeout 10m && echo free
    """
    from hil.leases.leases import Leases
    from hil.leases.rules import boards_text

    keys = board_keys(boards, lab_path)
    with Progress() as progress:
        Leases(store).wait_free(keys, wait_s=wait_s, progress=progress.say)
    if as_json:
        print_json({"free": keys})
    else:
        click.echo(f"free: {boards_text(keys)}")


@lease.command()
@click.argument("number", type=int, metavar="LEASE")
@click.option(
    "--ttl", "ttl_s", type=seconds, metavar="TIME", help="Its new length from now (default: as before)."
)
@store_option
@JSON_OPTION
def renew(number: int, ttl_s: float | None, store: Path | None, as_json: bool) -> None:
    """Begin the term of a person's lease again. Leases held by a command are renewed by themselves.

    \b
    Example:
      hil lease renew 17 --ttl 4h
    """
    from hil.leases.leases import Leases

    claim = Leases(store).extend(number, ttl_s=ttl_s)
    if as_json:
        print_json(document(claim))
    else:
        _say_taken(claim)


def board_keys(boards: tuple[str, ...], lab_path: Path | None) -> list[str]:
    """Names of boards as the store has them, ``<lab>/<board>``; all of a lab when none is named."""
    if lab_path is None:
        if not boards:
            raise ConfigurationError(
                "no board named", remedy="name boards as <lab>/<board>, or give --lab FILE"
            )
        for board in boards:
            if "/" not in board:
                raise ConfigurationError(
                    f"board {board}: of which lab?",
                    remedy=f"write <lab>/{board}, or give the lab file with --lab",
                )
        return list(boards)
    from hil.lab.model import load_lab

    lab = load_lab(lab_path)
    known = [board.name for board in lab.boards]
    names = [board.removeprefix(f"{lab.lease_scope}/") for board in boards]
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"lab {lab.name} has no board {name}", remedy=f"boards: {', '.join(known)}"
            )
    return [f"{lab.lease_scope}/{name}" for name in names or known]


def document(claim: Claim) -> dict[str, Any]:
    """A lease or a place in the queue as JSON; times are UTC."""
    return {
        "id": claim.id,
        "token": claim.token,
        "boards": sorted(claim.boards),
        "holder": claim.holder,
        "host": claim.place.host,
        "purpose": claim.purpose,
        "person": claim.by_person,
        "pid": claim.pid,
        "within": claim.within,
        "asked": claim.asked.isoformat(),
        "taken": claim.taken.isoformat() if claim.taken else None,
        "renewed": claim.renewed.isoformat(),
        "expires": claim.expires.isoformat() if claim.expires else None,
        "left_s": round(claim.left_s, 1),
        "position": claim.position,
    }


def _say_taken(claim: Claim) -> None:
    from hil.leases.lease import LEASE_ENV
    from hil.leases.rules import boards_text, span, utc

    click.echo(f"lease {claim.id}: {boards_text(claim.boards)}")
    click.echo(
        f"yours until {utc(claim.expires)} ({span(claim.left_s)}), or until `hil lease free {claim.id}`"
    )
    click.echo(f"longer: `hil lease renew {claim.id}`")
    click.echo(f"for commands of this program in your shell: export {LEASE_ENV}={claim.id}:{claim.token}")
