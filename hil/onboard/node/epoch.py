"""Configuration epochs and leases: a pure state machine without clocks, threads or sockets.

Promise: no two members ever claim different epochs at the same true time, whatever messages are lost, delayed or
repeated, whoever crashes or freezes, as long as clock rates differ by less than ``MARGIN / 2``.

How: a member claims epoch *e* only while it holds a lease for *e*, which ends on its own clock ``lease_s`` after the
moment at which it *began to ask* for it.  The coordinator grants leases only for its one committed epoch, and grants
the first lease of an epoch only when every lease that it may have granted for another epoch has certainly ended:
because its time (plus ``MARGIN``) has passed on the coordinator's clock, or because the member said, in a request
made after that grant, that it holds none.  A coordinator that restarts has forgotten its grants; it knows from disk
for which epoch it granted last, and waits out one whole lease before it grants for another.

Whoever uses this module must make ``persist`` durable before it returns, and deliver messages in any order it likes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from hil.onboard.node.answers import LEASE_MAX_S, Configuration, Signed, json_object, read

MARGIN = 0.05
"""The coordinator waits this fraction longer than a lease lasts: room for two clocks that run 2 % apart and more."""


JUMP = 2**31
"""An epoch so far above the highest that is known here is no honest one; none would be left after a few of them."""


class Refused(Exception):
    """A proposal, prepare or commit that would break a rule.  ``known``: the highest epoch known to who refuses."""

    def __init__(self, message: str, known: int = 0) -> None:
        super().__init__(message)
        self.known = known


@dataclass(frozen=True)
class Config:
    """One numbered cluster configuration. ``document`` is canonical JSON; ``sha256`` its digest."""

    epoch: int
    document: str
    sha256: str
    order: Signed | None = field(default=None, compare=False)
    """The operator's proposal of it; None without flight security."""

    @classmethod
    def of(cls, epoch: int, document: dict[str, Any], order: Signed | None = None) -> Config:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return cls(epoch, text, hashlib.sha256(text.encode()).hexdigest(), order)

    @property
    def key(self) -> tuple[int, str]:
        return (self.epoch, self.sha256)

    @cached_property
    def content(self) -> Configuration:
        """The document as it was checked; ContractError when it is no configuration."""
        return read(Configuration, json_object(self.document.encode()), "the configuration")

    @property
    def members(self) -> frozenset[str]:
        return frozenset(self.content.members)

    @property
    def lease_s(self) -> float:
        """Seconds a lease lasts under this configuration."""
        return self.content.params.lease_s

    @property
    def renew_s(self) -> float:
        """Seconds between two renewals."""
        return min(self.content.params.renew_s, self.lease_s / 2)

    def intact(self) -> bool:
        """Return whether the digest fits the document."""
        return hashlib.sha256(self.document.encode()).hexdigest() == self.sha256


@dataclass(frozen=True)
class RenewRequest:
    """A member asks for a lease.  ``incarnation`` counts its starts, ``seq`` its requests since then."""

    member: str
    incarnation: int
    seq: int
    stored: tuple[tuple[int, str], ...]  # keys of the configurations it has durably
    fit: tuple[int, ...]  # epochs of those under which it could serve now
    holding: int | None  # epoch of a lease that may still run; None: it claims nothing until a later grant


@dataclass(frozen=True)
class RenewReply:
    """The coordinator's answer to the request with the same ``seq``."""

    seq: int
    committed: tuple[int, str] | None
    config: Config | None  # the committed one, for a member that has not stored it
    lease_epoch: int | None  # None: no lease now
    lease_s: float


# --- member ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MemberState:
    """What a member must not forget."""

    prepared: Config | None = None  # the latest one, committed or not
    committed: Config | None = None  # the latest one known to be in force

    @property
    def stored(self) -> tuple[Config, ...]:
        """The configurations that are here, each once."""
        found = {c.key: c for c in (self.committed, self.prepared) if c is not None}
        return tuple(found.values())


@dataclass(frozen=True)
class Lease:
    epoch: int
    expires_s: float
    since_s: float  # start of the unbroken chain of leases for this epoch


