"""How a real board gets its power: the ``supervisor`` section of a board in a lab file.

What stands below ``power``, ``recovery_pin`` and ``reset_pin`` is the model of one of the installed kinds of outlets
(:class:`hil.boards.power.kinds.OutletKind`).  Secrets never stand in a lab file: a password is ``env:NAME`` (an
environment variable) or ``file:PATH`` (a file that holds it), read when it is needed.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from hil.core import kinds
from hil.lab.unions import OneOfKinds
from hil.lab.yamlfile import Strict

_ADDRESS = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})(?::(\d{1,5}))?")
SECRET = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+")


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """Split ``192.0.2.10`` or ``192.0.2.10:8080``; ValueError for anything else."""
    match = _ADDRESS.fullmatch(text)
    if not match or any(int(part) > 255 for part in match[1].split(".")) or int(match[2] or 1) not in range(1, 65536):
        # No host names: a name server that does not answer must not hold up a power cut.
        raise ValueError("is an IPv4 address, with a port if it is not the usual one: 192.0.2.10 or 192.0.2.10:8080")
    return match[1], int(match[2] or default_port)


def _address(text: str) -> str:
    split_address(text, 1)
    return text


def _secret(text: object) -> object:
    if not isinstance(text, str) or not SECRET.fullmatch(text):
        # What was written is not repeated: it may be the password itself.
        raise ValueError("is not written into a lab file: give env:NAME or file:/absolute/path")
    return text


Address = Annotated[str, AfterValidator(_address), Field(description="IPv4 address, or address:port")]
Secret = Annotated[str, BeforeValidator(_secret), Field(description="env:NAME or file:/absolute/path")]
Device = Annotated[str, StringConstraints(pattern=r"^/\S+$"), Field(description="/dev/serial/by-path/...")]
Outlet = Annotated[int, Field(ge=0, le=512, description="as the strip counts: Shelly from 0, the others from 1")]
RequestS = Annotated[float, Field(gt=0, le=60, description="seconds for one request to the strip")]


class OutletSpec(Strict):
    """What switches a board's power, or pulls one of its pins; each kind adds its own keys."""

    kind: str


class StripSpec(OutletSpec):
    """One outlet of a strip with an address."""

    address: Address
    outlet: Outlet
    request_timeout_s: RequestS = 3.0


_SWITCH = OneOfKinds(kinds.OUTLETS, "kind", allowed=lambda kind: kind.outlet is not None)
_PIN = OneOfKinds(kinds.OUTLETS, "kind", allowed=lambda kind: kind.reset is not None)


class SupervisorSpec(Strict):
    """What stands beside the module, outside its Linux."""

    power: Annotated[OutletSpec, _SWITCH] = Field(description="what switches the board's power")
    recovery_pin: Annotated[OutletSpec, _PIN] | None = Field(default=None, description="FC_REC of the module")
    reset_pin: Annotated[OutletSpec, _PIN] | None = Field(default=None, description="SYS_RESET of the module")
    min_off_s: float = Field(default=3.0, ge=0, le=120, description="seconds without power in a power cycle")
    confirm_within_s: float = Field(
        default=10.0, gt=0, le=120, description="seconds until the switch must say that it did what it was told"
    )
