"""`hil lab`: check and show lab files, and write a first one."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.lab.reference import reference
from hil.cli.output import (
    JSON_OPTION,
    OutputFile,
    delay,
    note,
    plural,
    print_json,
    print_rows,
    print_table,
    rate,
    say,
    write_output,
)
from hil.core import paths
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.host.discover.devices import Found
    from hil.lab.model import BoardSpec, Lab
    from hil.rollout.updaters.kinds import UpdaterKind

LAB_FILE = click.Path(path_type=Path)


@click.group()
def lab() -> None:
    """Check and show lab files, and write a first one."""


lab.add_command(reference)


@lab.command()
@click.argument("files", nargs=-1, required=True, type=LAB_FILE)
@JSON_OPTION
def validate(files: tuple[Path, ...], as_json: bool) -> int:
    """Check lab files; print each fault with file, line, key and the allowed values. Exit code 2 for a fault."""
    from hil.cli.app import error_document, show_error
    from hil.lab.model import load_lab

    rows: list[dict[str, Any]] = []
    for file in files:
        try:
            loaded = load_lab(file)
            _check_files_named_in(loaded)
        except ConfigurationError as exc:
            if not as_json:
                show_error(exc)
            rows.append({"file": str(file), "valid": False, **error_document(exc)})
            continue
        counts = {"spacecraft": len(loaded.spacecraft), "boards": len(loaded.boards), "links": len(loaded.links)}
        counts |= {"tenants": len(loaded.tenants)} if loaded.tenants else {}
        counts |= {"guests": len(loaded.guests)} if loaded.guests else {}
        rows.append({"file": str(file), "valid": True, **counts})
        if not as_json:
            what = ", ".join(f"{n} {name}" for name, n in counts.items())
            click.echo(f"{file}: valid: {what}; {_kinds(loaded)}")
    if as_json:
        print_json(rows)
    return 0 if all(row["valid"] for row in rows) else 2


def _kinds(loaded: Lab) -> str:
    """Return the number of boards of each kind, such as ``6 container``."""
    kinds = Counter("real" if not b.contained else "stand-in" if b.stand_in else b.driver for b in loaded.boards)
    return ", ".join(f"{n} {kind}" for kind, n in kinds.items())


def _check_files_named_in(loaded: Lab) -> None:
    """Raise ConfigurationError for a fault of the orbit file or of the OS adapter's declaration."""
    if loaded.orbit:
        from hil.bench.orbit_clock import constellation_of

        constellation_of(loaded)
    from hil.core import kinds

    updater: UpdaterKind[Any] = kinds.load(kinds.UPDATERS, loaded.os.adapter)
    updater.check(loaded.os, loaded.file.parent)


@lab.command()
@click.argument("file", type=LAB_FILE)
@JSON_OPTION
def show(file: Path, as_json: bool) -> None:
    """Show the boards, links and addresses of a lab file."""
    from hil.lab.addressing import board_addresses, guest_address, node_address
    from hil.lab.model import load_lab

    loaded = load_lab(file)
    addresses = board_addresses(loaded)
    if as_json:
        document: dict[str, Any] = loaded.model_dump(mode="json", by_alias=True)
        document["addresses"] = {
            name: {"flight": a.flight, "management": a.management} for name, a in addresses.items()
        }
        print_json(document)
        return

    def named(board: BoardSpec) -> bool:
        return board.orin or "module" in board.model_fields_set

    click.echo(f"{loaded.name}: {loaded.description}".rstrip(": "))
    click.echo()
    print_rows(
        loaded.boards,
        {
            "board": lambda b: b.name,
            "spacecraft": lambda b: loaded.spacecraft_of(b.name).name,
            "module": lambda b: b.module if named(b) else "-",
            "model": lambda b: b.model if named(b) else "-",
            "driver": lambda b: f"{b.driver}, stand-in" if b.stand_in else b.driver,
            "fidelity": lambda b: b.fidelity,
            "flight address": lambda b: addresses[b.name].flight,
            "role": lambda b: "gateway" if b.name == loaded.gateway else "",
            **({"tenant": lambda b: _tenant(loaded, b.name)} if loaded.tenants else {}),
        },
    )
    click.echo()
    print_rows(
        loaded.links,
        {
            "link": lambda x: x.name,
            "kind": lambda x: x.kind,
            "between": lambda x: " – ".join(x.between),
            "one way": lambda x: "by orbit" if (us := x.one_way_delay_us) is None else delay(us),
            "rate": lambda x: (
                rate(x.rate_bps) + (f" (flight: {rate(x.nominal_rate_bps or 0)})" if x.rate_scaled else "")
            ),
            "loss": lambda x: f"{x.loss_ppm} ppm",
            "in flight": lambda x: "" if (us := x.one_way_delay_us) is None else f"{x.rate_bps * us // 8_000_000} B",
            "source": lambda x: x.source,
        },
    )
    if loaded.tenants:
        click.echo()
        print_rows(
            loaded.tenants,
            {
                "tenant": lambda t: t.name,
                "boards": lambda t: " ".join(t.boards),
                "shares": lambda t: ", ".join(f"{link} {percent} %" for link, percent in t.shares.items()) or "-",
                "quotas": lambda t: (
                    ", ".join(f"{name} {value:,}" for name, value in t.quotas.model_dump(exclude_none=True).items())
                    or "-"
                ),
            },
        )
    if loaded.guests:
        click.echo()
        print_rows(
            loaded.guests,
            {
                "guest": lambda g: g.name,
                "served by": lambda g: g.served_by or loaded.gateway,
                "machine": lambda g: g.nic or "container",
                "address": lambda g: guest_address(loaded, g.name),
                "router": lambda g: node_address(loaded, g.name),
            },
        )


