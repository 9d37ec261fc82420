"""Counterparts of a lab's power hardware that are not HTTP: a real SNMP agent, a microcontroller on a real pty."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
import tty
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from tests.kits.power_strips import OnChange, Outlets


class SnmpStrip:
    """An SNMP agent (versions 1, 2c and 3) on a free port of 127.0.0.1 whose integers are outlets.

    ``states`` maps the object that is read to an outlet, ``commands`` the object that is written to (outlet, the value
    that switches on, the value that switches off).
    """

    user, auth_key, privacy_key = "operator", "auth-secret", "privacy-secret"

    def __init__(
        self,
        outlets: range,
        states: Mapping[str, tuple[int, int, int]],
        commands: Mapping[str, tuple[int, int | None, int | None]],
        *,
        community: str = "private",
        on_change: OnChange | None = None,
    ) -> None:
        self.outlets = Outlets(outlets, on_change)
        self.states = dict(states)  # oid -> (outlet, value when on, value when off)
        self.commands = dict(commands)
        self.community = community
        self.ignores_writes = False  # a strip that lies
        self.answer: int | None = None  # what it says instead of its state
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()

    @property
    def address(self) -> str:
        host, port = self._sock.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20), "the SNMP agent did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    def _serve(self) -> None:
        from pysnmp.carrier.asyncio.dgram import udp
        from pysnmp.entity import config, engine
        from pysnmp.entity.rfc3413 import cmdrsp, context

        asyncio.set_event_loop(self._loop)
        snmp = engine.SnmpEngine()
        self._sock.setblocking(False)
        config.add_transport(
            snmp, udp.DOMAIN_NAME, udp.UdpAsyncioTransport(loop=self._loop).open_server_mode(sock=self._sock)
        )
        config.add_v1_system(snmp, "area", self.community)
        config.add_v3_user(
            snmp, self.user, config.USM_AUTH_HMAC96_SHA, self.auth_key, config.USM_PRIV_CFB128_AES, self.privacy_key
        )
        everything = (1, 3, 6)
        for model, name, level in (
            (1, "area", "noAuthNoPriv"),
            (2, "area", "noAuthNoPriv"),
            (3, self.user, "authPriv"),
        ):
            config.add_vacm_user(snmp, model, name, level, everything, everything)
        told = context.SnmpContext(snmp)
        told.unregister_context_name(b"")
        told.register_context_name(b"", _Objects(self))
        cmdrsp.GetCommandResponder(snmp, told)
        cmdrsp.SetCommandResponder(snmp, told)
        self._loop.call_soon(self._ready.set)
        try:
            self._loop.run_forever()
        finally:
            snmp.close_dispatcher()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._sock.close()
            self._loop.close()

    def read(self, oid: str) -> int:
        number, on, off = self.states[oid]
        if self.answer is not None:
            return self.answer
        return on if self.outlets.on[number] else off

    def write(self, oid: str, value: int) -> None:
        number, on, off = self.commands[oid]
        if value not in (on, off):
            raise ValueError(value)
        if not self.ignores_writes:
            self.outlets.switch(number, value == on)


class _Objects:
    """What the agent's responders ask for values."""

    def __init__(self, strip: SnmpStrip) -> None:
        self._strip = strip

    def read_variables(self, *rows: Any, **_context: Any) -> list[Any]:
        from pysnmp.proto.rfc1902 import Integer32
        from pysnmp.smi.error import NoSuchInstanceError

        found = []
        for index, (name, _) in enumerate(rows):
            try:
                found.append((name, Integer32(self._strip.read(str(name)))))
            except KeyError:
                raise NoSuchInstanceError(name=name, idx=index) from None
        return found

    def write_variables(self, *rows: Any, **_context: Any) -> list[Any]:
        from pysnmp.smi.error import NotWritableError, WrongValueError

        for index, (name, value) in enumerate(rows):
            try:
                self._strip.write(str(name), int(value))
            except KeyError:
                raise NotWritableError(name=name, idx=index) from None
            except ValueError:
                raise WrongValueError(name=name, idx=index) from None
        return list(rows)


class PtyMicrocontroller:
    """A supervisor microcontroller on a pty, speaking the line protocol of docs/power.md."""

    def __init__(self, *, on_change: OnChange | None = None) -> None:
        self.outlets = Outlets(range(1), on_change)
        self.recovery = False
        self.resets: list[bool] = []  # whether FC_REC was held at each reset
        self.powered_in_recovery = False
        self.seen: list[str] = []
        self.who = "hil-supervisor 1 test"
        self.mute: set[str] = set()  # commands that get no answer
        self.refuse: set[str] = set()
        self.noise = b""  # sent before every answer
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.port = os.ttyname(slave)
        self._slave = slave  # ours stays open, so that the master can be read while nobody listens
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=5)
        os.close(self._master)
        os.close(self._slave)

    def _serve(self) -> None:
        buffer = b""
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            buffer += os.read(self._master, 1024)
            *lines, buffer = buffer.split(b"\n")
            for raw in lines:
                self._obey(raw.decode("ascii", "replace").strip())

    def _obey(self, command: str) -> None:
        self.seen.append(command)
        answer = self._answer(command)
        if command not in self.mute:
            os.write(self._master, self.noise + answer.encode() + b"\r\n")

    def _answer(self, command: str) -> str:
        if command in self.refuse:
            return "error not fitted on this carrier"
        match command.split():
            case ["who"]:
                return f"ok who {self.who}"
            case ["power", "on" | "off" as word]:
                if word == "on" and not self.outlets.on[0]:
                    self.powered_in_recovery = self.recovery
                self.outlets.switch(0, word == "on")
            case ["reset"]:
                self.resets.append(self.recovery)
            case ["recovery", "on" | "off" as word]:
                self.recovery = word == "on"
            case ["state"]:
                power, held = self.outlets.on[0], self.recovery
                return f"ok state power={'on' if power else 'off'} recovery={'on' if held else 'off'}"
            case _:
                return f"error unknown command {command[:40]}"
        return f"ok {command}"
