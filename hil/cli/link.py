"""`hil link`: the links of a bench that is up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.completion import link_names
from hil.cli.output import (
    JSON_OPTION,
    OutputFile,
    Progress,
    RenamedOptions,
    delay,
    duration_option,
    plural,
    print_json,
    print_result,
    print_rows,
    print_table,
    rate,
    write_output,
)
from hil.cli.quantities import Delay, Rate, Share
from hil.cli.select_bench import FORCE, claim, on_bench
from hil.core import paths
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.evidence.events import LinkFigure
    from hil.lab.model import Lab
    from hil.links.link_box import Direction, End, LinkBox, LinkStatus
    from hil.links.state import LinkState


class Directions(click.Choice[str]):
    """Which directions of a link; ``a-to-b``, the former spelling of ``a_to_b``, too."""

    def __init__(self) -> None:
        super().__init__(["both", "a_to_b", "b_to_a"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(str(value).replace("-", "_"), param, ctx)


LINK_ARGUMENT = click.argument("name", metavar="LINK", shell_complete=link_names)


@click.group()
def link() -> None:
    """Show, shape, cut and measure links of a bench that is up."""


@link.command()
@on_bench
@JSON_OPTION
def show(bench: Bench, as_json: bool) -> None:
    """Show each direction of each link: its commanded state, the kernel's state, and counted packets."""
    statuses, cut, differs = bench.links.show(), bench.links.cut_links(), bench.links.differences()
    engine = f"{bench.links.engine}: {bench.links.engine_reason}"
    if as_json:
        print_json(
            {"engine": engine, "links": [{**asdict(s), "up": s.up, "differs": differs.get(s.name)} for s in statuses]}
        )
        return
    print_rows(
        [
            (status.name, direction, one)
            for status in statuses
            for direction, one in (
                (" → ".join(map(_node, (status.a, status.b))), status.a_to_b),
                (" → ".join(map(_node, (status.b, status.a))), status.b_to_a),
            )
        ],
        {
            "link": lambda row: row[0],
            "direction": lambda row: row[1],
            "state": lambda row: "cut" if row[0] in cut else "up" if row[2].commanded.up else "down",
            "lab file": lambda row: "DIFFERS" if row[0] in differs else "as in it",
            "one way": lambda row: _delay_words(row[2].commanded),
            "rate": lambda row: rate(row[2].commanded.rate_bps) + ("" if row[2].kernel else " (kernel: nothing)"),
            "loss": lambda row: f"{row[2].commanded.mean_loss_ppm} ppm{_burst_words(row[2].commanded)}",
            "queue": lambda row: f"{row[2].limit_packets} pkt",
            "sent": lambda row: f"{row[2].sent_packets} pkt",
            "dropped": lambda row: f"{row[2].dropped_packets} pkt",
            "waiting": lambda row: f"{row[2].queued_packets} pkt",
        },
        optional=["waiting", "queue", "sent", "dropped", "loss"],
    )
    if any(status.a_to_b.shares for status in statuses):
        click.echo()
        print_rows(
            [
                (status.name, " → ".join(map(_node, ends)), share)
                for status in statuses
                for ends, one in (((status.a, status.b), status.a_to_b), ((status.b, status.a), status.b_to_a))
                for share in one.shares
            ],
            {
                "link": lambda row: row[0],
                "direction": lambda row: row[1],
                "tenant": lambda row: row[2].tenant or "(all others)",
                "share": lambda row: f"{row[2].percent} %",
                "sure of": lambda row: rate(row[2].kernel_rate_bps) if row[2].kernel_rate_bps else "kernel: nothing",
                "sent": lambda row: f"{row[2].sent_packets} pkt",
                "dropped": lambda row: f"{row[2].dropped_packets} pkt",
                "waiting": lambda row: f"{row[2].queued_packets} pkt",
            },
            optional=["waiting", "sent", "dropped"],
        )
    for name, was in differs.items():
        click.echo(f"{name} is not as the lab file has it: {was}; `hil link reset {name}` puts it back")
    click.echo(f"shaped by {engine}")


def _node(end: End) -> str:
    return end.namespace.rsplit(".", 1)[-1]


