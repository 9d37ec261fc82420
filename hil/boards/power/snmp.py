"""Power strips that speak SNMP, version 1, 2c or 3.

A strip is described by its objects (:class:`OutletObjects`); :data:`MODELS` has the common ones.  Sources:
PowerNet-MIB (APC), EATON-EPDU-MIB, PDU2-MIB (Raritan), CPS-MIB (CyberPower), POWER-ETHERNET-MIB (RFC 3621), as labgrid,
pdudaemon and others use them.  None was tried on a real strip here; what is written is read back, so that a wrong
object is noticed.

UDP loses packets: a request is repeated up to twice within its time-out.  Setting an integer again is harmless.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from hil.boards.power.kinds import OutletKind, Surroundings, resolve_secret
from hil.boards.power.switch import NoAnswerError, Reading
from hil.boards.protocol import PowerState
from hil.core import netns
from hil.errors import BenchError
from hil.lab.power import Secret, StripSpec, split_address
from hil.lab.yamlfile import Strict, with_example

_log = logging.getLogger(__name__)

RETRIES = 2

Oid = Annotated[
    str,
    StringConstraints(pattern=r"^\d+(\.(\d+|\{outlet\}))+$"),
    Field(description="object identifier in numbers; {outlet} stands for the outlet"),
]


class OutletObjects(Strict):
    """The objects of a strip that is not in the list of models."""

    model_config = with_example("""\
on_oid: 1.3.6.1.4.1.99999.1.2.{outlet}
on_value: 1
off_oid: 1.3.6.1.4.1.99999.1.2.{outlet}
off_value: 2
state_oid: 1.3.6.1.4.1.99999.1.3.{outlet}
state_on: [1]
state_off: [2, 3]
""")
    on_oid: Oid
    on_value: int = Field(description="what is written to on_oid to turn the outlet on")
    off_oid: Oid
    off_value: int = Field(description="what is written to off_oid to turn it off")
    state_oid: Oid
    state_on: tuple[int, ...] = Field(min_length=1, strict=False, description="values of state_oid that mean on")
    state_off: tuple[int, ...] = Field(min_length=1, strict=False, description="values of state_oid that mean off")


def _objects(command: str, state: str = "", **others: object) -> OutletObjects:
    """Describe a strip where 1 written to ``command`` is on and 2 off; its state is read there too, or at ``state``."""
    usual = {"on_oid": command, "on_value": 1, "off_oid": command, "off_value": 2}
    reading = {"state_oid": state or command, "state_on": (1,), "state_off": (2,)}
    return OutletObjects.model_validate(usual | reading | others)


_APC = "1.3.6.1.4.1.318.1.1"
_EATON = "1.3.6.1.4.1.534.6.6.7.6.6.1"
_RARITAN = "1.3.6.1.4.1.13742.6.4.1.2.1"
MODELS: Mapping[str, OutletObjects] = {
    "apc": _objects(f"{_APC}.4.4.2.1.3.{{outlet}}"),  # sPDUOutletCtl: outletOn(1), outletOff(2)
    # rPDUOutletControlOutletCommand, rPDUOutletStatusOutletState
    "apc-rpdu": _objects(f"{_APC}.12.3.3.1.1.4.{{outlet}}", f"{_APC}.12.3.5.1.1.4.{{outlet}}"),
    # rPDU2OutletSwitchedControlCommand; ...StatusState is off(1), on(2)
    "apc-rpdu2": _objects(
        f"{_APC}.26.9.2.4.1.5.{{outlet}}", f"{_APC}.26.9.2.3.1.5.{{outlet}}", state_on=(2,), state_off=(1,)
    ),
    # outletControlOnCmd, OffCmd: seconds until then; Status: off on pendingOff pendingOn
    "eaton-epdu": _objects(
        f"{_EATON}.4.0.{{outlet}}",
        f"{_EATON}.2.0.{{outlet}}",
        off_oid=f"{_EATON}.3.0.{{outlet}}",
        off_value=1,
        state_on=(1, 2),
        state_off=(0, 3),
    ),
    # switchingOperation: off(0), on(1); outletSwitchingState: on(7), off(8)
    "raritan-px": _objects(
        f"{_RARITAN}.2.1.{{outlet}}", f"{_RARITAN}.3.1.{{outlet}}", off_value=0, state_on=(7,), state_off=(8,)
    ),
    "cyberpower": _objects("1.3.6.1.4.1.3808.1.1.3.3.3.1.1.4.{outlet}"),  # ePDUOutletControlOutletCommand
    "poe-switch": _objects("1.3.6.1.2.1.105.1.1.1.3.1.{outlet}"),  # pethPsePortAdminEnable: true(1), false(2)
}


class SnmpSpec(StripSpec):
    """An outlet of a rack strip, or a port of a PoE switch, over SNMP.

    Give ``model`` or ``objects``. Versions 1 and 2c need ``community``, version 3 needs ``user``; ``privacy_key``
    needs ``auth_key``.
    """

    model_config = with_example("""\
