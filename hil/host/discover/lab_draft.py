"""A first lab file out of what :mod:`hil.host.discover.devices` saw.

A value is written only where there is just one that it can be; any other is ``""`` with a comment that says where to
find it.  ``""`` is valid nowhere there, so `hil lab validate` names exactly what is left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from hil.boards.jetson.flash.recovery import RCM_IDS, UsbDevice
from hil.boards.jetson.modules import SKUS
from hil.core.sysfs import plain
from hil.host.discover.devices import Found, SerialAdapter
from hil.host.discover.neighbours import Neighbour
from hil.lab.model import MAX_BOARDS_PER_SPACECRAFT

T = TypeVar("T")

_HEAD = """\
# A first lab file, written by `hil lab discover`: edit it, then check it with `hil lab validate`, which names every
# value that is still "", and with `hil doctor --lab`, which asks strips and boards and switches nothing.
# What is filled in was seen; compare it with the labels on your boards all the same. docs/jetson.md walks through one
# board, docs/power.md lists all power switches. Units are in the key names.
schema: 1
name: bench                    # yours: lower case letters, digits and hyphens, at most 13
description: ""

ground_station: {name: gs-1}
gateway: b1                    # the board that receives from the ground

spacecraft:
"""

_POWER = (
    "          supervisor:",
    "            # What switches its power. Switch it once by hand and look which board goes dark. One of:",
    "            #   power: {kind: shelly-gen2, address: 192.0.2.20, outlet: 0}",
    "            #   power: {kind: tasmota, address: 192.0.2.20, outlet: 1}",
    "            #   power: {kind: snmp, model: apc-rpdu2, address: 192.0.2.20, outlet: 1, community: env:STRIP}",
    "            #   power: {kind: microcontroller, port: /dev/serial/by-path/...}",
    "            #   power: {kind: command, turn_on: [...], turn_off: [...], state: [...], ...}",
)

_LINKS = """\
links:
  - name: ground
    kind: ground
    between: [gs-1, sc-a]
    one_way_delay_us: 4000     # about 1,200 km
    rate_bps: 100000000
    source: "assumed"
"""

_CROSSLINK = """\
  - name: isl-{number}
    kind: crosslink
    between: [{a}, {b}]
    one_way_delay_us: 14386    # neighbours in a ring of ten at 600 km
    rate_bps: 200000000
    source: "assumed"
"""

_SECOND_CRAFT = """\
  # Crosslinks join spacecraft: move boards to a second one, and put a link between them.
  # - {name: isl-ab, kind: crosslink, between: [sc-a, sc-b], one_way_delay_us: 14386, rate_bps: 200000000}