class Member:
    """A board's side.  All times are seconds of the board's own clock (one that never jumps)."""

    def __init__(self, name: str, incarnation: int, state: MemberState, persist: Callable[[MemberState], None]) -> None:
        self.name = name
        self.incarnation = incarnation
        self.state = state
        self._persist = persist
        self._seq = 0
        self._asked_s: float | None = None  # when the latest request was begun; None once it was answered
        self._lease: Lease | None = None

    def prepare(self, config: Config) -> None:
        """Store a configuration durably; it is not in force until the coordinator says that it is committed.

        Refused: a digest that does not fit, an epoch older than one known here or ``JUMP`` above it, another document
        under an epoch already prepared, or another gateway than the committed one's.
        """
        if not config.intact():
            raise Refused("the document does not fit its digest")
        highest = max((c.epoch for c in self.state.stored), default=0)
        if config.epoch > highest + JUMP:
            raise Refused(f"epoch {config.epoch} is too far above {highest}, the highest that is known here", highest)
        for known, word in ((self.state.committed, "committed"), (self.state.prepared, "prepared")):
            if known is not None and config.epoch < known.epoch:
                raise Refused(f"epoch {config.epoch} is stale: {known.epoch} is {word} here", highest)
            if known is not None and config.epoch == known.epoch and config.sha256 != known.sha256:
                raise Refused(f"epoch {config.epoch} is {word} here with another document", highest)
        committed = self.state.committed
        if committed is not None and config.content.gateway != committed.content.gateway:
            raise Refused(f"the gateway of this cluster is {committed.content.gateway}", highest)
        if self.state.prepared is None or config.key != self.state.prepared.key:
            self._save(replace(self.state, prepared=config))

    def request(self, now_s: float, fit: Callable[[Config], bool]) -> RenewRequest:
        """Begin a renewal: answers to earlier requests will be ignored from here on."""
        self._seq += 1
        self._asked_s = now_s
        lease = self._current(now_s)
        stored = self.state.stored
        return RenewRequest(
            member=self.name,
            incarnation=self.incarnation,
            seq=self._seq,
            stored=tuple(c.key for c in stored),
            fit=tuple(c.epoch for c in stored if fit(c)),
            holding=lease.epoch if lease is not None else None,
        )

    def on_reply(self, reply: RenewReply, now_s: float) -> bool:
        """Take an answer.  True when it is worth asking again at once (something changed, no lease yet)."""
        if reply.seq != self._seq or self._asked_s is None:
            return False
        asked_s, self._asked_s = self._asked_s, None
        known = self.state.committed
        if reply.committed is None or (known is not None and reply.committed[0] < known.epoch):
            self._lease = None  # a coordinator that lost its memory is no authority
            return False
        lease = self._current(now_s)
        dropped = lease is not None and lease.epoch != reply.committed[0]
        if dropped:
            lease = self._lease = None
        learned = known is None or known.key != reply.committed
        if learned and not self._adopt(reply):
            return dropped
        if reply.lease_epoch != reply.committed[0]:
            return dropped or learned
        expires_s = asked_s + min(reply.lease_s, LEASE_MAX_S)
        if expires_s > now_s:
            since_s = lease.since_s if lease is not None else now_s
            self._lease = Lease(reply.committed[0], expires_s, since_s)
        return False

    def _adopt(self, reply: RenewReply) -> bool:
        """Store what is committed, durably; False when the document is not here and was not sent."""
        for config in (self.state.prepared, reply.config):
            if config is not None and config.key == reply.committed and config.intact():
                newer = self.state.prepared is None or self.state.prepared.epoch < config.epoch
                self._save(MemberState(config if newer else self.state.prepared, config))
                return True
        return False

    def claim(self, now_s: float) -> Lease | None:
        """Return the lease under which this board claims now, or None."""
        return self._current(now_s)

    def drop(self) -> None:
        """Stop claiming (the board is no longer fit to serve)."""
        self._lease = None

    def _current(self, now_s: float) -> Lease | None:
        if self._lease is not None and now_s >= self._lease.expires_s:
            self._lease = None
        return self._lease

    def _save(self, state: MemberState) -> None:
        self._persist(state)
        self.state = state


# --- coordinator -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CoordinatorState:
    """What the coordinator must not forget.  ``granting``: (epoch, lease seconds) of all leases that may run."""

    last_epoch: int = 0
    pending: Config | None = None
    committed: Config | None = None
    granting: tuple[int, float] | None = None


@dataclass(frozen=True)
class Grant:
    """The latest lease granted to a member, in the coordinator's seconds."""

    epoch: int
    until_s: float
    order: tuple[int, int]  # (incarnation, seq) of the request


