"""`hil lease`: leases of boards, one holder at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hil.cli.completion import lease_names
from hil.cli.known_boards import check_known
from hil.cli.lease_command import run_with
from hil.cli.output import JSON_OPTION, Progress, duration_option, lab_option, print_json, print_result, print_rows
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.leases.leases import Lease, LeaseEntry, Leases

L = TypeVar("L")


class BeforeCommand(click.Command):
    """A command that takes a command line to run after ``--``: ``ctx.meta["argv"]``, None without ``--``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta["argv"] = args[cut + 1 :] if cut < len(args) else None
        return super().parse_args(ctx, args[:cut])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


class Tag(click.ParamType[str]):
    """``tag=TAG``."""

    name = "tag=TAG"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word, _, tag = str(value).partition("=")
        if word != "tag" or not tag:
            self.fail(f"{value!r}: write tag=TAG, such as tag=orin-nx", param, ctx)
        return tag


STORE = click.option(
    "--store",
    envvar="HIL_LEASES",
    type=click.Path(path_type=Path),
    help="Lease store of this lab controller (default: leases.db in this program's home).",
)
LAB = lab_option("Lab file: BOARD may then be a plain name, and no BOARD means all of them.")
TENANT = click.option("--tenant", metavar="NAME", default="", help="With --lab: no BOARD means all of this tenant's.")
HOLDER = click.option("--as", "holder", metavar="NAME", default="", help="Holder's name (default: the user's).")


@click.group()
def lease() -> None:
    """Take, list, free and await leases of boards: all of a bench at once, first come first served."""


@lease.command(cls=BeforeCommand)
@click.argument("boards", nargs=-1, metavar="[BOARD]...")
@LAB
@TENANT
@click.option("--for", "purpose", required=True, metavar="TEXT", help="Purpose; others read it.")
@duration_option(
    "--ttl",
    "Without COMMAND: length of the lease (default 2h). With one: how long the lease outlives a holder on a host "
    "that is not seen any more (default 60s); it is renewed while COMMAND runs.",
)
@duration_option("--wait", "Queue for at most so long (default: refuse at once).")
@click.option("--any", "tag", metavar="tag=TAG", type=Tag(), help="Instead of BOARD: one free board with this tag.")
@click.option("--out-of-service", is_flag=True, help="Also a board that is marked out of service: to repair it.")
@click.option("--force", is_flag=True, help="Also a board that no lab file here and no bench has.")
@HOLDER
@STORE
@JSON_OPTION
@click.pass_context
def take(
    ctx: click.Context,
    /,
    boards: tuple[str, ...],
    lab_path: Path | None,
    tenant: str,
    ttl_s: float | None,
    store: Path | None,
    tag: str | None,
    as_json: bool,
    force: bool,
    **asked: Any,  # purpose, wait_s, holder, out_of_service
) -> int:
    """Take boards, all or none; with COMMAND, hold them while it runs.

    BOARD is <lab>/<board>. With COMMAND the exit code is COMMAND's, and the boards are free as soon as it has ended,
    also by kill -9. Commands of this program that COMMAND runs use the same boards within this lease. Without
    COMMAND the lease is yours until `hil lease free` or until --ttl is over.

    Exit code 3 when a board is not free (in time): the message names its holder, the purpose and the end; also when it
    is marked out of service (`hil board mark`).
    """
    from hil.leases.leases import Leases
    from hil.leases.rules import PERSON_TTL_S, PROCESS_TTL_S

    argv: list[str] | None = ctx.meta["argv"]
    if argv == []:
        raise ConfigurationError("no command after --", remedy="write it, or leave -- out")
    if argv and as_json:
        raise ConfigurationError("--json is for leases without COMMAND", remedy="leave one of them out")
    leases = Leases(store)
    if tag and (boards or lab_path):
        raise ConfigurationError("--any chooses the board", remedy="leave BOARD and --lab out")
    if tenant:
        boards, lab_path = tuple(board_keys(boards, lab_path, tenant)), None
    elif lab_path is None and tag is None and not force:
        check_known(board_keys(boards, None), leases)
    with Progress() as progress:

        def reserve(*keys: str, **how: Any) -> LeaseEntry:
            return leases.reserve(keys, ttl_s=ttl_s or PERSON_TTL_S, progress=progress.say, **how)

        def take_now(*keys: str, **how: Any) -> Lease:
            return leases.take(keys, ttl_s=ttl_s or PROCESS_TTL_S, progress=progress.say, **how)

        if argv is None:
            entry = _taken(leases, reserve, boards, lab_path, tag, asked)
            print_result(as_json, document(entry), _sentences(entry))
            return 0
        taken = _taken(leases, take_now, boards, lab_path, tag, asked)
    with taken:
        return run_with(taken, argv)


