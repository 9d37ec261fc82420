"""`hil lease`: leases of boards, one holder at a time."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.completion import lease_names
from hil.cli.output import JSON_OPTION, Progress, duration_option, lab_option, print_json, print_result, print_rows
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from types import FrameType

    from hil.leases.leases import Lease, LeaseEntry, Leases

TERM_S = 60.0
"""Patience with a command that was asked to end: a campaign takes its bench down meanwhile."""
LOOK_S = 1.0
_PR_SET_PDEATHSIG = 1


class BeforeCommand(click.Command):
    """A command that takes a command line to run after ``--``: ``ctx.meta["argv"]``, None without ``--``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta["argv"] = args[cut + 1 :] if cut < len(args) else None
        return super().parse_args(ctx, args[:cut])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


STORE = click.option(
    "--store",
    envvar="HIL_LEASES",
    type=click.Path(path_type=Path),
    help="Lease store of this lab controller (default: leases.db in this program's home).",
)
LAB = lab_option("Lab file: BOARD may then be a plain name, and no BOARD means all of them.")
HOLDER = click.option("--as", "holder", metavar="NAME", default="", help="Holder's name (default: the user's).")


@click.group()
def lease() -> None:
    """Take, list, free and await leases of boards: all of a bench at once, first come first served."""


@lease.command(cls=BeforeCommand)
@click.argument("boards", nargs=-1, metavar="[BOARD]...")
@LAB
@click.option("--for", "purpose", required=True, metavar="TEXT", help="Purpose; others read it.")
@duration_option(
    "--ttl",
    "Without COMMAND: length of the lease (default 2h). With one: how long the lease outlives a holder on a host "
    "that is not seen any more (default 60s); it is renewed while COMMAND runs.",
)
@duration_option("--wait", "Queue for at most so long (default: refuse at once).")
@HOLDER
@STORE
@JSON_OPTION
@click.pass_context
def take(
    ctx: click.Context,
    /,
    boards: tuple[str, ...],
    lab_path: Path | None,
    ttl_s: float | None,
    store: Path | None,
    as_json: bool,
    **asked: Any,  # purpose, wait_s, holder
) -> int:
    """Take boards, all or none; with COMMAND, hold them while it runs.

    BOARD is <lab>/<board>. With COMMAND the exit code is COMMAND's, and the boards are free as soon as it has ended,
    also by kill -9. Commands of this program that COMMAND runs use the same boards within this lease. Without
    COMMAND the lease is yours until `hil lease free` or until --ttl is over.

    Exit code 3 when a board is not free (in time): the message names its holder, the purpose and the end.
    """
    from hil.leases.leases import Leases
    from hil.leases.rules import PERSON_TTL_S, PROCESS_TTL_S

    argv: list[str] | None = ctx.meta["argv"]
    if argv == []:
        raise ConfigurationError("no command after --", remedy="write it, or leave -- out")
    if argv and as_json:
        raise ConfigurationError("--json is for leases without COMMAND", remedy="leave one of them out")
    keys = board_keys(boards, lab_path)
    leases = Leases(store)
    if argv is None:
        with Progress() as progress:
            entry = leases.reserve(keys, ttl_s=ttl_s or PERSON_TTL_S, progress=progress.say, **asked)
        print_result(as_json, document(entry), _sentences(entry))
        return 0
    with Progress() as progress:
        taken = leases.take(keys, ttl_s=ttl_s or PROCESS_TTL_S, progress=progress.say, **asked)
    with taken:
        return run_with(taken, argv)


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
@duration_option("--timeout", "Give up after so long.", default="1h")
@STORE
@JSON_OPTION
def wait(boards: tuple[str, ...], lab_path: Path | None, timeout_s: float, store: Path | None, as_json: bool) -> None:
    """Wait until these boards are free and without a queue. Takes no lease: `take --wait` does."""
    from hil.leases.leases import Leases
    from hil.leases.rules import boards_text

    keys = board_keys(boards, lab_path)
    with Progress() as progress:
        Leases(store).wait_free(keys, wait_s=timeout_s, progress=progress.say)
    print_result(as_json, {"free": keys}, f"free: {boards_text(keys)}")