class Coordinator:
    """The gateway board's side.  All times are seconds of that board's own clock."""

    def __init__(self, state: CoordinatorState, persist: Callable[[CoordinatorState], None], now_s: float) -> None:
        self.state = state
        self._persist = persist
        self._started_s = now_s
        self._grants: dict[str, Grant] = {}
        self._prepared: set[str] = set()

    def propose(self, document: dict[str, Any], *, fresh: bool = False, order: Signed | None = None) -> Config:
        """Number a configuration, with the ``order`` for it.

        The same document as the pending or committed one keeps its epoch.  With ``fresh`` a committed document gets a
        new epoch all the same, and so does a pending one of which :meth:`learn` said that its number is taken.
        """
        pending, committed = self.state.pending, self.state.committed
        if pending is not None and Config.of(self.state.last_epoch, document) == pending:
            return pending
        if not fresh and committed is not None and Config.of(committed.epoch, document) == committed:
            if pending is not None:  # back to what is in force: the other proposal is dropped
                self._save(replace(self.state, pending=None))
            return committed
        config = Config.of(self.state.last_epoch + 1, document, order)
        self._prepared = set()
        self._save(replace(self.state, last_epoch=config.epoch, pending=config))
        return config

    def learn(self, known: int) -> bool:
        """Take note of an epoch that a member knows, so that the next one is above it; return whether it was news.

        A coordinator that granted nothing and learns of one has lost its memory: leases for that epoch may run.
        One that is ``JUMP`` above its own is not believed.
        """
        if not self.state.last_epoch < known <= self.state.last_epoch + JUMP:
            return False
        granting = (known, LEASE_MAX_S) if self.state.granting is None else self.state.granting
        self._save(replace(self.state, last_epoch=known, granting=granting))
        return True

    def acknowledge(self, member: str, key: tuple[int, str]) -> None:
        """A member has durably stored the pending configuration."""
        if self.state.pending is not None and key == self.state.pending.key:
            self._prepared.add(member)

    def missing(self) -> frozenset[str]:
        """Return members that have not acknowledged the pending configuration."""
        return self.state.pending.members - self._prepared if self.state.pending is not None else frozenset()

    def commit(self, epoch: int) -> Config:
        """Decide: from now on this epoch and no other.  Refused unless all its members have prepared it."""
        committed, pending = self.state.committed, self.state.pending
        if committed is not None and committed.epoch == epoch:
            return committed
        if pending is None or pending.epoch != epoch:
            raise Refused(f"epoch {epoch} is not the one that is prepared")
        if self.missing():
            raise Refused(f"epoch {epoch} is not prepared on {', '.join(sorted(self.missing()))}")
        self._save(replace(self.state, committed=pending, pending=None))
        return pending

    def renew(self, request: RenewRequest, now_s: float) -> RenewReply:
        """Answer a request for a lease."""
        for key in request.stored:
            self.acknowledge(request.member, key)
        order = (request.incarnation, request.seq)
        grant = self._grants.get(request.member)
        if grant is not None and grant.until_s > now_s and order <= grant.order:
            return self._reply(request, leased=False)  # delayed or repeated: it says nothing about now
        if grant is not None and request.holding is None:
            del self._grants[request.member]
        config = self.state.committed
        if (
            config is None
            or request.member not in config.members
            or config.key not in request.stored
            or config.epoch not in request.fit
            or not self._others_ended(config.epoch, now_s)
        ):
            return self._reply(request, leased=False)
        if self.state.granting != (config.epoch, config.lease_s):
            self._save(replace(self.state, granting=(config.epoch, config.lease_s)))
        self._grants[request.member] = Grant(config.epoch, now_s + config.lease_s * (1 + MARGIN), order)
        return self._reply(request, leased=True)

    def granted(self, now_s: float) -> dict[str, int]:
        """Epoch of every lease that may be running, by member."""
        return {m: g.epoch for m, g in self._grants.items() if g.until_s > now_s}

    def _others_ended(self, epoch: int, now_s: float) -> bool:
        """Return whether every lease for another epoch has certainly ended."""
        before = self.state.granting
        if before is not None and before[0] != epoch and now_s < self._started_s + before[1] * (1 + MARGIN):
            return False  # leases granted before this start are forgotten, but may run
        return all(g.epoch == epoch or g.until_s <= now_s for g in self._grants.values())

    def _reply(self, request: RenewRequest, *, leased: bool) -> RenewReply:
        config = self.state.committed
        if config is None:
            return RenewReply(request.seq, None, None, None, 0.0)
        unknown = config.key not in request.stored and request.member in config.members
        return RenewReply(
            seq=request.seq,
            committed=config.key,
            config=config if unknown else None,
            lease_epoch=config.epoch if leased else None,
            lease_s=config.lease_s,
        )

    def _save(self, state: CoordinatorState) -> None:
        self._persist(state)
        self.state = state