"""


@dataclass(frozen=True)
class Draft:
    """What is certain of one board; None where it is one of several, or was not seen."""

    name: str
    host: Neighbour | None
    module: UsbDevice | None
    console: SerialAdapter | None


def drafts(found: Found) -> tuple[Draft, ...]:
    """Return one for each board there seems to be, at least one.

    As many as there are neighbours or modules on USB, whichever are more; serial adapters count only where there is
    neither.  One kind of trace tells the boards apart; of another kind nobody can tell from here which is whose,
    unless there is one board and one trace.
    """
    hosts, modules, consoles = found.neighbours, found.modules, found.consoles
    count = max(len(hosts), len(modules)) or len(consoles) or 1
    apart = next((kind for kind in (hosts, modules, consoles) if len(kind) == count), None)

    def its(kind: Sequence[T], number: int) -> T | None:
        return kind[number] if len(kind) == count and (kind is apart or count == 1) else None

    return tuple(Draft(f"b{n + 1}", its(hosts, n), its(modules, n), its(consoles, n)) for n in range(count))


def lab_file(found: Found) -> str:
    """Return the text of the lab file."""
    boards = drafts(found)
    size = MAX_BOARDS_PER_SPACECRAFT
    groups = [boards[start : start + size] for start in range(0, len(boards), size)]
    names = [f"sc-{chr(ord('a') + n)}" for n in range(len(groups))]
    text = _HEAD
    for name, group in zip(names, groups, strict=True):
        text += f"  - name: {name}\n    boards:\n" + "".join(_board(each, found) for each in group)
    crosslinks = (_CROSSLINK.format(number=n, a=a, b=b) for n, (a, b) in enumerate(pairwise(names), 1))
    return f"{text}\n{_LINKS}{''.join(crosslinks)}{_SECOND_CRAFT if len(names) == 1 else ''}"


def _board(draft: Draft, found: Found) -> str:
    host = draft.host.address if draft.host else "ADDRESS"
    lines = [
        f"      - name: {draft.name}",
        "        driver: jetson",
        *_module(draft, found),
        '        # serial: ""           # so that a swapped board is noticed. On the board:',
        "        #                        tr -d '\\0' </proc/device-tree/serial-number",
        "        jetson:",
        "          ssh:",
        *_address(draft, found),
        "            user: root           # anybody else needs sudo without a password",
        '            key_file: ""         # private key that lets you in, ~/.ssh/...; or agent: true in its place',
        f'            host_key: ""         # ssh-keyscan -t ed25519 {host}: all after the address; compare it',
        "            #                      with /etc/ssh/ssh_host_ed25519_key.pub, read on the console",
        *_console(draft, found),
        *_POWER,
        *(
            f"            #   power: {{kind: uhubctl, hub: {hub.place}, outlet: {port}}}"
            for hub in found.hubs
            for port in hub.ports
        ),
        '            power: {kind: ""}',
    ]
    if found.gpio:
        chips = ", ".join(f"{chip.name} {chip.label}".strip() for chip in found.gpio)
        lines += [
            "            # FC_REC and SYS_RESET of its header, where they are wired to this host; chips: "
            + chips,
            "            # recovery_pin: {kind: gpio, chip: gpiochip0, line: 0}",
            "            # reset_pin: {kind: gpio, chip: gpiochip0, line: 1}",
        ]
    lines += [
        *_recovery(draft, found),
        '          # flight: {nic: ""}      # NIC or VLAN of this host that is cabled to its flight port: `ip link`',
    ]
    return "\n".join(lines) + "\n"


def _module(draft: Draft, found: Found) -> list[str]:
    parts = RCM_IDS.get(draft.module.usb_id, ()) if draft.module else ()
    if draft.module and len(parts) == 1:
        where = f"in recovery on USB port {draft.module.port}"
        return [f"        module: {parts[0]}     # {SKUS[parts[0]].name}, {where}"]
    lines = [
        '        module: ""             # on its label, or: tr "\\0" "\\n" </proc/device-tree/compatible'
    ]
    return [*lines, f"        #                        one of {', '.join(parts or sorted(SKUS))}"]


def _address(draft: Draft, found: Found) -> list[str]:
    if seen := draft.host:
        where = f"on {seen.interface}" if seen.interface else "from a DHCP lease"
        named = f", {seen.name!r}" if seen.name else ""
        return [f"            address: {seen.address}   # {seen.mac} {where}{named}: {seen.why}"]
    lines = ['            address: ""          # of its management port: `ip -4 address` on its console']
    return lines + [f"            #   seen: {n.address}  {n.mac} {n.name}".rstrip() for n in found.neighbours]


def _console(draft: Draft, found: Found) -> list[str]:
    if only := draft.console:
        return [f"          console: {{url: {json.dumps(only.url)}}}   # {only.what}"]
    lines = [
        '          console: {url: ""}     # its serial adapter: power the board on and look which one speaks;',
        "          #                        or rfc2217://host:port, socket://host:port",
    ]
    return lines + [f"          #   seen: {adapter.url}  {adapter.what}" for adapter in found.consoles]


def _recovery(draft: Draft, found: Found) -> list[str]:
    if only := draft.module:
        return [f"          recovery: {{usb_path: {only.port}}}   # {plain(only.describe())}"]
    lines = ['          # recovery: {usb_path: ""}   # put it into recovery and run `hil lab discover` again']
    return lines + [f"          #   seen: {d.port}  {plain(d.describe())}" for d in found.modules]