kind: snmp
address: 192.0.2.22
outlet: 7
model: apc-rpdu2
community: env:STRIP_COMMUNITY
""")
    kind: Literal["snmp"]
    model: str | None = Field(default=None, description=f"one of {', '.join(MODELS)}; or give objects")
    objects: OutletObjects | None = None
    version: Literal["1", "2c", "3"] = Field(default="2c", description="of SNMP; in quotes: it is text")
    community: Secret | None = Field(default=None, description="versions 1 and 2c: one that may write")
    user: str = Field(default="", description="version 3: security name")
    auth_key: Secret | None = None
    auth_protocol: Literal["MD5", "SHA", "SHA256"] = Field(default="SHA", description="version 3, with auth_key")
    privacy_key: Secret | None = None
    privacy_protocol: Literal["DES", "AES"] = Field(default="AES", description="version 3, with privacy_key")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.model is None) == (self.objects is None):
            raise ValueError("give either model or objects")
        if self.model is not None and self.model not in MODELS:
            raise ValueError(f"model {self.model} is not known; models: {', '.join(MODELS)}; or give objects")
        if self.version == "3" and not self.user:
            raise ValueError("SNMP version 3 needs user")
        if self.version != "3" and self.community is None:
            raise ValueError(f"SNMP version {self.version} needs community, as env:NAME or file:PATH")
        if self.privacy_key and not self.auth_key:
            raise ValueError("privacy_key needs auth_key: SNMP has no privacy without authentication")
        return self


def _target_class(api: Any, namespace: str) -> Any:
    """Return pysnmp's UDP target, with a socket from the one place that opens sockets."""

    class Transport(api.UdpTransportTarget.PROTO_TRANSPORT):  # type: ignore[misc]  # pysnmp is untyped
        def closeTransport(self) -> None:
            """Close it by the name that pysnmp 7.1 itself uses; its own alias warns of being old."""
            self.close_transport()

    class Target(api.UdpTransportTarget):  # type: ignore[misc]  # pysnmp is untyped
        def open_client_mode(self) -> Any:
            sock = netns.datagram(namespace)
            sock.setblocking(False)
            self.transport = Transport().open_server_mode(sock=sock)
            return self.transport

    return Target


