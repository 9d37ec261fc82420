"""Parts of a real board's section in a lab file: how the testbed reaches it, and how long things may take."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from hil.lab.power import SupervisorSpec, split_address
from hil.lab.yamlfile import Strict

HOST_KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


def _host_key(text: str) -> str:
    kind, _, encoded = text.partition(" ")
    if kind not in HOST_KEY_TYPES:
        raise ValueError(
            f"is a public host key of type {' or '.join(HOST_KEY_TYPES)}, as `ssh-keyscan` prints it after the address"
        )
    try:
        blob = base64.b64decode(encoded.split(" ")[0], validate=True)
    except binascii.Error as exc:
        raise ValueError(f"is not base64 after {kind}: copy the whole line") from exc
    if blob[4 : 4 + len(kind)] != kind.encode():
        raise ValueError(f"says {kind}, but the key itself is of another type: copy the whole line")
    return text


def _ipv4(text: str) -> str:
    if ":" in text:
        raise ValueError("is an IPv4 address; the port has a key of its own")
    split_address(text, 1)
    return text


Ipv4 = Annotated[str, AfterValidator(_ipv4), Field(description="IPv4 address, without a port")]
Port = Annotated[int, Field(ge=1, le=65535, description="TCP port of its SSH server")]
HostKey = Annotated[str, AfterValidator(_host_key), Field(description='pinned: "ssh-ed25519 AAAA..."')]
User = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$"), Field(description="log-in name")]
KeyFile = Annotated[
    str,
    StringConstraints(pattern=r"^(/|~/)\S+$"),
    Field(description="private key without a passphrase, /absolute/path or ~/path"),
]


class JumpSpec(Strict):
    """A host that the way to the board leads through; logged in to with the same key or agent."""

    address: Ipv4
    port: Port = 22
    user: User
    host_key: HostKey


class SshSpec(Strict):
    """A way in over SSH: a board's management port, or the shaper host. Give ``key_file`` or ``agent: true``."""

    address: Ipv4
    port: Port = 22
    user: User = Field(default="root", description="anybody else needs sudo without a password")
    host_key: HostKey
    key_file: KeyFile | None = None
    agent: bool = Field(default=False, description="log in with what the SSH agent offers")
    jump: JumpSpec | None = None

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.key_file is None) == (not self.agent):
            raise ValueError("give either key_file or agent: true")
        return self


class ConsoleSpec(Strict):
    """The serial console."""

    url: str = Field(
        pattern=r"^(/dev/\S+|rfc2217://\S+|socket://\S+)$",
        description="/dev/serial/by-path/..., rfc2217://host:port or socket://host:port",
    )
    baudrate: int = Field(default=115_200, ge=9600, le=4_000_000, description="an Orin's is 115200, 8N1")


NicName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$")]


class FlightSpec(Strict):
    """The board's flight port. Its OS configures it: the address that `hil lab show` prints, /24."""

    nic: NicName = Field(
        description="NIC or VLAN of this machine that is cabled to it; the bench takes it while it is up"
    )


class RecoverySpec(Strict):
    """Where the board appears on USB in force-recovery mode."""

    usb_path: str = Field(pattern=r"^\d+-\d+(\.\d+)*$", description="as under /sys/bus/usb/devices, e.g. 1-4.2")


class BudgetSpec(Strict):
    """How long this board may take. A Jetson takes minutes; a stand-in seconds."""

    boot_s: float = Field(default=180.0, ge=1, le=3600, description="power-on until it answers over SSH")
    shutdown_s: float = Field(default=60.0, ge=1, le=600, description="an orderly shutdown, before power is cut")
    fall_back_s: float | None = Field(
        default=None,
        ge=1,
        le=7200,
        description="a new OS that hangs, until the old one answers; default: three times boot_s and a watchdog of "
        "120 s, then boot_s once more",
    )
    answer_s: float = Field(default=10.0, ge=1, le=120, description="one question to the running OS")


class RealBoard(Strict):
    """What every real board's section may have; a driver's own section says what it needs of it."""

    ssh: SshSpec | None = None
    console: ConsoleSpec | None = None
    supervisor: SupervisorSpec | None = None
    flight: FlightSpec | None = Field(default=None, description="without it no emulated link reaches the board")
    recovery: RecoverySpec | None = None
    budgets: BudgetSpec | None = None

    def cables(self) -> Iterator[tuple[str, str]]:
        """Yield what leads to this board and can lead to no other: its key, and where it begins."""
        if self.supervisor:
            yield "supervisor.power", self.supervisor.power.model_dump_json(exclude={"request_timeout_s"})
        if self.flight:
            yield "flight.nic", self.flight.nic
        if self.console:
            yield "console.url", self.console.url
        if self.recovery:
            yield "recovery.usb_path", self.recovery.usb_path
