"""A third campaign on a bench in use: refused at once, told who has it, what is free and when."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from hil.bench.ownership import usually_done
from hil.bench.state import lease_keys
from hil.campaign.fixtures import bench as fixture
from hil.core import paths
from hil.lab.model import load_lab
from hil.leases.leases import Leases, LeaseTaken


@pytest.mark.parametrize("tenant", ["beta", ""])
def test_it_is_told_what_is_free_and_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tenant: str) -> None:
    monkeypatch.setenv("HIL_LEASES", str(tmp_path / "leases.db"))
    whole, leases = load_lab(paths.ROOT / "lab/two-tenants.yaml"), Leases()
    config = SimpleNamespace(getoption=lambda _: None, pluginmanager=SimpleNamespace(get_plugin=lambda _: None))
    with leases.take(lease_keys(whole, "six"), purpose="bench six") as kept:
        lab = whole.as_seen_by(tenant) if tenant else whole
        state = SimpleNamespace(lease=kept.entry.name, name="six")
        third = SimpleNamespace(tenant=tenant, whole_lab=whole, lab=lab, name="six", state=state)
        beta = lease_keys(whole.as_seen_by("beta"), "six")
        purpose = f"pytest r1, {usually_done(600)}"
        with leases.take(beta, purpose=purpose, within=kept.entry.name), pytest.raises(LeaseTaken) as told:
            fixture._alone(third, config, SimpleNamespace(run_id="r2"), print)  # type: ignore[arg-type]
    assert "pytest r1" in told.value.message
    assert told.value.remedy.startswith("tenant alpha (a1, a2, b1): free now; tenant beta (a3, b2, b3): free at about ")
    assert "in 10 min 0 s" in told.value.remedy or "in 9 min" in told.value.remedy