@lease.command()
@click.argument("number", type=int, metavar="LEASE", shell_complete=lease_names)
@duration_option("--ttl", "New length from now (default: as before).")
@STORE
@JSON_OPTION
def renew(number: int, ttl_s: float | None, store: Path | None, as_json: bool) -> None:
    """Renew a person's lease: its term begins again. A command's lease is renewed while the command runs."""
    from hil.leases.leases import Leases

    entry = Leases(store).extend(number, ttl_s=ttl_s)
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


def board_keys(boards: tuple[str, ...], lab_path: Path | None) -> list[str]:
    """Return names of boards as the store has them, ``<lab>/<board>``; all of a lab when none is named."""
    if lab_path is None:
        if not boards:
            raise ConfigurationError("no board named", remedy="name boards as <lab>/<board>, or give --lab FILE")
        for board in boards:
            if "/" not in board:
                raise ConfigurationError(
                    f"board {board}: of which lab?", remedy=f"write <lab>/{board}, or give the lab file with --lab"
                )
        return list(boards)
    from hil.lab.model import load_lab

    lab = load_lab(lab_path)
    known = [board.name for board in lab.boards]
    names = [board.removeprefix(f"{lab.lease_scope}/") for board in boards]
    for name in names:
        if name not in known:
            raise ConfigurationError(f"lab {lab.name} has no board {name}", remedy=f"boards: {', '.join(known)}")
    return [f"{lab.lease_scope}/{name}" for name in names or known]


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
        f"for commands of this program in your shell: export {LEASE_ENV}={entry.id}"
    )


def run_with(lease: Lease, argv: Sequence[str]) -> int:
    """Run ``argv`` and return its exit code (128 + number when a signal ended it).

    From its start the command itself counts as the holder: when this process is killed, the command is asked to
    end, and the boards are free once it has.  LeaseLost when the lease was freed by force: the command has ended then.
    ConfigurationError when it cannot be started.
    """
    try:
        child = subprocess.Popen(argv, env={**os.environ, **lease.environment()}, preexec_fn=_dies_with_us())
    except OSError as exc:
        raise ConfigurationError(f"cannot run {argv[0]}: {exc.strerror}", remedy="check its name") from exc
    before = signal.getsignal(signal.SIGINT)
    try:
        lease.hand_to(child.pid)
        signal.signal(signal.SIGINT, _interrupt(child))
        ended = os.pidfd_open(child.pid)
        try:
            while not select.select([ended], [], [], LOOK_S)[0]:
                if lease.lost:
                    _stop_unless_renewed(lease, child)
        finally:
            os.close(ended)
    finally:
        _end(child)
        signal.signal(signal.SIGINT, before)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _dies_with_us() -> Callable[[], None]:
    """For the child, before it becomes the command: SIGTERM when this process dies (prctl(2))."""
    from ctypes import CDLL

    prctl, parent = CDLL(None).prctl, os.getpid()

    def prepare() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # killed before the line above
            os._exit(1)

    return prepare


def _stop_unless_renewed(lease: Lease, child: subprocess.Popen[bytes]) -> None:
    from hil.leases.leases import LeaseLost

    try:
        lease.check()  # this process may only have slept, and the boards were not taken meanwhile
    except LeaseLost:
        if child.poll() is None:  # else it is gone because the command has ended
            click.echo("hil: the lease is lost; the command is asked to end", err=True)
            _end(child)
            raise


def _interrupt(child: subprocess.Popen[bytes]) -> Callable[[int, FrameType | None], None]:
    """Pass Ctrl-C on to the command, unless the terminal has sent it to both processes."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        if not sys.stdin.isatty() and child.returncode is None:
            child.send_signal(number)

    return pass_on


def _end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, patience, SIGKILL; nothing when it has ended."""
    if child.poll() is not None:
        return
    child.terminate()
    with suppress(subprocess.TimeoutExpired):
        child.wait(TERM_S)
    child.kill()
    child.wait()