def _tenant(loaded: Lab, board: str) -> str:
    tenant = loaded.tenant_of(board)
    return tenant.name if tenant else "-"


_NOTHING = """\
Nothing was found that looks like a board. What to plug in:
  power and network   the Orin's management port, in a network of this host; ping it once, then it is a neighbour
  console             its serial adapter (AGX developer kit: micro-USB; NX and Nano kits: header J14, pins 3 and 4)
  recovery            a cable from its USB device port to this host, then hold FC_REC while you press reset\
"""


@lab.command()
@click.option("-o", "--output", type=OutputFile(), help="Write a first lab file, to be edited.")
@click.option("--force", is_flag=True, help="Overwrite that file.")
@click.option("--network", metavar="IFACE", help="Only neighbours on this network interface.")
@click.option("--hubs", is_flag=True, help="Find also USB hubs that can switch their ports (uhubctl).")
@click.option("--root", type=click.Path(path_type=Path, file_okay=False), default=Path("/"), hidden=True)
@JSON_OPTION
def discover(output: Path | None, force: bool, network: str | None, hubs: bool, root: Path, as_json: bool) -> None:
    """Find boards that are plugged into this host, and write a first lab file from them.

    Serial adapters, Jetsons on USB (in recovery or running), neighbours that look like Jetsons, GPIO chips. It only
    reads the lists of the kernel, of udev and of DHCP servers on this host: no packet is sent, no device is opened.
    So a board in the network is found once this host has exchanged packets with it, or gave it its address.
    """
    from dataclasses import asdict

    from hil.boards.jetson.flash.recovery import meaning
    from hil.host.discover.devices import discover as look

    if output and output.exists() and not force:
        raise ConfigurationError(f"{output} is there already", remedy="another name, or --force to overwrite it")
    findings = look(root, network=network, hubs=hubs)
    if as_json:
        document = asdict(findings)
        document["serial"] = [asdict(a) | {"url": a.url, "what": a.what} for a in findings.serial]
        document["usb"] = [asdict(d) | {"what": meaning(d.usb_id)} for d in findings.usb]
        print_json(document)
    else:
        _print_found(findings)
    if output:
        from hil.host.discover.lab_draft import drafts, lab_file

        if not findings.any_board:
            raise ConfigurationError(
                f"{output} was not written: no board was found to put into it",
                remedy="plug a board in (see above), or begin with lab/mixed.yaml",
            )
        write_output(output, lab_file(findings))
        boards = plural(len(drafts(findings)), "board")
        say(f"{output}: {boards}; `hil lab validate {output}` lists the keys to fill in")


def _print_found(findings: Found) -> None:
    from hil.boards.jetson.flash.recovery import meaning
    from hil.text import one_line

    tables: list[tuple[list[str], list[tuple[object, ...]]]] = [
        (
            ["serial adapter", "USB port", "USB id", "serial number", "what"],
            [(a.url, a.usb_port or "-", a.usb_id or "-", a.serial or "-", a.what) for a in findings.serial],
        ),
        (
            ["NVIDIA on USB port", "USB id", "serial number", "what"],
            [(d.port, d.usb_id, one_line(d.serial) or "-", meaning(d.usb_id)) for d in findings.usb],
        ),
        (
            ["neighbour", "MAC", "interface", "name", "why"],
            [(n.address, n.mac, n.interface or "-", n.name or "-", n.why) for n in findings.neighbours],
        ),
        (
            ["GPIO chip", "label", "lines"],
            [(c.name, c.label or "-", "-" if c.lines is None else c.lines) for c in findings.gpio],
        ),
        (
            ["USB hub", "what", "ports that switch"],
            [(h.place, h.what, " ".join(map(str, h.ports))) for h in findings.hubs],
        ),
    ]
    for columns, rows in tables:
        if rows:
            print_table(columns, rows)
            click.echo()
    if not findings.any_board:
        click.echo(_NOTHING)
    if findings.other_neighbours:
        note(f"neighbours that do not look like Jetsons: {findings.other_neighbours}")
    for problem in findings.problems:
        note(problem)


@lab.command()
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path, file_okay=False), default=Path())
@JSON_OPTION
def init(directory: Path, as_json: bool) -> None:
    """Write a repository to start from: a lab file, a plan, first tests, a README.

    DIR is the working directory unless given. No file is overwritten.
    """
    starter = paths.shipped("examples") / "customer"
    files = [path for path in sorted(starter.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    targets = [directory / path.relative_to(starter) for path in files]
    if present := [str(target) for target in targets if target.exists()]:
        raise ConfigurationError(
            f"these files are there already: {', '.join(present)}", remedy="name a directory without them"
        )
    for path, target in zip(files, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    if as_json:
        print_json([str(target) for target in targets])
        return
    for target in targets:
        click.echo(target)
    say("next: see README.md there, then `hil campaign run plans/first_contact --lab lab/first.yaml`")
