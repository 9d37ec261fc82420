"""How a real board gets its power: the ``supervisor`` section of a board in a lab file.

Secrets never stand in a lab file: a password is ``env:NAME`` (an environment variable) or ``file:PATH`` (a file that
holds it), read when it is needed.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from hil.lab.yamlfile import Strict

SNMP_MODELS = ("apc", "apc-rpdu", "apc-rpdu2", "eaton-epdu", "raritan-px", "cyberpower", "poe-switch")
"""Strips whose objects ``hil.boards.power.snmp`` knows."""

_ADDRESS = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3})(?::(\d{1,5}))?")
_SECRET = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/.+")


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """``192.0.2.10`` or ``192.0.2.10:8080``; ValueError for anything else."""
    match = _ADDRESS.fullmatch(text)
    if (
        not match
        or any(int(part) > 255 for part in match[1].split("."))
        or int(match[2] or 1) not in range(1, 65536)
    ):
        # No host names: a name server that does not answer must not hold up a power cut.
        raise ValueError(
            "is an IPv4 address, with a port if it is not the usual one: 192.0.2.10 or 192.0.2.10:8080"
        )
    return match[1], int(match[2] or default_port)


def _address(text: str) -> str:
    split_address(text, 1)
    return text


def _secret(text: str) -> str:
    if not _SECRET.fullmatch(text):
        # What was written is not repeated: it may be the password itself.
        raise ValueError("is not written into a lab file: give env:NAME or file:/absolute/path")
    return text


Address = Annotated[str, AfterValidator(_address), Field(description="IPv4 address, or address:port")]
Secret = Annotated[str, AfterValidator(_secret), Field(description="env:NAME or file:/absolute/path")]
Oid = Annotated[
    str,
    StringConstraints(pattern=r"^\d+(\.(\d+|\{outlet\}))+$"),
    Field(description="object identifier in numbers; {outlet} stands for the outlet"),
]
Device = Annotated[str, StringConstraints(pattern=r"^/\S+$"), Field(description="/dev/serial/by-path/...")]
Argv = Annotated[
    tuple[str, ...], Field(min_length=1, strict=False, description="command and arguments, no shell")
]
Outlet = Annotated[
    int, Field(ge=0, le=512, description="as the strip counts: Shelly from 0, the others from 1")
]
RequestS = Annotated[float, Field(gt=0, le=60, description="seconds for one request to the strip")]


class _Strip(Strict):
    address: Address
    outlet: Outlet
    request_timeout_s: RequestS = 3.0


class ShellyGen1Spec(_Strip):
    """A relay of a first-generation Shelly, over HTTP."""

    kind: Literal["shelly-gen1"]
    user: str = Field(default="admin", description="for HTTP basic authentication, when it has a password")
    password: Secret | None = None


class ShellyGen2Spec(_Strip):
    """A switch of a Shelly of the second generation or later (Plus, Pro, Gen3, Gen4); its user is always admin."""

    kind: Literal["shelly-gen2"]
    password: Secret | None = None


class TasmotaSpec(_Strip):
    """A relay of a device that runs Tasmota, over HTTP."""

    kind: Literal["tasmota"]
    outlet: Annotated[int, Field(ge=1, le=32, description="relay, from 1")] = 1
    user: str = Field(default="admin", description="with the password, when it has one")
    password: Secret | None = None


class SnmpObjectsSpec(Strict):
    """The objects of a strip that is not in the list of models."""

    on_oid: Oid
    on_value: int = Field(description="what is written to on_oid to turn the outlet on")
    off_oid: Oid
    off_value: int = Field(description="what is written to off_oid to turn it off")
    state_oid: Oid
    state_on: tuple[int, ...] = Field(
        min_length=1, strict=False, description="values of state_oid that mean on"
    )
    state_off: tuple[int, ...] = Field(
        min_length=1, strict=False, description="values of state_oid that mean off"
    )


class SnmpSpec(_Strip):
    """An outlet of a rack strip, or a port of a PoE switch, over SNMP.

    Give ``model`` or ``objects``. Versions 1 and 2c need ``community``, version 3 needs ``user``; ``privacy_key``
    needs ``auth_key``.
    """

    kind: Literal["snmp"]
    model: str | None = Field(default=None, description=f"one of {', '.join(SNMP_MODELS)}; or give objects")
    objects: SnmpObjectsSpec | None = None
    version: Literal["1", "2c", "3"] = Field(default="2c", description="of SNMP; in quotes: it is text")
    community: Secret | None = Field(default=None, description="versions 1 and 2c: one that may write")
    user: str = Field(default="", description="version 3: security name")
    auth_key: Secret | None = None
    auth_protocol: Literal["MD5", "SHA", "SHA256"] = Field(
        default="SHA", description="version 3, with auth_key"
    )
    privacy_key: Secret | None = None
    privacy_protocol: Literal["DES", "AES"] = Field(default="AES", description="version 3, with privacy_key")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.model is None) == (self.objects is None):
            raise ValueError("give either model or objects")
        if self.model is not None and self.model not in SNMP_MODELS:
            raise ValueError(
                f"model {self.model} is not known; models: {', '.join(SNMP_MODELS)}; or give objects"
            )
        if self.version == "3" and not self.user:
            raise ValueError("SNMP version 3 needs user")
        if self.version != "3" and self.community is None:
            raise ValueError(f"SNMP version {self.version} needs community, as env:NAME or file:PATH")
        if self.privacy_key and not self.auth_key:
            raise ValueError("privacy_key needs auth_key: SNMP has no privacy without authentication")
        return self


class UhubctlSpec(Strict):
    """A port of a USB hub that can switch its power."""

    kind: Literal["uhubctl"]
    hub: str = Field(pattern=r"^\d+(-\d+(\.\d+)*)?$", description="as uhubctl prints it, e.g. 1-1.4")
    outlet: Annotated[int, Field(ge=1, le=32, description="port of the hub")]
    request_timeout_s: RequestS = 5.0


class CommandSpec(Strict):
    """Whatever commands of this machine switch."""

    kind: Literal["command"]
    turn_on: Argv  # YAML reads a bare `on` as true
    turn_off: Argv
    state: Argv
    state_on: str = Field(description="regular expression found in what `state` prints when the outlet is on")
    state_off: str = Field(description="the same for off")
    request_timeout_s: RequestS = 10.0

    @model_validator(mode="after")
    def _patterns(self) -> Self:
        for pattern in (self.state_on, self.state_off):
            try:
                re.compile(pattern)
            except re.error as exc:
                raise ValueError(f"{pattern!r} is no regular expression: {exc}") from exc
        return self


class MicrocontrollerSpec(Strict):
    """A supervisor microcontroller that speaks the protocol of docs/power.md."""

    kind: Literal["microcontroller"]
    port: Device
    baud: int = Field(default=115_200, ge=1200, le=4_000_000, description="8N1")
    request_timeout_s: RequestS = 2.0


class GpioSpec(Strict):
    """A line of this host, through libgpiod."""

    kind: Literal["gpio"]
    chip: str = Field(pattern=r"^(gpiochip\d+|\d+|/dev/gpiochip\d+)$", description="as gpiodetect prints it")
    line: int = Field(ge=0, le=1023, description="number of the line on that chip (gpioinfo)")
    active: Literal["low", "high"] = Field(
        default="low", description="level that pulls the pin; high where a transistor or relay turns it round"
    )
    drive: Literal["open-drain", "push-pull"] = Field(
        default="open-drain", description="an Orin's pins are pulled up on the module: never drive them high"
    )


PowerSpec = Annotated[
    ShellyGen1Spec
    | ShellyGen2Spec
    | TasmotaSpec
    | SnmpSpec
    | UhubctlSpec
    | CommandSpec
    | MicrocontrollerSpec,
    Field(discriminator="kind"),
]
PinSpec = Annotated[GpioSpec | MicrocontrollerSpec, Field(discriminator="kind")]


class SupervisorSpec(Strict):
    """What stands beside the module, outside its Linux."""

    power: PowerSpec = Field(description="what switches the board's power")
    recovery_pin: PinSpec | None = Field(default=None, description="FC_REC of the module")
    reset_pin: PinSpec | None = Field(default=None, description="SYS_RESET of the module")
    min_off_s: float = Field(default=3.0, ge=0, le=120, description="seconds without power in a power cycle")
    confirm_within_s: float = Field(
        default=10.0,
        gt=0,
        le=120,
        description="seconds until the switch must say that it did what it was told",
    )
