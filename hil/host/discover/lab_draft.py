"""A first lab file out of what :mod:`hil.host.discover.devices` saw.

A value is written only where there is just one that it can be; any other is ``""`` with a comment that says where to
find it.  ``""`` is valid nowhere there, so `hil lab validate` names exactly what is left.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from hil.boards.jetson.flash.recovery import RCM_IDS, UsbDevice
from hil.boards.jetson.modules import SKUS
from hil.host.discover.devices import Found, SerialAdapter
from hil.host.discover.neighbours import Neighbour
from hil.lab.model import MAX_BOARDS_PER_SPACECRAFT
from hil.text import one_line

T = TypeVar("T")

TEMPLATE = Path(__file__).with_name("lab_draft.yaml.j2")


@dataclass(frozen=True)
class Draft:
    """What is certain of one board; None where it is one of several, or was not seen."""

    name: str
    host: Neighbour | None
    module: UsbDevice | None
    console: SerialAdapter | None

    @property
    def skus(self) -> tuple[str, ...]:
        """Modules that it may be, by its USB identity in recovery; empty where nothing tells."""
        return tuple(RCM_IDS.get(self.module.usb_id, ())) if self.module else ()


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
    import jinja2

    boards = drafts(found)
    size = MAX_BOARDS_PER_SPACECRAFT
    groups = [boards[start : start + size] for start in range(0, len(boards), size)]
    names = [f"sc-{chr(ord('a') + n)}" for n in range(len(groups))]
    template = jinja2.Template(
        TEMPLATE.read_text("utf-8"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return str(
        template.render(
            found=found,
            spacecraft=list(zip(names, groups, strict=True)),
            neighbours=list(pairwise(names)),
            modules=SKUS,
            json=json.dumps,
            plain=one_line,
        )
    )