@link.command()
@click.argument("start")
@click.argument("end")
@on_bench
@JSON_OPTION
def path(bench: Bench, start: str, end: str, as_json: bool) -> int:
    """List the links on the way from START to END now: boards, spacecraft or the ground station.

    Exit code 3 when there is no way at this moment.
    """
    from hil.lab.routes import path as way

    here, last = (_lab_node(bench.lab, name) for name in (start, end))
    planned = bench.orbit.usable() if bench.orbit else frozenset(bench.links.links)
    names = way(bench.lab, here, last, planned - bench.links.cut_links())
    document: dict[str, Any] = {"from": here, "to": last, "reachable": names is not None}
    hops: list[dict[str, Any]] = []
    for name in names or []:
        near, far = bench.lab.link(name).between
        direction: Direction = "a_to_b" if here == near else "b_to_a"
        there = far if here == near else near
        delay_us = bench.links.commanded(name, direction).delay_us
        hops.append({"link": name, "from": here, "to": there, "delay_us": delay_us})
        here = there
    if as_json:
        print_json(document | {"hops": hops})
    elif names is None:
        click.echo(f"no way from {here} to {last} at this moment")
    else:
        print_table(
            ["hop", "link", "from", "to", "one way"],
            [(i, hop["link"], hop["from"], hop["to"], delay(hop["delay_us"])) for i, hop in enumerate(hops, 1)],
            empty=f"{start} and {end} are on the same spacecraft",
        )
        click.echo(f"light time {delay(sum(hop['delay_us'] for hop in hops))}, {plural(len(hops), 'hop')}")
    return 0 if names is not None else 3


def _lab_node(lab: Lab, name: str) -> str:
    """The spacecraft of a board, or the node itself. ConfigurationError when there is neither."""
    if name in lab.nodes:
        return name
    try:
        return lab.spacecraft_of(name).name
    except KeyError:
        raise ConfigurationError(
            f"no board, spacecraft or ground station {name} in lab {lab.name}", remedy="`hil board list` names them"
        ) from None


@link.command(
    "set",
    cls=RenamedOptions,
    renamed={"--delay-us": ("--delay", "{}us"), "--rate-bps": ("--rate", "{}bit"), "--loss-ppm": ("--loss", "{}ppm")},
)
@LINK_ARGUMENT
@on_bench
@click.option(
    "--direction", type=Directions(), default="both", show_default=True, help="both, a_to_b or b_to_a, of two."
)
@click.option("--delay", "delay_us", type=Delay(most_us=2_000_000), help="One-way delay: 20ms, 14386us.")
@click.option("--jitter", "jitter_us", type=Delay(most_us=1_000_000), help="Standard deviation of the delay: 2ms.")
@click.option("--rate", "rate_bps", type=Rate(), help="50Mbit, 2.5Gbit/s; none is no limit.")
@click.option("--loss", "loss_ppm", type=Share(), help="Packets lost: 1%, 500ppm.")
@click.option("--loss-burst", "burst", type=click.IntRange(1), help="Packets lost in a row, on average; 1: by itself.")
@FORCE
@JSON_OPTION
def set_link(
    bench: Bench, name: str, direction: str, burst: int | None, force: bool, as_json: bool, **named: int | None
) -> None:
    """Change a link; what is not named stays as it is."""
    changes: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if not changes and burst is None:
        raise ConfigurationError("nothing to change", remedy="give --delay, --jitter, --rate, --loss or --loss-burst")
    now = _status(bench.links, name)
    states: dict[str, LinkState] = {
        key: _changed(getattr(now, key).commanded, changes, burst)
        for key in ("a_to_b", "b_to_a")
        if direction in ("both", key)
    }
    _claim(bench, [name], "set", force=force)
    bench.links.set(name, **states)
    if as_json:
        print_json({"link": name, **{key: asdict(state) for key, state in states.items()}})
        return
    for key, state in states.items():
        click.echo(f"{name} {key}: {_in_words(state)}")


def _changed(state: LinkState, changes: Mapping[str, Any], burst: int | None) -> LinkState:
    """Return a direction's state with changes; the mean burst stays where only the loss changes."""
    from hil.links.state import PPM, GilbertElliott

    if burst is None and "loss_ppm" not in changes:
        return replace(state, **changes)
    loss_ppm = changes.get("loss_ppm", state.mean_loss_ppm)
    packets = burst or (round(PPM / state.gemodel.r_ppm) if state.gemodel else 1)
    if burst and burst > 1 and not loss_ppm:
        raise ConfigurationError("bursts of no loss", remedy="give --loss too, such as --loss 1%")
    bursty = GilbertElliott.bursty(loss_ppm, packets) if packets > 1 and 0 < loss_ppm < PPM else None
    return replace(state, **{**changes, "loss_ppm": 0 if bursty else loss_ppm, "gemodel": bursty})


def _delay_words(state: LinkState) -> str:
    return delay(state.delay_us) + (f" ± {delay(state.jitter_us)}" if state.jitter_us else "")


def _burst_words(state: LinkState) -> str:
    from hil.links.calibration.loss import mean_burst

    return f" in bursts of {mean_burst(state.gemodel):.3g} packets" if state.gemodel else ""