class SnmpOutlet:
    """``hil.boards.power.switch.Outlet`` on an SNMP agent."""

    def __init__(self, spec: SnmpSpec, here: Surroundings) -> None:
        """ConfigurationError when a secret of ``spec`` cannot be read."""
        objects = MODELS[spec.model] if spec.model else spec.objects
        assert objects is not None  # the model's validator wants one of the two
        self._spec = spec
        self._objects = objects
        self._address = split_address(spec.address, 161)
        self._community, self._auth_key, self._privacy_key = (
            resolve_secret(secret) if secret else "" for secret in (spec.community, spec.auth_key, spec.privacy_key)
        )
        self._namespace = here.namespace
        self._timeout_s = spec.request_timeout_s
        self._lock = threading.Lock()
        # Making an engine reads MIBs: 80 ms of CPU against 12 ms for a request. Kept until something goes wrong.
        self._engine: Any = None

    @property
    def name(self) -> str:
        host, port = self._address
        return f"SNMP strip {host}{f':{port}' if port != 161 else ''}, outlet {self._spec.outlet}"

    def command(self, wanted: PowerState) -> None:
        objects = self._objects
        if wanted is PowerState.ON:
            self._ask(objects.on_oid, objects.on_value)
        else:
            self._ask(objects.off_oid, objects.off_value)

    def read(self) -> Reading:
        value = self._ask(self._objects.state_oid, None)
        if value in self._objects.state_on:
            return Reading(PowerState.ON)
        if value in self._objects.state_off:
            return Reading(PowerState.OFF)
        known = f"on is {self._objects.state_on}, off is {self._objects.state_off}"
        raise BenchError(
            f"{self.name}: its state is {value}, and {known}",
            remedy="is the model in the lab file the strip's? 4 often means that it lost contact with its outlets",
        )

    def _ask(self, oid: str, value: int | None) -> int:
        """Read an object, or set it; its value then. BenchError."""
        oid = oid.format(outlet=self._spec.outlet)
        with self._lock:
            _log.debug("%s: %s %s", self.name, "get" if value is None else f"set to {value}", oid)
            try:
                answer = asyncio.run(asyncio.wait_for(self._exchange(oid, value), self._timeout_s + 1.0))
                _log.debug("%s: %s is %d", self.name, oid, answer)
                return answer
            except TimeoutError as exc:
                self._engine = None
                raise self._silent() from exc
            except BaseException:
                self._engine = None
                raise

    async def _exchange(self, oid: str, value: int | None) -> int:
        from pysnmp.error import PySnmpError
        from pysnmp.hlapi.v3arch import asyncio as api
        from pysnmp.hlapi.v3arch.asyncio.cmdgen import LCD

        engine = self._engine = self._engine or api.SnmpEngine()
        try:
            target = await _target_class(api, self._namespace).create(
                self._address, timeout=self._timeout_s / (RETRIES + 1), retries=RETRIES
            )
            verb = api.get_cmd if value is None else api.set_cmd
            syntax = [] if value is None else [api.Integer32(value)]
            variable = api.ObjectType(api.ObjectIdentity(oid), *syntax)
            failed, status, _, rows = await verb(
                engine, self._auth(api), target, api.ContextData(), variable, lookupMib=False
            )
        except (PySnmpError, OSError) as exc:
            raise BenchError(f"{self.name}: {exc}", remedy="check address and log-in in the lab file") from exc
        finally:
            # The socket belongs to this event loop, which ends here.
            LCD.unconfigure(engine)
            engine.close_dispatcher()
        if failed:
            if "timeout" in str(failed).lower() or "before" in str(failed).lower():
                raise self._silent()
            raise BenchError(f"{self.name}: {failed}", remedy="check user, keys and protocols in the lab file")
        if int(status):
            raise self._refused(oid, status.prettyPrint())
        try:
            return int(rows[0][1])
        except (ValueError, TypeError, IndexError):
            raise self._refused(oid, rows[0][1].prettyPrint() if rows else "nothing") from None

    def _auth(self, api: Any) -> Any:
        spec = self._spec
        if spec.version != "3":
            return api.CommunityData(self._community, mpModel=0 if spec.version == "1" else 1)
        auth = {"MD5": api.USM_AUTH_HMAC96_MD5, "SHA": api.USM_AUTH_HMAC96_SHA, "SHA256": api.USM_AUTH_HMAC192_SHA256}[
            spec.auth_protocol
        ]
        privacy = {"DES": api.USM_PRIV_CBC56_DES, "AES": api.USM_PRIV_CFB128_AES}[spec.privacy_protocol]
        keys: dict[str, Any] = {}
        if self._auth_key:
            keys |= {"authKey": self._auth_key, "authProtocol": auth}
        if self._privacy_key:
            keys |= {"privKey": self._privacy_key, "privProtocol": privacy}
        return api.UsmUserData(spec.user, **keys)

    def _silent(self) -> NoAnswerError:
        return NoAnswerError(
            f"{self.name}: no answer in {self._timeout_s:g} s, asked {RETRIES + 1} times",
            remedy="an agent is silent, too, when the community is wrong or this host is not in its access list",
        )

    def _refused(self, oid: str, why: str) -> BenchError:
        return BenchError(
            f"{self.name}: refuses {oid}: {why}",
            remedy="noSuchName, noSuchInstance: wrong model or outlet; noAccess, notWritable: it may only read",
        )


SNMP = OutletKind(SnmpSpec, SnmpOutlet)
