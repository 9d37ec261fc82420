"""What the bench gives to each board's driver: the quotas of its tenant are there."""

from __future__ import annotations

from typing import Any, cast

from hil.bench.equipment import sites
from hil.bench.plumbing import Plumbing
from hil.core import paths
from hil.evidence.sink import NullSink
from hil.lab.model import load_lab
from hil.lab.tenant import QuotaSpec


def test_a_board_has_the_quotas_of_its_tenant_and_nobodys_has_none() -> None:
    lab = load_lab(paths.ROOT / "lab/two-tenants.yaml")
    quotas = QuotaSpec(cpu_cores=0.5, memory_bytes=1 << 30)
    alpha = lab.tenants[0].model_copy(update={"quotas": quotas})
    lab = lab.model_copy(update={"tenants": (alpha,)})
    found = sites(Plumbing("six", lab), cast(Any, None), "sha256:0", cast(Any, None), NullSink())
    assert {name for name, site in found.items() if site.quotas == quotas} == {"a1", "a2", "b1"}
    assert {name for name, site in found.items() if site.quotas == QuotaSpec()} == {"a3", "b2", "b3"}