def _in_words(state: LinkState) -> str:
    words = f"{_delay_words(state)}, {rate(state.rate_bps)}"
    if state.mean_loss_ppm:
        words += f", {state.mean_loss_ppm / 10_000:.3g} % lost"
    return words + _burst_words(state)


def _claim(bench: Bench, names: Iterable[str], what: str, *, force: bool) -> None:
    """Raise LeaseTaken when a board at either end of one of the links is somebody else's."""
    names = list(names)
    ends = {end for name in names if name in bench.links.links for end in bench.lab.link(name).between}
    boards = [board.name for craft in bench.lab.spacecraft if craft.name in ends for board in craft.boards]
    about = names[0] if len(names) == 1 else ""
    shown = about or plural(len(names), "link")
    claim(bench, boards, f"{shown}: {what}", force=force, verb="link", about=about)


def _status(links: LinkBox, name: str) -> LinkStatus:
    for status in links.show():
        if status.name == name:
            return status
    raise ConfigurationError(f"no link {name}", remedy=f"links: {', '.join(links.links)}")


@link.command()
@LINK_ARGUMENT
@on_bench
@FORCE
@JSON_OPTION
def cut(bench: Bench, name: str, force: bool, as_json: bool) -> None:
    """Cut a link in both directions; what is in flight still arrives, as light would."""
    _claim(bench, [name], "cut", force=force)
    bench.links.cut(name)
    print_result(as_json, {"link": name, "state": "cut"}, f"{name}: cut")


@link.command()
@LINK_ARGUMENT
@on_bench
@FORCE
@JSON_OPTION
def restore(bench: Bench, name: str, force: bool, as_json: bool) -> None:
    """Restore a link as it was before the cut."""
    _claim(bench, [name], "restore", force=force)
    bench.links.restore(name)
    print_result(as_json, {"link": name, "state": "restored"}, f"{name}: restored")


