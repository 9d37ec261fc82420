"""What every agent does with a schedule: the fake of the public test kit and the real relay pass the same tests."""

from __future__ import annotations

import errno
import struct
from dataclasses import replace

import pytest

from hil.core.wait import wait_until
from hil.errors import BenchError
from hil.links.engines.agent import Agent
from tests.kits.kernel_shapes import queue_length, queue_length_shape, row, wait_for_rows

HOUR_NS = 3_600_000_000_000
UNKNOWN = 1000
"""A type of netlink message that no kernel knows."""


class AgentContract:
    """The tests; a subclass has a fixture ``agent`` and says how to read the delay that was applied last."""

    plan_rows, log_rows = 349_525, 65_536
    """Room for rows to come, and for rows that were applied."""

    def applied_ns(self, agent: Agent) -> int:
        """Return the delay, ns, of the row that the kernel took last: here the queue length of loopback."""
        return queue_length(agent)

    def test_rows_are_applied_in_order_on_the_agents_clock_and_told_once(self, agent: Agent) -> None:
        agent.shape(3, queue_length_shape())
        start = agent.clock() + 20_000_000
        planned = [start + step * 10_000_000 for step in range(5)]
        agent.plan_stage([row(at_ns, delay_us) for delay_us, at_ns in enumerate(planned, 1)])
        assert agent.plan_log().applied == []
        agent.plan_commit()
        log = wait_until(
            lambda: found if len((found := agent.plan_log()).applied) == 5 else None, what="five rows", deadline_s=10
        )
        assert [(each.planned_ns, each.error, each.held) for each in log.applied] == [
            (at_ns, 0, False) for at_ns in planned
        ]
        assert self.applied_ns(agent) == 5_000
        assert len(agent.plan_log(99).applied) == 5  # more than there were: nothing is forgotten
        for _ in range(2):  # an answer that was lost is told again
            assert [each.planned_ns for each in agent.plan_log(3).applied] == planned[3:]
        assert agent.plan_log(5).applied == []
        assert agent.plan_log(0).applied == []

    def test_many_rows_due_at_once_are_all_applied_and_the_refused_ones_are_named(self, agent: Agent) -> None:
        good = queue_length_shape()
        bad = bytearray(good.up)
        struct.pack_into("=H", bad, 4, UNKNOWN)
        agent.shape(0, good)
        agent.shape(1, replace(good, up=bytes(bad)))
        now = agent.clock()
        agent.plan_stage([row(now, 1 + index, slot=index % 3) for index in range(300)])
        agent.plan_commit()
        log = wait_for_rows(agent, 300)
        wanted = {0: 0, 1: errno.EOPNOTSUPP, 2: errno.EBADSLT}  # the third has no shape
        assert [each.error for each in log] == [wanted[each.slot] for each in log]
        assert [each.slot for each in log] == [index % 3 for index in range(300)]
        assert self.applied_ns(agent) == 298_000

    def test_held_rows_are_noted_and_a_release_applies_the_last_of_them(self, agent: Agent) -> None:
        agent.shape(3, queue_length_shape())
        agent.hold([3])
        now = agent.clock()
        agent.plan_stage([row(now + 1, 7), row(now + 2, 8), row(now + HOUR_NS, 9)])
        agent.plan_commit()
        assert [(each.held, each.error) for each in wait_for_rows(agent, 2)] == [(True, 0), (True, 0)]
        agent.release([3])
        assert self.applied_ns(agent) == 8_000
        agent.shape(3, replace(queue_length_shape(), compensation_ns=500))
        assert self.applied_ns(agent) == 7_500

    def test_a_commit_from_a_moment_on_replaces_what_is_to_come_and_nothing_else(self, agent: Agent) -> None:
        agent.shape(3, queue_length_shape())
        now = agent.clock()
        agent.plan_stage([row(now + 300_000_000, 1), row(now + HOUR_NS, 2)])
        agent.plan_commit()
        agent.plan_stage([row(now + 400_000_000, 3)])
        agent.plan_commit(now + 350_000_000)
        log = wait_for_rows(agent, 2)
        assert [each.planned_ns - now for each in log] == [300_000_000, 400_000_000]
        assert self.applied_ns(agent) == 3_000
        agent.plan_stage([row(now, 4)])
        agent.plan_stage([])  # thought better of
        agent.plan_commit()
        assert agent.plan_log(2).applied == []

    def test_a_long_plan_streams_through_and_a_full_log_is_counted(self, agent: Agent) -> None:
        piece = self.plan_rows // 9
        total = 10 * piece
        for start in range(0, total, piece):
            agent.plan_stage([row(start + index + 1, 1, slot=9) for index in range(piece)])
            agent.plan_commit()
        log = agent.plan_log()
        wait_until(
            lambda: agent.plan_log().lost == total - self.log_rows, what="all rows", deadline_s=30
        )  # nobody read the log: it keeps the first ones and counts the others
        assert [each.planned_ns for each in log.applied] == list(range(1, len(log.applied) + 1))

    def test_more_rows_than_there_is_room_for_are_refused_and_those_there_are_stay(self, agent: Agent) -> None:
        block = [row(agent.clock() + HOUR_NS, 1)] * 125
        for _ in range(self.plan_rows // len(block)):
            agent.plan_stage(block)
        with pytest.raises(BenchError, match="refused more of the schedule: No space left"):
            agent.plan_stage(block)
        agent.plan_forget()
        agent.plan_stage(block)

    def test_a_slot_that_no_link_can_have_is_refused(self, agent: Agent) -> None:
        with pytest.raises(BenchError, match="Invalid argument"):
            agent.shape(1024, queue_length_shape())
        with pytest.raises(BenchError, match="Invalid argument"):
            agent.hold([1024])
        with pytest.raises(BenchError, match="Invalid argument"):
            agent.plan_stage([row(1, 1, slot=1024)])
