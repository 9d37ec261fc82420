"""The I/O around :mod:`hil.onboard.node.epoch`: disk, threads, requests between boards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from hil.onboard.files import read_object, write_json
from hil.onboard.node import contract, epoch
from hil.onboard.node.client import Connect, Peer, connect, split
from hil.onboard.node.contract import Claim
from hil.onboard.node.epoch import Config, Coordinator, CoordinatorState, Member, MemberState, Refused
from hil.onboard.node.errors import ApiError
from hil.onboard.node.facts import boot_clock

REQUEST_S = 0.45
"""How long a board waits for another one's answer about the cluster."""
PREPARE_S = 2.0
WAITING_S = 0.06
QUIET_S = 2.0
"""A member that was not heard of for so long is told of the committed configuration, in case it lost its disk."""
MAX_MEMBERS = 64

Fit = Callable[[Config], bool]
T = TypeVar("T")


class Cluster:
    """This board as a member, and as the coordinator where a configuration names it as gateway."""

    def __init__(
        self,
        name: str,
        root: Path,
        fit: Fit,
        *,
        clock: Callable[[], float] = boot_clock,
        connector: Connect = connect,
        member_type: type[Member] = Member,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.name = name
        self._root = root
        self._fit = fit
        self._clock = clock
        self._connector = connector
        self._lock = threading.RLock()
        self._configuring = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._heard: dict[str, float] = {}
        self._peer: Peer | None = None
        self._threads: list[threading.Thread] = []
        self.last_error = ""
        incarnation = int(read_object(root / "incarnation.json").get("incarnation", 0)) + 1
        write_json(root / "incarnation.json", {"incarnation": incarnation})
        own, led = root / "member.json", root / "coordinator.json"
        state = contract.read(MemberState, read_object(own), own.name)
        self.member = member_type(name, incarnation, state, lambda s: write_json(own, asdict(s)))
        self.coordinator = Coordinator(
            contract.read(CoordinatorState, read_object(led), led.name), lambda s: write_json(led, asdict(s)), clock()
        )

    # --- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        for target, name in ((self._renew_for_ever, "renew"), (self._remind_for_ever, "remind")):
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(2)

    # --- what others ask of this board -------------------------------------------------------------------------

    def claim(self) -> Claim:
        """Return what this board claims now."""
        with self._lock:
            now = self._clock()
            lease = self.member.claim(now)
            committed = self.member.state.committed
            if lease is not None and (committed is None or not self._fit(committed)):
                self.member.drop()
                lease = None
            if lease is None or committed is None:
                return Claim(serving=False)
            return Claim(
                serving=True,
                epoch=lease.epoch,
                since_s=round(now - lease.since_s, 6),
                lease_left_s=round(lease.expires_s - now, 6),
                config_sha256=committed.sha256,
            )

    def claims(self, wanted: int) -> Config:
        """Return the configuration, when this board claims that epoch now; ApiError 409 otherwise."""
        claim = self.claim()
        committed = self.member.state.committed
        if claim.epoch != wanted or committed is None:
            raise ApiError(409, f"this board does not claim epoch {wanted}", claim=asdict(claim))
        return committed

    def prepare(self, document: dict[str, Any]) -> dict[str, Any]:
        """``POST /cluster/prepare``: store a configuration durably. ApiError 400 or 409."""
        config = _parse_config(document)
        with self._lock:
            try:
                self.member.prepare(config)
            except Refused as exc:
                raise ApiError(409, str(exc)) from exc
        self._wake.set()
        return {"prepared": config.key}

    def renew(self, document: dict[str, Any]) -> dict[str, Any]:
        """``POST /cluster/renew``: a member asks this coordinator for a lease."""
        request = _read(epoch.RenewRequest, document, "a renewal")
        with self._lock:
            self._heard[request.member] = self._clock()
            return asdict(self.coordinator.renew(request, self._clock()))

    def wake(self) -> None:
        """Renew now rather than at the next tick."""
        self._wake.set()

    def describe(self) -> dict[str, Any]:
        """``GET /cluster``."""
        with self._lock:
            coordinator = self.coordinator.state
            return {
                "member": asdict(self.member.state),
                "coordinator": {
                    **asdict(coordinator),
                    "missing": sorted(self.coordinator.missing()),
                    "granted": self.coordinator.granted(self._clock()),
                },
                "last_error": self.last_error,
            }

    # --- what the ground asks of the gateway -------------------------------------------------------------------

    def propose(self, document: dict[str, Any], *, fresh: bool) -> dict[str, Any]:
        """Phase one: number the configuration and have every member store it.

        The answer says which members have it and why the others do not; asking again goes on.
        """
        _check_document(document, self.name)
        with self._configuring:
            with self._lock:
                try:
                    config = self.coordinator.propose(document, fresh=fresh)
                except Refused as exc:
                    raise ApiError(409, str(exc)) from exc
                waiting = self.coordinator.missing()
                done = self.coordinator.state.committed
            if done is not None and done.key == config.key:
                return {"epoch": config.epoch, "sha256": config.sha256, "missing": {}, "committed": True}
            failed = self._prepare_everywhere(config, waiting)
            with self._lock:
                missing = {m: failed.get(m, "no answer") for m in sorted(self.coordinator.missing())}
            return {"epoch": config.epoch, "sha256": config.sha256, "missing": missing, "committed": False}

    def _prepare_everywhere(self, config: Config, members: frozenset[str]) -> dict[str, str]:
        """Return by member why it could not store the configuration; those that did are acknowledged."""

        def one(name: str) -> None:
            self._tell(config, name, "/cluster/prepare", asdict(config), PREPARE_S)
            with self._lock:
                self.coordinator.acknowledge(name, config.key)

        return _at_once(members, one)

    def commit(self, number: int) -> dict[str, Any]:
        """Phase two: decide, durably, and tell the members to renew. ApiError 409 names who has not prepared."""
        with self._configuring, self._lock:
            try:
                config = self.coordinator.commit(number)
            except Refused as exc:
                raise ApiError(409, str(exc), missing=sorted(self.coordinator.missing())) from exc
        threading.Thread(target=self._wake_members, args=(config,), name="wake", daemon=True).start()
        return {"epoch": config.epoch, "sha256": config.sha256}

    def _wake_members(self, config: Config) -> None:
        """A member that cannot be told learns of it at its next renewal."""
        _at_once(config.members, lambda name: self._tell(config, name, "/cluster/wake", {}, REQUEST_S))

    def _tell(self, config: Config, name: str, path: str, document: dict[str, Any], timeout_s: float) -> None:
        """Ask a member, or do it here when it is this board. OSError or ApiError when it does not succeed."""
        if name != self.name:
            address = config.content["members"][name]
            with closing(Peer(address, timeout_s=timeout_s, connector=self._connector)) as peer:
                peer.json("POST", path, document)
        elif path == "/cluster/wake":
            self.wake()
        else:
            self.prepare(document)

    # --- what this board does by itself ------------------------------------------------------------------------

    def _renew_for_ever(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                again = self.renew_once()
            except (OSError, ApiError) as exc:
                self.last_error, again = str(exc), False
            if not again:
                self._wake.wait(self._pause())

    def _pause(self) -> float:
        """Return seconds until the next renewal; short while this board is only waiting for others' leases to end."""
        with self._lock:
            committed = self.member.state.committed
            if committed is None:
                return epoch.RENEW_S
            waiting = not self.last_error and self.member.claim(self._clock()) is None and self._fit(committed)
            return min(WAITING_S, committed.renew_s) if waiting else committed.renew_s

    def renew_once(self) -> bool:
        """Renew once; return True when it is worth repeating at once."""
        with self._lock:
            stored = self.member.state.stored
            if not stored:
                return False
            content = max(stored, key=lambda c: c.epoch).content
            request = self.member.request(self._clock(), self._fit)
        gateway = content["gateway"]
        if gateway == self.name:
            answer = self.renew(asdict(request))
        else:
            address = content["members"][gateway]
            if self._peer is None or self._peer.address != address:
                if self._peer is not None:
                    self._peer.close()
                self._peer = Peer(address, timeout_s=REQUEST_S, connector=self._connector)
            answer = self._peer.json("POST", "/cluster/renew", asdict(request))
        reply = _read(epoch.RenewReply, answer, "a reply to a renewal")
        self.last_error = ""
        with self._lock:
            return self.member.on_reply(reply, self._clock())

    def _remind_for_ever(self) -> None:
        """The coordinator's knock at members that are silent: perhaps they do not know that they are members."""
        while not self._stopping.wait(1.0):
            with self._lock:
                config, now = self.coordinator.state.committed, self._clock()
                members = config.members - {self.name} if config else frozenset()
                silent = {m for m in members if now - self._heard.get(m, -QUIET_S) >= QUIET_S}
            for name in sorted(silent):
                if config is None or self._stopping.is_set():
                    return
                with suppress(OSError, ApiError):
                    self._tell(config, name, "/cluster/prepare", asdict(config), REQUEST_S)


def _at_once(members: frozenset[str], work: Callable[[str], None]) -> dict[str, str]:
    """Do the work for all members at once; return by member what went wrong."""
    failed: dict[str, str] = {}

    def one(name: str) -> None:
        try:
            work(name)
        except (OSError, ApiError) as exc:
            failed[name] = str(exc)

    if members:
        with ThreadPoolExecutor(len(members)) as pool:
            list(pool.map(one, sorted(members)))
    return failed


def _parse_config(document: dict[str, Any]) -> Config:
    config = _read(Config, document, "a configuration")
    try:
        content = config.content
    except ValueError as exc:
        raise ApiError(400, f"not a configuration: {exc!r}") from exc
    _check_document(content, None)
    return config


def _read(cls: type[T], document: object, what: str) -> T:
    try:
        return contract.read(cls, document, what)
    except contract.ContractError as exc:
        raise ApiError(400, f"not {what}: {exc}") from exc


def _check_document(document: Any, gateway: str | None) -> None:
    """ApiError 400 names the field that is wrong; 409 when this board is not the gateway it names."""
    if not isinstance(document, dict):
        raise ApiError(400, "configuration: must be a JSON object")
    members = document.get("members")
    if not isinstance(members, dict) or not 0 < len(members) <= MAX_MEMBERS:
        raise ApiError(400, f"configuration: members must name 1 to {MAX_MEMBERS} boards")
    for address in members.values():
        split(str(address))
    if document.get("gateway") not in members:
        raise ApiError(400, "configuration: gateway must be one of the members")
    if not isinstance(document.get("os_version"), str):
        raise ApiError(400, "configuration: os_version must be a text")
    params = document.get("params", {})
    lease_s = params.get("lease_s", epoch.LEASE_S) if isinstance(params, dict) else None
    if not isinstance(lease_s, int | float) or not 0.1 <= lease_s <= epoch.LEASE_MAX_S:
        raise ApiError(400, f"configuration: params.lease_s must be a number from 0.1 to {epoch.LEASE_MAX_S:g}")
    if gateway is not None and document["gateway"] != gateway:
        raise ApiError(409, f"this board is {gateway}; the configuration's gateway is {document['gateway']}")