def _taken(
    leases: Leases,
    take: Callable[..., L],
    boards: tuple[str, ...],
    lab_path: Path | None,
    tag: str | None,
    asked: dict[str, Any],
) -> L:
    """Take the boards that are named, or the first free one with the tag."""
    if tag is None:
        return take(*board_keys(boards, lab_path), **asked)
    return take(*leases.marks.tagged(tag), one_of=True, **asked)


@lease.command("list")
@STORE
@JSON_OPTION
def list_leases(store: Path | None, as_json: bool) -> None:
    """List leases with holder, host, purpose, begin and end, and the queue."""
    from hil.leases.rules import boards_text, span, utc

    leases = _existing(store)
    held, queue = (leases.list(), leases.queue()) if leases else ((), ())
    if as_json:
        print_json({"leases": [document(c) for c in held], "queue": [document(c) for c in queue]})
        return
    shared: dict[str, Callable[[LeaseEntry], object]] = {
        "boards": lambda c: boards_text(c.boards),
        "holder": lambda c: c.holder,
        "host": lambda c: c.origin.host,
        "for": lambda c: c.purpose,
    }
    print_rows(
        held,
        {
            "lease": lambda c: c.id,
            **shared,
            "since": lambda c: utc(c.taken),
            "until": lambda c: utc(c.expires),
            "left": lambda c: span(c.left_s),
            "held by": lambda c: "person" if c.by_person else f"process {c.pid}, renewed",
        },
        empty="no board is leased",
        optional=["since", "held by", "left", "host"],
    )
    if queue:
        click.echo()
        print_rows(
            queue,
            {"place": lambda c: c.position, "id": lambda c: c.id, **shared, "waits since": lambda c: utc(c.asked)},
            optional=["waits since", "id", "host"],
        )


@lease.command()
@click.argument("board", required=False, shell_complete=lease_names)
@LAB
@click.option("-n", "--lines", "most", type=click.IntRange(1), default=50, show_default=True, help="The latest.")
@STORE
@JSON_OPTION
def history(board: str | None, lab_path: Path | None, most: int, store: Path | None, as_json: bool) -> None:
    """List leases that have ended, the latest first: all, or those of BOARD."""
    from hil.leases.rules import boards_text, span, utc

    leases = _existing(store)
    key = board_keys((board,), lab_path)[0] if board else None
    ended = leases.marks.history(board=key, most=most) if leases else []
    if as_json:
        print_json(
            [
                {
                    **{name: getattr(one, name) for name in ("id", "holder", "host", "purpose")},
                    "boards": sorted(one.boards),
                    "taken": one.taken.isoformat(),
                    "ended": one.ended.isoformat(),
                }
                for one in ended
            ]
        )
        return
    print_rows(
        ended,
        {
            "lease": lambda one: one.id,
            "boards": lambda one: boards_text(one.boards),
            "holder": lambda one: one.holder,
            "host": lambda one: one.host,
            "for": lambda one: one.purpose,
            "since": lambda one: utc(one.taken),
            "until": lambda one: utc(one.ended),
            "held for": lambda one: span((one.ended - one.taken).total_seconds()),
        },
        empty=f"no lease of {key} has ended" if key else "no lease has ended",
        optional=["until", "host"],
    )


@lease.command()
@click.argument("which", nargs=-1, metavar="[LEASE|BOARD]...", shell_complete=lease_names)
@LAB
@click.option("--force", is_flag=True, help="Also another person's lease, or one whose process still runs.")
@HOLDER
@STORE
@JSON_OPTION
def free(
    which: tuple[str, ...], lab_path: Path | None, force: bool, holder: str, store: Path | None, as_json: bool
) -> None:
    """End leases, or places in the queue, by number or by board."""
    from hil.leases.leases import Leases
    from hil.leases.rules import boards_text

    leases = _existing(store) or Leases(store)
    numbers = [int(w) for w in which if w.isdecimal()]
    names = [w for w in which if not w.isdecimal()]
    wanted: list[int | str] = [*numbers]
    if names or not numbers:
        keys = board_keys(tuple(names), lab_path)
        leased = frozenset(board for entry in leases.list() for board in entry.boards)
        # "All boards of the lab" means those that are leased; a board that is named must be.
        wanted += keys if names else [key for key in keys if key in leased]
    ended: dict[int, LeaseEntry] = {}
    for each in wanted:
        if not any(each in c.boards for c in ended.values()):
            ended |= {c.id: c for c in leases.free(each, by=holder, force=force)}
    if as_json:
        print_json([document(c) for c in ended.values()])
        return
    for entry in ended.values():
        click.echo(f"lease {entry.id} of {entry.holder} has ended: {boards_text(entry.boards)}")
    if not ended:
        click.echo("nothing to free: no board of that lab is leased")


