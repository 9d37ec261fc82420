"""The epoch state machine: rules one by one, then thousands of steps of a hostile simulated world."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hil.onboard.node.epoch import (
    JUMP,
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
from tests.kits.epoch_world import NAMES, World, document


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

    def test_a_coordinator_without_memory_that_learns_of_an_epoch_waits_until_leases_for_it_have_ended(self) -> None:
        coordinator = new_coordinator(100.0)
        assert coordinator.learn(7) and not coordinator.learn(7) and not coordinator.learn(7 + JUMP + 1)
        members = [new_member(n) for n in NAMES]
        assert committed(coordinator, document(), members).epoch == 8
        exchange(members[0], coordinator, 100.5)
        exchange(members[0], coordinator, 110.4)
        assert members[0].claim(110.4) is None
        exchange(members[0], coordinator, 110.6)
        assert members[0].claim(110.6) is not None

    def test_a_pending_configuration_whose_number_is_taken_gets_the_next_one(self) -> None:
        coordinator = new_coordinator()
        assert coordinator.propose(document()).epoch == coordinator.propose(document()).epoch == 1
        coordinator.learn(4)
        assert coordinator.propose(document()).epoch == 5

    def test_an_epoch_far_above_all_that_are_known_is_refused(self) -> None:
        member = new_member(prepared=Config.of(3, document()))
        with pytest.raises(Refused, match="too far above 3"):
            member.prepare(Config.of(3 + JUMP + 1, document()))
        member.prepare(Config.of(3 + JUMP, document()))

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
