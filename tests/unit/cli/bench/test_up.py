"""What `hil bench up` refuses before it touches anything."""

from __future__ import annotations

import pytest

from hil.cli.app import run
from tests.kits import checkout


@pytest.mark.parametrize("name", ["", "a b", "a" * 21])
def test_a_bench_needs_a_usable_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "up", "--lab", str(checkout.ROOT / "lab/virtual.yaml"), "--name", name]) == 2
    assert "is not usable" in capsys.readouterr().err