@lease.command()
@click.argument("boards", nargs=-1, metavar="[BOARD]...")
@LAB
@TENANT
@duration_option("--timeout", "Give up after so long.", default="1h")
@STORE
@JSON_OPTION
def wait(
    boards: tuple[str, ...], lab_path: Path | None, tenant: str, timeout_s: float, store: Path | None, as_json: bool
) -> None:
    """Wait until these boards are free and without a queue. Takes no lease: `take --wait` does."""
    from hil.leases.leases import Leases
    from hil.leases.rules import boards_text

    keys = board_keys(boards, lab_path, tenant)
    with Progress() as progress:
        Leases(store).wait_free(keys, wait_s=timeout_s, progress=progress.say)
    print_result(as_json, {"free": keys}, f"free: {boards_text(keys)}")


@lease.command()
@click.argument("number", type=int, metavar="LEASE", shell_complete=lease_names)
@duration_option("--ttl", "New length from now (default: as before).")
@HOLDER
@STORE
@JSON_OPTION
def renew(number: int, ttl_s: float | None, holder: str, store: Path | None, as_json: bool) -> None:
    """Renew a person's lease: its term begins again. A command's lease is renewed while the command runs."""
    from hil.leases.leases import Leases

    entry = Leases(store).extend(number, ttl_s=ttl_s, by=holder)
    print_result(as_json, document(entry), _sentences(entry))


def _existing(path: Path | None) -> Leases | None:
    """Return the store, or None when there is none yet; nothing is created.

    ConfigurationError for a store that was named and is not there.
    """
    from hil.leases.leases import Leases, default_store

    if (path or default_store()).exists():
        return Leases(path)
    if path not in (None, default_store()):
        raise ConfigurationError(f"there is no lease store {path}", remedy="check --store, or HIL_LEASES")
    return None


def board_keys(boards: tuple[str, ...], lab_path: Path | None, tenant: str = "") -> list[str]:
    """Return names of boards as the store has them, ``<lab>/<board>``; all of a lab or a tenant when none is named.

    ConfigurationError for a board or a tenant that the lab does not have, and for another tenant's board.
    """
    if lab_path is None and tenant:
        raise ConfigurationError(f"tenant {tenant}: of which lab?", remedy="give the lab file with --lab")
    if lab_path is None:
        if not boards:
            raise ConfigurationError("no board named", remedy="name boards as <lab>/<board>, or give --lab FILE")
        for board in boards:
            if "/" not in board:
                raise ConfigurationError(
                    f"board {board}: of which lab?", remedy=f"write <lab>/{board}, or give the lab file with --lab"
                )
        return list(boards)
    from hil.bench.state import lease_keys
    from hil.lab.model import load_lab

    lab = load_lab(lab_path)
    lab = lab.as_seen_by(tenant) if tenant else lab
    known = dict(zip((board.name for board in lab.boards), lease_keys(lab, lab.lease_scope), strict=True))
    names = [board.removeprefix(f"{lab.lease_scope}/") for board in boards]
    for name in names:
        if name not in known:
            whose = f"tenant {tenant} of lab {lab.name}" if tenant else f"lab {lab.name}"
            raise ConfigurationError(f"{whose} has no board {name}", remedy=f"boards: {', '.join(known)}")
    return [known[name] for name in names or known]


def document(entry: LeaseEntry) -> dict[str, Any]:
    """Return a lease or a place in the queue for JSON; times are UTC."""
    plain = ("id", "holder", "purpose", "pid", "within", "position")
    moments = ("asked", "taken", "renewed", "expires")
    return {
        **{key: getattr(entry, key) for key in plain},
        **{key: moment and moment.isoformat() for key in moments for moment in [getattr(entry, key)]},
        "boards": sorted(entry.boards),
        "host": entry.origin.host,
        "person": entry.by_person,
        "left_s": round(entry.left_s, 1),
    }


def _sentences(entry: LeaseEntry) -> str:
    from hil.leases.lease import LEASE_ENV
    from hil.leases.rules import boards_text, span, utc

    return (
        f"lease {entry.id}: {boards_text(entry.boards)}\n"
        f"yours until {utc(entry.expires)} ({span(entry.left_s)}), or until `hil lease free {entry.id}`\n"
        f"longer: `hil lease renew {entry.id}`\n"
        f"for commands of this program in your shell: export {LEASE_ENV}={entry.name}"
    )
