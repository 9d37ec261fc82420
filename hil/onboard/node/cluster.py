"""The I/O around :mod:`hil.onboard.node.epoch`: disk, threads, requests between boards."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from hil.onboard.node import answers, epoch, state
from hil.onboard.node.answers import RENEW_S, Claim, ContractError, Signed
from hil.onboard.node.client import Connect, Peer, connect
from hil.onboard.node.epoch import Config, Coordinator, CoordinatorState, Member, MemberState, Refused
from hil.onboard.node.errors import ApiError
from hil.onboard.node.facts import boot_clock

REQUEST_S = 0.45
"""How long a board waits for another one's answer about the cluster."""
PREPARE_S = 2.0
WAITING_S = 0.06
QUIET_S = 2.0
"""A member that was not heard of for so long is told of the committed configuration, in case it lost its disk."""
ROUNDS = 3
"""So often a proposal is numbered anew at once because members know of higher epochs."""

Fit = Callable[[Config], bool]
Ordered = Callable[[Config, Iterable[Config]], None]
T = TypeVar("T")


@dataclass(frozen=True)
class _Starts:
    """How often the service has started, in ``incarnation.json`` and a copy."""

    incarnation: int = 0


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
        addresses: Mapping[str, str] | None = None,
        ordered: Ordered | None = None,
    ) -> None:
        """``addresses``: flight addresses by board, as far as they are known; nobody else speaks for those boards.

        ``ordered``: raises ApiError for a configuration that no operator ordered; it gets those that are here, too.
        """
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
        self._addresses = addresses or {}
        self._ordered = ordered or (lambda config, stored: None)
        self.last_error = ""
        self.forgotten: list[str] = []
        """What was damaged on disk when the service started."""
        own, led = root / "member.json", root / "coordinator.json"
        # Twice, so that damage to one file alone does not begin the count anew: a request that is still on its way
        # from before would then look newer than those of now.
        starts = [root / "incarnation.json", root / "incarnation.copy.json"]
        incarnation = 1 + max([self._load(_Starts, path).incarnation for path in starts])
        for path in starts:
            state.save(path, {"incarnation": incarnation})
        self.member = member_type(name, incarnation, self._load(MemberState, own), lambda s: state.save(own, asdict(s)))
        self.epoch_at_start = max((config.epoch for config in self.member.state.stored), default=0)
        """The highest epoch that was on disk."""
        self.coordinator = Coordinator(self._load(CoordinatorState, led), lambda s: state.save(led, asdict(s)), clock())

    def _load(self, kind: type[T], path: Path) -> T:
        """Return what a file says; what is damaged is set aside, and is forgotten like what was never written."""
        try:
            found = answers.read(kind, state.load(path), path.name)
            for config in vars(found).values():
                if isinstance(config, Config):
                    _check(config)
            return found
        except (ContractError, ApiError) as exc:
            self.forgotten.append(state.set_aside(path, exc))
            return kind()

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

    def prepare(self, document: dict[str, Any], sender: str | None = None, board: str | None = None) -> dict[str, Any]:
        """``POST /cluster/prepare`` from an address, and by certificate: store a configuration durably.

        ApiError 400, 403, 409 or 422.
        """
        config = _read(Config, document, "a configuration")
        self._check_members(_check(config))
        self._check_sender(config.content.gateway, sender, board)
        self._ordered(config, self.member.state.stored)
        with self._lock:
            try:
                self.member.prepare(config)
            except Refused as exc:
                raise ApiError(409, str(exc), known=exc.known) from exc
        self._wake.set()
        return {"prepared": config.key}

    def renew(self, document: dict[str, Any], sender: str | None = None, board: str | None = None) -> dict[str, Any]:
        """``POST /cluster/renew`` as :meth:`prepare`: a member asks this coordinator for a lease. ApiError 400, 403."""
        request = _read(epoch.RenewRequest, document, "a renewal")
        self._check_sender(request.member, sender, board)
        with self._lock:
            state = self.coordinator.state
            if any(config and request.member in config.members for config in (state.committed, state.pending)):
                self._heard[request.member] = self._clock()
            return asdict(self.coordinator.renew(request, self._clock()))

    def wake(self) -> None:
        """Renew now rather than at the next tick."""
        self._wake.set()

    def _check_sender(self, board: str, sender: str | None, proven: str | None) -> None:
        """ApiError 403 when a request in a board's name comes from another address, or with another certificate."""
        known = self._addresses.get(board)
        if proven is not None and proven != board:
            raise ApiError(403, f"board {proven} does not speak for {board}")
        if sender is not None and known is not None and sender != known:
            raise ApiError(403, f"{sender} does not speak for {board}, which is {known}")

    def _check_members(self, content: answers.Configuration) -> None:
        """ApiError 400 when a configuration places a board elsewhere than it is."""
        for name, address in content.members.items():
            ip, _ = answers.ip_and_port(address)
            if self._addresses.get(name, ip) != ip:
                raise ApiError(400, f"configuration: members.{name} is {ip}, but {name} is {self._addresses[name]}")

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
                "forgotten": self.forgotten,
            }

    # --- what the ground asks of the gateway -------------------------------------------------------------------

    def propose(self, document: object, *, fresh: bool, order: Signed | None = None) -> dict[str, Any]:
        """Phase one: number the configuration and have every member store it.

        The answer says which members have it and why the others do not; asking again goes on.  When a member knows of
        a higher epoch (this board lost its memory, or somebody else numbers), the configuration gets the next one.
        ApiError 400 names the field that is wrong; 409 when this board is not the gateway that it names.
        """
        if not isinstance(document, dict):
            raise ApiError(400, "configuration: must be a JSON object")
        proposed = Config.of(0, document, order)
        content = _check(proposed)
        self._check_members(content)
        if content.gateway != self.name:
            raise ApiError(409, f"this board is {self.name}; the configuration's gateway is {content.gateway}")
        self._ordered(proposed, self.member.state.stored)
        with self._configuring:
            with self._lock:
                for config in self.member.state.stored:
                    self.coordinator.learn(config.epoch)
            for _ in range(ROUNDS):
                with self._lock:
                    config = self.coordinator.propose(document, fresh=fresh, order=order)
                    waiting = self.coordinator.missing()
                    done = self.coordinator.state.committed
                if done is not None and done.key == config.key:
                    return {"epoch": config.epoch, "sha256": config.sha256, "missing": {}, "committed": True}
                failed = self._prepare_everywhere(config, waiting)
                if self.coordinator.state.last_epoch == config.epoch:
                    break
            with self._lock:
                missing = {m: failed.get(m, "no answer") for m in sorted(self.coordinator.missing())}
            return {"epoch": config.epoch, "sha256": config.sha256, "missing": missing, "committed": False}

    def _prepare_everywhere(self, config: Config, members: frozenset[str]) -> dict[str, str]:
        """Return by member why it could not store the configuration; those that did are acknowledged."""

        def one(name: str) -> None:
            try:
                self._tell(config, name, "/cluster/prepare", asdict(config), PREPARE_S)
            except ApiError as exc:
                known = exc.facts.get("known")
                if type(known) is int:
                    with self._lock:
                        self.coordinator.learn(known)
                raise
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
            address = config.content.members[name]
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
                pause_s = 0.0 if self.renew_once() else self._pause()
            except Exception as exc:  # whatever it was: without this thread the board never serves again
                self._note_error(exc)
                pause_s = RENEW_S
            if pause_s:
                self._wake.wait(pause_s)

    def _note_error(self, exc: Exception) -> None:
        """Keep what a thread met; what is no failure of the network goes to the console as well, once."""
        said = str(exc) if isinstance(exc, OSError | ApiError) else repr(exc)
        if not isinstance(exc, OSError | ApiError) and said != self.last_error:
            print(f"node service: {threading.current_thread().name}: {said}", file=sys.stderr, flush=True)
        self.last_error = said

    def _pause(self) -> float:
        """Return seconds until the next renewal; short while this board is only waiting for others' leases to end."""
        with self._lock:
            committed = self.member.state.committed
            if committed is None:
                return RENEW_S
            if self.last_error:
                return committed.renew_s
            waiting = self.member.claim(self._clock()) is None and self._fit(committed)
            return min(WAITING_S, committed.renew_s) if waiting else committed.renew_s

    def renew_once(self) -> bool:
        """Renew once; return True when it is worth repeating at once."""
        with self._lock:
            stored = self.member.state.stored
            if not stored:
                return False
            content = max(stored, key=lambda c: c.epoch).content
            request = self.member.request(self._clock(), self._fit)
        if content.gateway == self.name:
            answer = self.renew(asdict(request))
        else:
            address = content.members[content.gateway]
            if self._peer is None or self._peer.address != address:
                if self._peer is not None:
                    self._peer.close()
                self._peer = Peer(address, timeout_s=REQUEST_S, connector=self._connector)
            answer = self._peer.json("POST", "/cluster/renew", asdict(request))
        reply = _read(epoch.RenewReply, answer, "a reply to a renewal")
        if reply.config is not None:
            self._check_members(_check(reply.config))
            committed = self.member.state.committed
            self._ordered(reply.config, [committed] if committed is not None else [])
        self.last_error = ""
        with self._lock:
            return self.member.on_reply(reply, self._clock())

    def _remind_for_ever(self) -> None:
        """The coordinator's knock at members that are silent: perhaps they do not know that they are members."""
        while not self._stopping.wait(1.0):
            try:
                with self._lock:
                    config, now = self.coordinator.state.committed, self._clock()
                    members = config.members - {self.name} if config else frozenset()
                    silent = {m for m in members if now - self._heard.get(m, -QUIET_S) >= QUIET_S}
                for name in sorted(silent):
                    if config is None or self._stopping.is_set():
                        return
                    with suppress(OSError, ApiError):
                        self._tell(config, name, "/cluster/prepare", asdict(config), REQUEST_S)
            except Exception as exc:  # as in the other thread
                self._note_error(exc)


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


def _check(config: Config) -> answers.Configuration:
    """Return a configuration's content; ApiError 400 when it is none, or does not fit its digest."""
    try:
        if len(config.document) > answers.LONGEST_TEXT:
            raise ContractError(f"the document is longer than {answers.LONGEST_TEXT} characters")
        if not config.intact():
            raise ContractError("the document does not fit its digest")
        return config.content
    except ContractError as exc:
        raise ApiError(400, f"configuration: {exc}") from exc


def _read(cls: type[T], document: object, what: str) -> T:
    try:
        return answers.read(cls, document, what)
    except ContractError as exc:
        raise ApiError(400, f"not {what}: {exc}") from exc
