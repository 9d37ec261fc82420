"""`hil worker`: the bench of this host runs trials for a series that another host leads."""

from __future__ import annotations

from pathlib import Path

import click

from hil.cli.output import lab_option, say


@click.command()
@click.argument("address")
@lab_option("Lab file of this host; its content must be that of the series.")
@click.option("--keys", required=True, type=click.Path(path_type=Path), help="Folder made by `hil trials keys`.")
@click.option("--name", default="", help="How this worker is called there (default: its address).")
def worker(address: str, lab_path: Path | None, keys: Path, name: str) -> None:
    """Run trials for a series that another host leads.

    ADDRESS (tls://HOST:PORT) is what it listens at. The bench is one of this host; it goes down when the series ends.
    Results are written to the store that all hosts share (HIL_STORE); without one, to the reports folder, which must be
    the same on all hosts, at the same path.
    """
    import asyncio

    from hil.errors import ConfigurationError
    from hil.monitor.exporter import host_and_port
    from hil.trials.workers import serve

    if not address.startswith("tls://"):
        raise ConfigurationError(f"{address!r} is no address of a series", remedy="write tls://HOST:PORT")
    host_and_port(address.removeprefix("tls://"))
    say(f"waiting for trials of {address}; Ctrl-C ends it")
    asyncio.run(serve(address, keys, lab_file=lab_path, name=name))
