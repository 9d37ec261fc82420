"""The epoch state machine: rules one by one, then thousands of steps of a hostile simulated world."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hil.onboard.node.epoch import (
    Config,
    Coordinator,
    CoordinatorState,
    Grant,
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


def always(_: Config) -> bool:
    return True


def new_member(name: str = "a1", **state: Any) -> Member:
    return Member(name, 1, MemberState(**state), lambda _: None)


def new_coordinator(now_s: float = 0.0, **state: Any) -> Coordinator:
    return Coordinator(CoordinatorState(**state), lambda _: None, now_s)


def committed(coordinator: Coordinator, doc: dict[str, Any], members: list[Member]) -> Config:
    config = coordinator.propose(doc)
    for member in members:
        member.prepare(config)
        coordinator.acknowledge(member.name, config.key)
    return coordinator.commit(config.epoch)


def exchange(member: Member, coordinator: Coordinator, now_s: float) -> bool:
    return member.on_reply(coordinator.renew(member.request(now_s, always), now_s), now_s)


class TestRules:
    def test_a_prepared_epoch_is_not_claimed_before_it_is_committed(self) -> None:
        coordinator, member = new_coordinator(), new_member()
        member.prepare(coordinator.propose(document()))
        exchange(member, coordinator, 1.0)
        assert member.claim(1.0) is None

    def test_commit_is_refused_while_a_member_has_not_prepared(self) -> None:
        coordinator = new_coordinator()
        config = coordinator.propose(document())
        for name in NAMES[:-1]:
            coordinator.acknowledge(name, config.key)
        with pytest.raises(Refused, match="b2"):
            coordinator.commit(config.epoch)

    def test_a_lease_runs_from_the_moment_the_member_began_to_ask(self) -> None:
        members = [new_member(n) for n in NAMES]
        coordinator = new_coordinator()
        committed(coordinator, document(), members)
        member = members[0]
        request = member.request(10.0, always)
        member.on_reply(coordinator.renew(request, 10.6), 10.9)
        assert member.claim(10.95) is not None
        assert member.claim(11.0) is None

    def test_an_unbroken_chain_of_leases_keeps_its_start_and_a_gap_begins_anew(self) -> None:
        members = [new_member(n) for n in NAMES]
        coordinator = new_coordinator()
        committed(coordinator, document(), members)
        member = members[0]
        for now in (5.0, 5.5, 6.0):
            exchange(member, coordinator, now)
        assert (lease := member.claim(6.0)) is not None and lease.since_s == 5.0
        exchange(member, coordinator, 7.5)
        assert (lease := member.claim(7.5)) is not None and lease.since_s == 7.5

    def test_a_new_epoch_waits_until_an_unreachable_members_lease_has_ended(self) -> None:
        members = [new_member(n) for n in NAMES]
        coordinator = new_coordinator()
        committed(coordinator, document("1"), members)
        for member in members:
            exchange(member, coordinator, 10.0)
        committed(coordinator, document("2"), members)
        here, gone = members[0], members[3]
        exchange(here, coordinator, 10.1)
        assert here.claim(10.1) is None, "it stops at once"
        exchange(here, coordinator, 10.2)
        assert here.claim(10.2) is None and gone.claim(10.2) is not None
        for member in members[:3]:
            exchange(member, coordinator, 11.04)
            assert member.claim(11.04) is None, "margin for slow clocks"
        exchange(here, coordinator, 11.06)
        assert (lease := here.claim(11.06)) is not None and lease.epoch == 2

    def test_when_all_members_say_that_they_stopped_the_new_epoch_starts_without_waiting(self) -> None:
        members = [new_member(n) for n in NAMES]
        coordinator = new_coordinator()
        committed(coordinator, document("1"), members)
        for member in members:
            exchange(member, coordinator, 10.0)
        committed(coordinator, document("2"), members)
        for _ in range(2):
            for member in members:
                while exchange(member, coordinator, 10.01):
                    pass
        assert [lease.epoch for m in members if (lease := m.claim(10.02))] == [2, 2, 2, 2]

    def test_members_keep_serving_the_old_epoch_while_a_new_one_is_only_prepared(self) -> None:
        members = [new_member(n) for n in NAMES]
        coordinator = new_coordinator()
        committed(coordinator, document("1"), members)
        config = coordinator.propose(document("2"))
        for member in members:
            exchange(member, coordinator, 9.9)
            member.prepare(config)
            exchange(member, coordinator, 10.0)
        assert [lease.epoch for m in members if (lease := m.claim(10.0))] == [1, 1, 1, 1]

    def test_a_member_that_missed_everything_gets_the_document_with_its_renewal_and_then_claims(self) -> None:
        members = [new_member(n) for n in NAMES]
        coordinator = new_coordinator()
        committed(coordinator, document(), members)
        newcomer = Member("b2", 1, MemberState(), lambda _: None)
        assert exchange(newcomer, coordinator, 3.0)
        exchange(newcomer, coordinator, 3.0)
        assert (lease := newcomer.claim(3.0)) is not None and lease.epoch == 1

    def test_a_restarted_coordinator_waits_a_whole_lease_before_it_grants_another_epoch(self) -> None:
        members = [new_member(n) for n in NAMES]
        coordinator = new_coordinator()
        committed(coordinator, document("1"), members)
        exchange(members[3], coordinator, 10.0)
        committed(coordinator, document("2"), members)
        again = Coordinator(coordinator.state, lambda _: None, 10.1)
        exchange(members[0], again, 10.2)
        exchange(members[0], again, 11.1)
        assert members[0].claim(11.1) is None
        exchange(members[0], again, 11.2)
        assert members[0].claim(11.2) is not None

    def test_a_restarted_coordinator_goes_on_granting_the_same_epoch_at_once(self) -> None:
        members = [new_member(n) for n in NAMES]
        coordinator = new_coordinator()
        committed(coordinator, document("1"), members)
        exchange(members[0], coordinator, 10.0)
        again = Coordinator(coordinator.state, lambda _: None, 10.1)
        exchange(members[1], again, 10.2)
        assert members[1].claim(10.2) is not None

    @pytest.mark.parametrize("epoch", [1, 2])
    def test_a_stale_prepare_is_refused(self, epoch: int) -> None:
        member = new_member(prepared=Config.of(3, document("3")))
        with pytest.raises(Refused, match="stale"):
            member.prepare(Config.of(epoch, document("x")))

    def test_another_document_under_a_prepared_epoch_is_refused(self) -> None:
        member = new_member(prepared=Config.of(3, document("3")))
        with pytest.raises(Refused, match="another document"):
            member.prepare(Config.of(3, document("4")))

    def test_a_tampered_document_is_refused(self) -> None:
        good = Config.of(1, document())
        with pytest.raises(Refused, match="digest"):
            new_member().prepare(Config(1, good.document.replace("2.0.0", "6.6.6"), good.sha256))

    def test_the_gateway_of_a_configured_cluster_cannot_be_taken_over_by_a_proposal(self) -> None:
        config = Config.of(1, document())
        member = new_member(prepared=config, committed=config)
        with pytest.raises(Refused, match="gateway"):
            member.prepare(Config.of(2, document(gateway="b1")))

    def test_the_same_document_twice_is_the_same_epoch_unless_a_fresh_one_is_asked_for(self) -> None:
        coordinator = new_coordinator()
        members = [new_member(n) for n in NAMES]
        first = committed(coordinator, document(), members)
        assert coordinator.propose(document()) == first
        assert coordinator.propose(document(), fresh=True).epoch == 2

    def test_a_member_that_is_not_fit_gets_no_lease(self) -> None:
        members = [new_member(n) for n in NAMES]
        coordinator = new_coordinator()
        committed(coordinator, document(), members)
        request = members[0].request(1.0, lambda c: False)
        assert coordinator.renew(request, 1.0).lease_epoch is None

    def test_a_late_release_does_not_end_a_lease_that_was_granted_after_it(self) -> None:
        members = [new_member(n) for n in NAMES]
        coordinator = new_coordinator()
        committed(coordinator, document("1"), members)
        late = members[3].request(10.0, always)
        exchange(members[3], coordinator, 10.1)
        coordinator.renew(late, 10.2)
        assert coordinator.granted(10.2) == {"b2": 1}


# --- the simulated world -------------------------------------------------------------------------------------


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
        self.hosts = {
            n: Host(n, self.random.uniform(0.99, 1.01), self.random.uniform(0, 1000)) for n in NAMES
        }
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
        self.at(
            self.random.uniform(0.05, 2.0), None, lambda: self.boot(host) if host.member is None else None
        )

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


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**48))
def test_no_two_boards_ever_claim_different_epochs(seed: int) -> None:
    assert World(seed).live().violation == ""


def test_the_simulated_worlds_change_epochs_often_enough_to_mean_something() -> None:
    changes = [len(World(seed).live().epochs_claimed) for seed in range(10)]
    assert sum(changes) >= 30


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**48))
def test_after_the_mischief_ends_all_boards_claim_the_committed_epoch(seed: int) -> None:
    world = World(seed).live(20.0).heal()
    state = world.hosts["a1"].disk_coordinator
    if state.committed is None:
        return
    for host in world.hosts.values():
        assert host.member is not None
        lease = host.member.claim(world.clock(host))
        assert lease is not None and lease.epoch == state.committed.epoch, host


class GrantsWithoutWaiting(Coordinator):
    def _others_ended(self, epoch: int, now_s: float) -> bool:
        return True


class ForgetsItsRestart(Coordinator):
    def _others_ended(self, epoch: int, now_s: float) -> bool:
        return all(g.epoch == epoch or g.until_s <= now_s for g in self._grants.values())


class BelievesLateReleases(Coordinator):
    def renew(self, request: RenewRequest, now_s: float) -> RenewReply:
        if request.holding is None:
            self._grants.pop(request.member, None)
        return super().renew(request, now_s)


class HasNoMargin(Coordinator):
    def renew(self, request: RenewRequest, now_s: float) -> RenewReply:
        reply = super().renew(request, now_s)
        if reply.lease_epoch is not None:
            order = (request.incarnation, request.seq)
            self._grants[request.member] = Grant(reply.lease_epoch, now_s + reply.lease_s * 0.9, order)
        return reply


class CountsFromTheAnswer(Member):
    def on_reply(self, reply: RenewReply, now_s: float) -> bool:
        if self._asked_s is not None:
            self._asked_s = now_s
        return super().on_reply(reply, now_s)


class TakesAnyAnswer(Member):
    def on_reply(self, reply: RenewReply, now_s: float) -> bool:
        if self._asked_s is None:
            self._asked_s = now_s - 0.1
        return super().on_reply(RenewReply(self._seq, *list(vars(reply).values())[1:]), now_s)


@pytest.mark.parametrize(
    ("coordinator", "member"),
    [
        (GrantsWithoutWaiting, Member),
        (ForgetsItsRestart, Member),
        (BelievesLateReleases, Member),
        (HasNoMargin, Member),
        (Coordinator, CountsFromTheAnswer),
        (Coordinator, TakesAnyAnswer),
    ],
)
def test_the_simulation_catches_a_broken_rule(coordinator: type[Coordinator], member: type[Member]) -> None:
    assert any(World(seed, coordinator, member).live().violation for seed in range(400))
