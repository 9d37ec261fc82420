"""`hil lab`: check and show lab files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.output import JSON_OPTION, delay, print_json, print_table, rate

if TYPE_CHECKING:
    from hil.lab.model import Lab, LinkSpec

LAB_FILE = click.Path(path_type=Path)


@click.group()
def lab() -> None:
    """Check and show lab files.

    \b
    Examples:
      hil lab validate lab/*.yaml
      hil lab show lab/virtual.yaml
    """


@lab.command()
@click.argument("files", nargs=-1, required=True, type=LAB_FILE)
def validate(files: tuple[Path, ...]) -> int:
    """Check lab files; every fault is named with file, line, key and what is allowed."""
    from hil.cli.app import show_error
    from hil.errors import ConfigurationError
    from hil.lab.model import load_lab

    wrong = 0
    for file in files:
        try:
            found = load_lab(file)
            _check_files_named_in(found, file)
        except ConfigurationError as exc:
            show_error(exc)
            wrong += 1
        else:
            click.echo(
                f"{file}: valid: {len(found.spacecraft)} spacecraft, {len(found.boards)} boards, "
                f"{len(found.links)} links"
            )
    return 2 if wrong else 0


def _check_files_named_in(found: Lab, file: Path) -> None:
    """ConfigurationError for a fault of the orbit file or of the OS adapter's declaration."""
    if found.orbit:
        from hil.bench.sky import constellation_of

        constellation_of(found, file)
    if found.os.file:
        from hil.rollout.declared_file import load_adapter

        load_adapter(file.parent / found.os.file)


@lab.command()
@click.argument("file", type=LAB_FILE)
@JSON_OPTION
def show(file: Path, as_json: bool) -> None:
    """What a lab file describes: nodes, links, addresses."""
    from hil.lab.addressing import board_addresses
    from hil.lab.model import load_lab

    found = load_lab(file)
    addresses = board_addresses(found)
    if as_json:
        document: dict[str, Any] = found.model_dump(mode="json", by_alias=True)
        document["addresses"] = {
            name: {"flight": a.flight, "management": a.management} for name, a in addresses.items()
        }
        print_json(document)
        return
    click.echo(f"{found.name}: {found.description}".rstrip(": "))
    click.echo()
    print_table(
        ["board", "spacecraft", "module", "model", "driver", "fidelity", "flight address", "role"],
        [
            (
                b.name,
                found.spacecraft_of(b.name).name,
                b.module,
                b.model,
                f"{b.driver}, stand-in" if b.jetson and b.jetson.stand_in else b.driver,
                b.fidelity,
                addresses[b.name].flight,
                "gateway" if b.name == found.gateway else "",
            )
            for b in found.boards
        ],
    )
    click.echo()
    print_table(
        ["link", "kind", "between", "one way", "rate", "loss", "in flight", "source"],
        [_link_row(found, link) for link in found.links],
    )


def _link_row(found: Lab, link: LinkSpec) -> tuple[object, ...]:
    scaled = f" (flight: {rate(link.nominal_rate_bps or 0)})" if link.rate_scaled else ""
    fixed_us = link.one_way_delay_us
    return (
        link.name,
        link.kind,
        " – ".join(link.between),
        delay(fixed_us) if fixed_us is not None else "by orbit",
        rate(link.rate_bps) + scaled,
        f"{link.loss_ppm} ppm",
        f"{link.rate_bps * fixed_us // 8_000_000} B" if fixed_us is not None else "",
        link.source,
    )
