"""What `hil bench up` refuses before it touches anything."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from hil.bench.state import hold
from hil.cli.app import run
from hil.cli.select_bench import default_name
from tests.kits import checkout


@pytest.mark.parametrize("name", ["", "a b", "a" * 21, "Lab1", "größe"])
def test_a_bench_needs_a_usable_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "up", "--lab", str(checkout.ROOT / "lab/virtual.yaml"), "--name", name]) == 2
    assert "is not usable" in capsys.readouterr().err


def test_a_lab_file_of_any_name_gives_a_usable_name_of_its_bench() -> None:
    names = [default_name(Path(f"{stem}.yaml")) for stem in ("Rack_A", "größe 2", "a" * 30, "軌道")]
    assert names == ["racka", "gre2", "a" * 20, "bench"]


def test_a_bench_that_is_up_is_not_brought_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIL_RUN", str(tmp_path))

    class Up(FakeUp):
        def up(self, **_: object) -> None:
            with hold("virtual"):
                pass

    monkeypatch.setattr("hil.bench.bench.Bench", Up)
    with hold("virtual"):
        assert run(["bench", "up", "--lab", "virtual"]) == 2
    assert "bench virtual is up already" in capsys.readouterr().err


class FakeUp:
    """A bench that is up in no time."""

    state = SimpleNamespace(phases_s={"all": 2.0}, engine={"kind": "kernel", "kernel_release": "6.1"})
    lab = SimpleNamespace(links=["x"])
    name, boards = "virtual", ("a1", "b1")

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def up(self, **_: object) -> None:
        pass

    def memory_b(self) -> dict[str, int]:
        return {"a1": 50_000_000}

    def close(self) -> None:
        pass


def test_quiet_prints_that_it_is_up_and_no_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hil.bench.bench.Bench", FakeUp)
    assert run(["-q", "bench", "up", "--lab", "virtual"]) == 0
    result = "bench virtual is up after 2.0 s: 2 boards, 1 link shaped by kernel (6.1)\n"
    assert capsys.readouterr() == (result, "")
    assert run(["bench", "up", "--lab", "virtual"]) == 0
    said = capsys.readouterr()
    assert said.out == result and "memory per board: 50 MB" in said.err and "next: `hil board list`" in said.err
