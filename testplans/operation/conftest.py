"""The operation file beside these tests, and the rollout of its bundle with its deadlines."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hil.core.wait import duration_s
from hil.evidence.model import at_most
from hil.images.artefact import BundleFacts
from hil.operation.model import load_operation
from hil.operation.preview import check
from hil.orbit.times import iso
from hil.rollout.rollout import Rollout


@pytest.fixture(scope="session")
def operation():
    """The file that `hil operation run` put here; the shipped operation where there is none."""
    beside = Path(__file__).with_name("operation.yaml")
    return load_operation(beside if beside.is_file() else "six_gpu")


@pytest.fixture(scope="session")
def reckoned(operation, bench):
    """The preview on the bench's lab, from the bench's epoch on."""
    epoch = None if bench.orbit is None else iso(bench.orbit.epoch)
    return check(operation, bench.whole_lab, epoch=epoch, tenant=bench.tenant)


@pytest.fixture(scope="session")
def uploading(operation, rollout, fleet, bundles, os_adapter, recorder):
    """The rollout of the operation's bundle, which may take as long as the file says."""
    spec, steps = operation.bundle, operation.steps
    bundle = bundles.os_v2
    if spec.file is not None:
        bundle = BundleFacts.of_file(operation.bundle_path, version=spec.version, image_sha256=spec.image_sha256)
    limits = {"transfer_deadline_s": steps.upload, "install_deadline_s": steps.install}
    limits["configure_deadline_s"] = steps.configure
    policy = replace(
        rollout.policy,
        canary=steps.activate.canary if steps.activate else None,
        **{name: duration_s(step.deadline) for name, step in limits.items() if step},
    )
    return Rollout(fleet, bundle, recorder, policy, adapter=os_adapter(bundle.version))


@pytest.fixture
def within(measure):
    """``with within("upload", step):`` measures how long the block takes, and compares it with the step's deadline."""

    @contextmanager
    def timed(name, step):
        begin_s = time.monotonic()
        yield
        measure(f"time of {name}", round(time.monotonic() - begin_s, 3), "s", limit=at_most(duration_s(step.deadline)))

    return timed