@link.command()
@click.argument("names", nargs=-1, metavar="[LINK]...", shell_complete=link_names)
@on_bench
@FORCE
@JSON_OPTION
def reset(bench: Bench, names: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Put links back as the lab file has them: cuts, delay, rate and loss. All links unless some are named."""
    for name in names:
        _status(bench.links, name)
    _claim(bench, names or bench.links.links, "reset", force=force)
    differs = bench.links.differences()
    wanted = [name for name in names or bench.links.links if name in differs]
    for name in wanted:
        bench.links.reset(name)
        if not as_json:
            click.echo(f"{name}: put back; it was: {differs[name]}")
    if as_json:
        print_json({"put_back": {name: differs[name] for name in wanted}})
    elif not wanted:
        click.echo("links are as the lab file has them")


@link.command(cls=RenamedOptions, renamed={"--interval-ms": ("--interval", "{}ms")})
@LINK_ARGUMENT
@on_bench
@click.option("-n", "count", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Probes each way.")
@duration_option("--interval", "Between probes.", default="10ms")
@JSON_OPTION
def probe(bench: Bench, name: str, count: int, interval_s: float, as_json: bool) -> int:
    """Send small packets over a link, both ways, and time them one way. Exit code 3 when none arrives."""
    if not 0.001 <= interval_s <= 1:
        raise click.BadParameter("the interval must be 1 ms to 1 s")
    from hil.links.calibration.calibrate import percentile
    from hil.links.calibration.probe import Probe, collect, pace, warm_up

    status = _status(bench.links, name)
    with Probe(status, "a_to_b") as there, Probe(status, "b_to_a") as back:
        probes = [there, back]
        warm_up(probes, deadline_s=1.0)
        pace(probes, count=count, interval_s=interval_s)
        quiet_s = 0.3 + max(p.commanded.delay_us for p in (status.a_to_b, status.b_to_a)) / 1e6
        probed = [(p, collect(p, expected=count, quiet_s=quiet_s)) for p in probes]
    documents: list[dict[str, Any]] = []
    rows: list[tuple[object, ...]] = []
    for one, arrivals in probed:
        direction = one.name[1]
        commanded_us = getattr(status, direction).commanded.delay_us
        delays = [a.delay_ns / 1000 for a in arrivals]
        shares = {f"p{p}_us": percentile(delays, p / 100) if delays else None for p in (0, 50, 95)}
        documents.append(
            {"link": name, "direction": direction, "sent": count, "arrived": len(delays)}
            | {"commanded_us": commanded_us, **shares}
        )
        measured = ("-" if us is None else delay(us) for us in shares.values())
        rows.append((direction, count, len(delays), delay(commanded_us), *measured))
    if as_json:
        print_json(documents)
    else:
        print_table(["direction", "sent", "arrived", "commanded", "least", "median", "95 %"], rows)
    return 0 if all(document["arrived"] for document in documents) else 3


@link.command(cls=RenamedOptions, renamed={"--page": ("--output", "{}")})
@click.argument("names", nargs=-1, metavar="[LINK]...", shell_complete=link_names)
@on_bench
@click.option("--no-outage", is_flag=True, help="Do not cut the links for the outage figures.")
@duration_option(
    "--sustained", "Each direction must carry its rate so long, UDP and TCP (default: a moment).", least_s=1
)
@click.option(
    "-o",
    "--output",
    type=OutputFile(),
    help="File for the page with the plots.  [default: reports/out/calibration-BENCH.html]",
)
@FORCE
@JSON_OPTION
def calibrate(
    bench: Bench,
    names: tuple[str, ...],
    no_outage: bool,
    sustained_s: float | None,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> int:
    """Measure delay, jitter, rate, loss and outages of links on real packets, and write a page with plots.

    All links unless some are named.  Compensates the engine's own delay.  Exit code 3 when something is outside
    its tolerance.
    """
    from hil.evidence.record import jsonable
    from hil.links.calibration.calibrate import calibrate as measure
    from hil.report.calibration.page import calibration_page

    _claim(bench, names or bench.links.links, "calibrate", force=force)
    with Progress() as progress:
        progress.begin("calibration")
        rows = measure(
            bench.links, links=names or None, outage=not no_outage, sustained_s=sustained_s, progress=progress.say
        )
    if output is None:
        output = paths.reports_out() / f"calibration-{bench.name}.html"
        output.parent.mkdir(parents=True, exist_ok=True)
    write_output(output, calibration_page(rows, bench=bench.name, facts=facts_of(bench.links)))
    if as_json:
        print_json([jsonable(r) for r in rows])
    else:
        print_table(*summary(rows), empty="no link was measured")
        for r in rows:
            if not r.ok or r.quantity == "state":
                click.echo(f"{'' if r.ok else 'OUTSIDE: '}{r}")
    click.echo(f"plots and all figures: {output}", err=as_json)
    return 0 if all(r.ok for r in rows) else 3


def summary(rows: Sequence[LinkFigure]) -> tuple[list[str], list[tuple[object, ...]]]:
    """Columns, and one line per direction: what was commanded, and how far the measured is from it."""
    directions: dict[tuple[str, str], dict[str, LinkFigure]] = {}
    for row in rows:
        if row.quantity != "state":
            directions.setdefault((row.link, row.direction), {})[row.quantity] = row
    lines: list[tuple[object, ...]] = []
    for (name, direction), found in directions.items():
        ms = partial(_error, found, divisor=1000, form="{:+.3f} ms")
        percent = partial(_error, found, divisor=None)
        p50, speed, lost = found.get("delay_p50"), found.get("rate"), found.get("loss")
        lines.append(
            (
                name,
                direction,
                delay(p50.commanded) if p50 else "-",
                ms("delay_p50"),
                ms("delay_p95"),
                rate(int(speed.commanded)) if speed else "no limit",
                percent("rate", form="{:+.2f} %"),
                percent("rate_sustained", form="{:+.1f} %"),
                f"{lost.measured:.0f} of {lost.commanded:.0f} ppm" if lost and lost.measured is not None else "-",
                ms("outage_length"),
                _error(found, "restore_effect_p99", divisor=1000, form="{:.1f} ms"),
                "ok" if all(row.ok for row in found.values()) else "OUTSIDE",
            )
        )
    columns = [
        "link",
        "direction",
        "one way",
        "error",
        "95 %",
        "rate",
        "error",
        "sustained",
        "loss",
        "outage",
        "takes effect",
        "",
    ]
    return columns, lines


def _error(found: dict[str, LinkFigure], quantity: str, *, divisor: float | None, form: str) -> str:
    """Return how far a figure is from its command, in units of ``divisor``; None: in per cent of the command."""
    row = found.get(quantity)
    if row is None or row.measured is None:
        return "-"
    return form.format((row.measured - row.commanded) / (divisor or row.commanded / 100 or 1))


def facts_of(links: LinkBox) -> list[tuple[str, str]]:
    """What the page says about where and when it was measured."""
    from datetime import UTC, datetime

    from hil.evidence.environment import host_facts

    host = host_facts()
    return [
        ("Date", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("Link engine", f"{links.engine} ({links.engine_reason})"),
        ("Shaping kernel", links.kernel_release),
        ("Profile", links.profile),
        ("Links", str(len(links.links))),
        ("Host", f"{host['os']}, kernel {host['kernel']}, {host['machine']}"),
        ("Machine", f"{host['cpus']} processors, {host['memory_mib']} MiB"),
        ("Testbed", f"{host['hil_version']}, commit {host['git']['commit'] or 'unknown'}"),
    ]
