"""Processor time of a control group, version 1 and 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.core.cgroups import CpuGroup
from hil.errors import BenchError


def group(tmp_path: Path, rows: str) -> CpuGroup:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text(rows)
    return CpuGroup.of(7, proc=tmp_path / "proc", root=tmp_path / "cg")


def test_version_1_is_counted_and_limited(tmp_path: Path) -> None:
    for name in ("cpu", "cpuacct"):
        (tmp_path / "cg" / name / "docker/x").mkdir(parents=True)
    (tmp_path / "cg/cpuacct/docker/x/cpuacct.usage").write_text("2500000000\n")
    found = group(tmp_path, "4:cpuacct:/docker/x\n3:cpu:/docker/x\n1:name=systemd:/\n0::/\n")
    assert found.used_s() == 2.5
    found.allow(0.3)
    assert (tmp_path / "cg/cpu/docker/x/cpu.cfs_quota_us").read_text() == "15000"
    assert (tmp_path / "cg/cpu/docker/x/cpu.cfs_period_us").read_text() == "50000"
    found.allow(None)
    assert (tmp_path / "cg/cpu/docker/x/cpu.cfs_quota_us").read_text() == "-1"


def test_version_2_is_counted_and_limited(tmp_path: Path) -> None:
    here = tmp_path / "cg/docker/x"
    here.mkdir(parents=True)
    (here / "cpu.max").write_text("max 100000")
    (here / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    found = group(tmp_path, "0::/docker/x\n")
    assert found.used_s() == 2.5
    found.allow(0.001)
    assert (here / "cpu.max").read_text() == "1000 50000"  # the kernel takes no less
    found.allow(None)
    assert (here / "cpu.max").read_text() == "max 50000"


def test_a_host_without_the_controllers_is_the_benchs_fault(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no control group"):
        group(tmp_path, "0::/\n")
    with pytest.raises(BenchError, match="cannot be read"):
        CpuGroup.of(8, proc=tmp_path / "proc")
