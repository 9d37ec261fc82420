"""`hil setup`, `doctor`, `clean`, `version`, `help`: commands about this host and this program."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hil.cli.output import JSON_OPTION, Progress, console, lab_option, print_json, print_result


@click.command()
@click.option("--check", is_flag=True, help="Only say whether anything is missing (exit code 2 if so).")
@click.option("--cuda", is_flag=True, help="Also fetch ONNX Runtime with CUDA (2 GB), for boards with a GPU.")
@JSON_OPTION
def setup(check: bool, cuda: bool, as_json: bool) -> int:
    """Install and build what the virtual lab needs: host packages (apt), a container engine, images, payload.

    Safe to repeat: what is there is not made again. Needs root for the first time.
    """
    from hil.host import packages
    from hil.host import setup as steps

    if check:
        lacking = ", ".join(p.name for p in packages.missing())
        reason = f"host packages are missing: {lacking}" if lacking else steps.stale()
        text = f"set-up: {reason}; run `hil setup`" if reason else "set-up: everything is there"
        print_result(as_json, {"ready": not reason, "reason": reason or None}, text)
        return 2 if reason else 0
    with Progress() as progress:
        result = steps.setup(progress)
        if cuda:
            steps.fetch_cuda(progress)
    text = f"set-up: done in {result.seconds:.1f} s; next: `hil bench up --lab virtual`"
    document = {"ready": True, "did": result.did, "seconds": round(result.seconds, 1)}
    print_result(as_json, document, text if result.did else "set-up: everything is there")
    return 0


@click.command()
@lab_option("Look at the real boards and the shaper host of this lab file as well.")
@click.option("--root", type=click.Path(path_type=Path, file_okay=False), default=Path("/"), hidden=True)
@JSON_OPTION
def doctor(lab_path: Path | None, root: Path, as_json: bool) -> int:
    """Check this host and name what it lacks: why that matters, what to do, and what works without it.

    With --lab also the lab file's real boards (power switch, management port and who answers there, console, flight
    NIC, recovery USB) and its shaper host (kernel, clock, load, and the ports of the links). It only looks: nothing is
    switched, no serial port is opened.

    \b
    Exit code: 0  a campaign can run here
               1  a bench cannot come up here as it is; lab files, reports and unit tests work
               2  nothing works
    """
    from hil.host.doctor import this_host as doctors

    checks = doctors.diagnose()
    if lab_path is not None:
        from hil.core import kinds
        from hil.host.doctor import real_boards
        from hil.lab.model import load_lab

        lab = load_lab(lab_path)
        checks += real_boards.diagnose(lab, root)
        if lab.engine:
            checks += kinds.load(kinds.ENGINES, lab.engine).checks(lab)
    if as_json:
        print_json(doctors.as_json(checks))
    else:
        doctors.print_page(checks, console())
    return doctors.exit_code(checks)


@click.command()
@click.option("--all", "everything", is_flag=True, help="Take down live benches as well.")
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@JSON_OPTION
def clean(everything: bool, dry_run: bool, as_json: bool) -> int:
    """Remove what killed runs left on this host: containers, namespaces, processes, loop devices, mounts, files.

    A bench whose keeper is alive is not touched, unless --all is given.
    """
    from hil.bench.clean import clean as sweep

    done = sweep(everything=everything, dry_run=dry_run)
    if as_json:
        print_json(done.as_json())
        return 3 if done.failed else 0
    for leftover in done.removed:
        click.echo(f"{'found' if dry_run else 'removed'} {leftover}")
    for leftover, why in done.failed:
        click.secho(f"could not remove {leftover}: {why}", fg="red", err=True)
    if done.live:
        click.echo(f"left alone, because in use: {', '.join(done.live)} (`hil clean --all` ends benches)")
    if not done.removed and not done.failed:
        click.echo("nothing was left over")
    return 3 if done.failed else 0


@click.command()
@JSON_OPTION
def version(as_json: bool) -> None:
    """Show the versions of this program and of its host."""
    import os
    from importlib.metadata import PackageNotFoundError, version

    from hil.core import paths

    try:
        own = version("orbital-hil")
    except PackageNotFoundError:
        own = "not installed"
    facts = {
        "hil": own,
        "package": str(paths.PACKAGE),
        "home": str(paths.home()),
        "python": sys.version.split()[0],
        "kernel": os.uname().release,
    }
    print_result(as_json, facts, "\n".join(f"{name:<9} {value}" for name, value in facts.items()))


@click.command()
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command."""
    context = ctx.find_root()
    for word in words:
        group = context.command
        command = group.get_command(context, word) if isinstance(group, click.Group) else None
        if command is None:
            raise click.UsageError(f"{context.command_path} has no command {word!r}.", context)
        context = click.Context(command, info_name=word, parent=context)
    click.echo(context.get_help())
