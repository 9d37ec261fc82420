"""Six boards under the epoch rules in a simulated world of lost, delayed and repeated messages, crashes and clocks."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from hil.onboard.node.epoch import (
    Config,
    Coordinator,
    CoordinatorState,
    Member,
    MemberState,
    Refused,
    RenewReply,
    RenewRequest,
)

NAMES = ("a1", "a2", "b1", "b2")


def document(version: str = "2.0.0", gateway: str = "a1", **params: Any) -> dict[str, Any]:
    return {
        "gateway": gateway,
        "members": {n: f"198.18.1.{i}:8470" for i, n in enumerate(NAMES)},
        "os_version": version,
        "params": params,
    }


class Crash(Exception):
    """The power went while something was written."""


@dataclass
class Host:
    """A board: its disk, its clock, and what runs on it."""

    name: str
    rate: float
    offset: float
    disk_member: MemberState = field(default_factory=MemberState)
    disk_coordinator: CoordinatorState = field(default_factory=CoordinatorState)
    incarnation: int = 0
    member: Member | None = None
    coordinator: Coordinator | None = None
    frozen_until: float = 0.0
    fit: bool = True


@dataclass
class World:
    """Everything that may happen to six boards, from one seed."""

    seed: int
    coordinator_type: type[Coordinator] = Coordinator
    member_type: type[Member] = Member
    now: float = 0.0
    violation: str = ""
    epochs_claimed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.queue: list[tuple[float, int, Host | None, int, Callable[[], None]]] = []
        self.count = 0
        self.cut: set[frozenset[str]] = set()
        self.chaos = True
        self.hosts = {n: Host(n, self.random.uniform(0.99, 1.01), self.random.uniform(0, 1000)) for n in NAMES}
        for host in self.hosts.values():
            self.boot(host)

    def at(self, delay: float, host: Host | None, action: Callable[[], None]) -> None:
        self.count += 1
        entry = (self.now + delay, self.count, host, host.incarnation if host else 0, action)
        heapq.heappush(self.queue, entry)

    def clock(self, host: Host) -> float:
        return host.offset + self.now * host.rate

    def boot(self, host: Host) -> None:
        host.incarnation += 1
        host.frozen_until = 0.0
        host.member = self.member_type(
            host.name, host.incarnation, host.disk_member, lambda s: self.write(host, "disk_member", s)
        )
        if host.name == "a1":
            host.coordinator = self.coordinator_type(
                host.disk_coordinator, lambda s: self.write(host, "disk_coordinator", s), self.clock(host)
            )
        self.at(self.random.uniform(0, 0.25), host, lambda: self.tick(host))

    def write(self, host: Host, which: str, state: Any) -> None:
        moment = self.random.random() if self.chaos else 1.0
        if moment < 0.01:
            raise Crash
        setattr(host, which, state)
        if moment < 0.02:
            raise Crash

    def tick(self, host: Host) -> None:
        self.at(0.25, host, lambda: self.tick(host))
        self.ask(host)

    def ask(self, host: Host) -> None:
        assert host.member is not None
        request = host.member.request(self.clock(host), lambda _: host.fit)
        self.send(host, self.hosts["a1"], lambda: self.serve(host, request))

    def serve(self, host: Host, request: RenewRequest) -> None:
        gateway = self.hosts["a1"]
        read = self.clock(gateway)
        if self.chaos and self.random.random() < 0.02:  # frozen between reading the clock and using it
            self.at(self.random.uniform(0, 3), gateway, lambda: self.answer(host, request, read))
        else:
            self.answer(host, request, read)

    def answer(self, host: Host, request: RenewRequest, read: float) -> None:
        gateway = self.hosts["a1"]
        assert gateway.coordinator is not None
        reply = gateway.coordinator.renew(request, read)
        self.send(gateway, host, lambda: self.receive(host, reply))

    def receive(self, host: Host, reply: RenewReply) -> None:
        assert host.member is not None
        if host.member.on_reply(reply, self.clock(host)):
            self.ask(host)

    def send(self, source: Host, target: Host, action: Callable[[], None]) -> None:
        chaos = self.chaos and source is not target
        if frozenset((source.name, target.name)) in self.cut or (chaos and self.random.random() < 0.05):
            return
        for _ in range(2 if chaos and self.random.random() < 0.05 else 1):
            slow = chaos and self.random.random() < 0.05
            self.at(self.random.uniform(0.5, 4) if slow else self.random.uniform(0.001, 0.03), target, action)

    def operate(self) -> None:
        """The ground: propose something, prepare where it arrives, commit when all have it."""
        gateway = self.hosts["a1"]
        self.at(self.random.uniform(0.3, 2.5), None, self.operate)
        if gateway.coordinator is None:
            return
        coordinator = gateway.coordinator
        try:
            if coordinator.state.pending is None:
                coordinator.propose(document(str(self.random.randrange(3))), fresh=self.random.random() < 0.5)
            config = coordinator.state.pending
            if config is not None:
                for host in self.hosts.values():
                    self.send(gateway, host, partial(self.prepare, host, config))
                if not coordinator.missing():
                    coordinator.commit(config.epoch)
        except Crash:
            self.crash(gateway)

    def prepare(self, host: Host, config: Config) -> None:
        assert host.member is not None
        try:
            host.member.prepare(config)
        except Refused:
            return
        self.send(host, self.hosts["a1"], lambda: self.acknowledge(host, config))

    def acknowledge(self, host: Host, config: Config) -> None:
        coordinator = self.hosts["a1"].coordinator
        assert coordinator is not None
        coordinator.acknowledge(host.name, config.key)

    def crash(self, host: Host) -> None:
        host.member = host.coordinator = None
        host.incarnation += 1  # what was on its way to the dead process is lost
        self.at(self.random.uniform(0.05, 2.0), None, lambda: self.boot(host) if host.member is None else None)

    def mischief(self) -> None:
        self.at(self.random.uniform(0.1, 1.2), None, self.mischief)
        host = self.hosts[self.random.choice(NAMES)]
        kind = self.random.randrange(6)
        if kind == 0 and host.member is not None:
            self.crash(host)
        elif kind == 1:
            host.frozen_until = self.now + self.random.uniform(0.1, 3)
        elif kind == 2:
            self.cut = {frozenset((a, b)) for a in ("a1", "a2") for b in ("b1", "b2")}
        elif kind == 3:
            self.cut = {frozenset((host.name, n)) for n in NAMES if n != host.name}
        elif kind == 4:
            self.cut = set()
        else:
            host.fit = not host.fit

    def check(self) -> None:
        claims = {
            name: lease.epoch
            for name, host in self.hosts.items()
            if host.member is not None and (lease := host.member.claim(self.clock(host))) is not None
        }
        self.epochs_claimed |= set(claims.values())
        if len(set(claims.values())) > 1 and not self.violation:
            self.violation = f"seed {self.seed}: at {self.now:.3f} s {claims}"

    def run(self, until: float) -> None:
        while self.queue and self.queue[0][0] <= until and not self.violation:
            when, _, host, incarnation, action = heapq.heappop(self.queue)
            self.now = max(self.now, when)
            if host is not None:
                if host.incarnation != incarnation or host.member is None:
                    continue
                if host.frozen_until > self.now:
                    self.at(host.frozen_until - self.now, host, action)
                    continue
            try:
                action()
            except Crash:
                assert host is not None
                self.crash(host)
            self.check()
        self.now = max(self.now, until)

    def live(self, seconds: float = 40.0) -> World:
        self.at(0.0, None, self.operate)
        self.at(1.0, None, self.mischief)
        self.run(seconds)
        return self

    def heal(self, seconds: float = 12.0) -> World:
        """No more mischief and no more proposals; the network is whole."""
        self.chaos, self.cut = False, set()
        self.queue = [e for e in self.queue if e[4] not in (self.operate, self.mischief)]
        heapq.heapify(self.queue)
        for host in self.hosts.values():
            host.fit, host.frozen_until = True, 0.0
        self.run(self.now + seconds)
        return self
