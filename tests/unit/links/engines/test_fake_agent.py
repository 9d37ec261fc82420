"""The fake agent of the public test kit does what the relay does."""

from __future__ import annotations

import errno
import struct
import time

import pytest

from hil.links.engines.agent import Agent
from hil.testing import links
from hil.testing.links import FakeAgent
from tests.kits.agent_contract import UNKNOWN, AgentContract
from tests.kits.kernel_shapes import queue_length_shape


class TestFakeAgent(AgentContract):
    plan_rows, log_rows = 3_500, 650  # a hundredth of the relay's: the same is shown in less time

    @pytest.fixture
    def agent(self, monkeypatch: pytest.MonkeyPatch) -> FakeAgent:
        monkeypatch.setattr(links, "_PLAN_ROWS", self.plan_rows)
        monkeypatch.setattr(links, "_LOG_ROWS", self.log_rows)
        agent = FakeAgent(clock=time.monotonic_ns)
        agent.refuse[UNKNOWN] = errno.EOPNOTSUPP
        return agent

    def applied_ns(self, agent: Agent) -> int:
        assert isinstance(agent, FakeAgent)
        taken = [batch for batch in agent.batches if struct.unpack_from("=H", batch, 4) != (UNKNOWN,)]
        (delay_ns,) = struct.unpack_from("=I", taken[-1], queue_length_shape().latency_at[1])
        return int(delay_ns)
