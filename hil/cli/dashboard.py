"""`hil dashboard`: a page on loopback that shows a campaign as it runs."""

from __future__ import annotations

import time
from pathlib import Path

import click

from hil.cli.output import JSON_OPTION, note, print_result


@click.command()
@click.option("--listen", default="127.0.0.1:9436", show_default=True, metavar="HOST:PORT", help="Port 0: a free one.")
@click.option("--commands", is_flag=True, help="Let who has the token end the campaign; prints the token on stderr.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Reports folder (default: reports/out).")
@JSON_OPTION
def dashboard(listen: str, commands: bool, out: Path | None, as_json: bool) -> None:
    """Show the campaign that runs on a page.

    Links, boards, slots, temperatures, faults and steps, until Ctrl-C or SIGTERM (exit code 0). The page follows the
    evidence as it is written, and goes on with the next campaign. It changes nothing.
    """
    import secrets

    from hil.campaign.jobs import interrupt
    from hil.cli.app import Terminated
    from hil.core import paths
    from hil.errors import ConfigurationError
    from hil.monitor.dashboard import serving
    from hil.monitor.exporter import host_and_port, is_loopback
    from hil.monitor.live_run import Follower

    host, port = host_and_port(listen)
    token = secrets.token_urlsafe(24) if commands else ""

    def cancel() -> None:
        if not (process := follower.process):
            raise ConfigurationError("no campaign runs")
        interrupt(dict(process))

    try:
        with (
            Follower((out or paths.reports_out()).absolute()) as follower,
            serving(follower, host=host, port=port, commands={"/cancel": cancel}, token=token) as port,
        ):
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
            print_result(as_json, {"url": url}, url)
            if token:
                note(f"the token of commands is {token}")
            if not is_loopback(host):
                note(f"everybody who can reach {host} can read it: it has no password")
            while True:
                time.sleep(1.0)
    except (KeyboardInterrupt, Terminated):
        return
