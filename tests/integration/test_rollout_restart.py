"""The harness is killed in the middle of a rollout; a new one finishes it, and the cluster was never mixed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from hil.bench.bench import Bench
from hil.boards.protocol import Via
from hil.core import paths
from hil.core.wait import wait_until
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeClient
from hil.rollout.rollout import Rollout, RolloutPolicy
from hil.rollout.watcher import InvariantWatcher

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

PATIENT = RolloutPolicy(node_deadline_s=30)
"""Other tests run beside these."""
MOMENTS = 4
RUN = """
from hil.bench.bench import Bench
from hil.rollout.fleet import Fleet
from hil.rollout.rollout import Rollout, RolloutPolicy

bench = Bench.attach({name!r})
fleet = Fleet.of(bench.boards, bench.lab.gateway, operator=bench.operator)
bundle = bench.images.bundles.os_v2
print("started", flush=True)
config = fleet.config(os_version=bundle.version, image_sha256=bundle.image_sha256)
Rollout(fleet, bundle, policy=RolloutPolicy(node_deadline_s=30)).run(config)
"""


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(paths.ROOT / "lab/virtual.yaml", name=f"restart{os.getpid()}") as up:
        yield up


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_rollout_whose_harness_was_killed_is_finished_by_the_next_one(bench: Bench, moment: int) -> None:
    fleet = Fleet.of(bench.boards, bench.lab.gateway, operator=bench.operator)
    bundle = bench.images.bundles.os_v2
    config = fleet.config(os_version=bundle.version, image_sha256=bundle.image_sha256)
    for name in fleet.names:  # so that every round has bytes to send
        with NodeClient(fleet, name, Via.MANAGEMENT) as client:
            forget = partial(client.raw, "DELETE", f"/artefacts/{bundle.sha256}")
            # A board that has just booted answers over SSH before its node service does.
            wait_until(forget, what=f"the node service of {name}", deadline_s=20)
    with InvariantWatcher(fleet) as watcher:
        killed = subprocess.Popen(
            [sys.executable, "-c", RUN.format(name=bench.name)], stdout=subprocess.PIPE, cwd=paths.ROOT
        )
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"started\n"
        time.sleep(random.Random(moment).uniform(0.2, 9.0))
        killed.kill()
        killed.communicate()

        rollout = Rollout(fleet, bundle, policy=PATIENT)
        epoch = rollout.run(config).epoch

        found = rollout.status().values()
        assert {(h.os_version, h.confirmed, h.claim.epoch) for h in found if h} == {(bundle.version, True, epoch)}
        assert all(found)
        assert watcher.report().violations == ()
        if moment + 1 < MOMENTS:  # the next round begins where this one did
            rollout.roll_back()
