"""Set-up: what is there is not made again, and a host that cannot do it is told so at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.core.check import Check
from hil.errors import ConfigurationError
from hil.host import packages, setup, shared
from hil.host.doctor import this_host as doctor
from hil.host.engine import engine
from hil.host.engine.engine import EngineInfo
from hil.host.packages import PACKAGES
from hil.host.setup import Built

IMAGE = "sha256:" + "ab" * 32


class Builders(setup.Builders):
    """Pretends to build: writes one small file each."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.calls: list[str] = []

    def images(self, client: object, progress: Callable[[str], None]) -> Built:
        self.calls.append("images")
        progress("downloading")
        content = self.home / "docker/image/overlay2/imagedb/content/sha256" / IMAGE.removeprefix("sha256:")
        content.parent.mkdir(parents=True, exist_ok=True)
        content.write_text("{}")
        return Built(self._file("factory.squashfs"), IMAGE)

    def payload(self, progress: Callable[[str], None]) -> Built:
        self.calls.append("payload")
        return Built(self._file("model.zip"))

    def relay(self) -> Built:
        self.calls.append("relay")
        return Built(self._file("relay"))

    def _file(self, name: str) -> tuple[Path, ...]:
        path = self.home / name
        path.write_text(name)
        return (path,)


class View:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def begin(self, step: str) -> None:
        self.lines.append(f"begin {step}")

    def say(self, line: str) -> None:
        self.lines.append(line)

    def note(self, line: str) -> None:
        self.lines.append(line)

    def end(self, summary: str, seconds: float) -> None:
        self.lines.append(f"end {summary}")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HIL_RUN", str(tmp_path / "run"))
    (tmp_path / "home").mkdir()
    started: list[str] = []

    @contextmanager
    def fake_engine() -> Iterator[object]:
        started.append("engine")
        yield object()

    url = f"unix://{tmp_path}/run/docker.sock"
    monkeypatch.setattr(engine, "engine", fake_engine)
    monkeypatch.setattr(engine, "find", lambda: EngineInfo(url, ours=True, version="1"))
    monkeypatch.setattr(packages, "missing", lambda: [])
    monkeypatch.setattr(doctor, "diagnose", lambda: [])
    return tmp_path / "home"


def test_the_first_set_up_does_every_step_with_progress(home: Path) -> None:
    builders, view = Builders(home), View()
    result = setup.setup(view, builders)
    assert result.did == ("container engine", "images and bundles", "payload", "link box")
    assert result.image == IMAGE
    assert "downloading" in view.lines and "begin images and bundles" in view.lines
    assert setup.stale() == ""


def test_the_second_set_up_builds_and_starts_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.setup(View(), Builders(home))
    monkeypatch.setattr(engine, "engine", lambda: pytest.fail("the engine was started"))
    again = Builders(home)
    assert setup.setup(View(), again).did == ()
    assert again.calls == []


@pytest.mark.parametrize("what", ["model.zip", "factory.squashfs", "relay"])
def test_a_file_that_is_lost_or_cut_short_is_made_again(home: Path, what: str) -> None:
    setup.setup(View(), Builders(home))
    (home / what).write_text("")
    assert what in setup.stale()
    setup.setup(View(), Builders(home))
    assert (home / what).read_text() == what and setup.stale() == ""


def test_an_image_that_the_engine_lost_is_made_again(home: Path) -> None:
    setup.setup(View(), Builders(home))
    next(home.glob("docker/image/*/imagedb/content/sha256/*")).unlink()
    assert "image" in setup.stale()


def test_changed_sources_make_the_set_up_stale(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.setup(View(), Builders(home))
    monkeypatch.setattr(setup, "fingerprint", lambda: "another")
    assert "changed" in setup.stale()


def test_the_fingerprint_covers_names_and_contents_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "onboard").mkdir(parents=True)
    before = setup.fingerprint(tmp_path)
    (tmp_path / "onboard/x.py").write_text("1")
    one = setup.fingerprint(tmp_path)
    (tmp_path / "onboard/__pycache__").mkdir()
    (tmp_path / "onboard/__pycache__/x.pyc").write_text("1")
    (tmp_path / "README.md").write_text("1")
    assert before != one == setup.fingerprint(tmp_path)
    (tmp_path / "onboard/x.py").write_text("2")
    assert setup.fingerprint(tmp_path) != one


def test_a_torn_stamp_counts_as_none(home: Path) -> None:
    (home / "setup.json").write_text('{"inputs": ')
    assert setup.stale() == "set-up has not run yet"
    (home / "setup.json").write_text(json.dumps([]))
    assert setup.stale() == "set-up has not run yet"


def test_a_host_that_cannot_run_the_lab_is_told_before_anything_is_installed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Check("cgroups", "fail", "none mounted", "Docker limits boards with them", "mount them", "unit tests")
    mendable = Check("host-packages", "fail", "missing: rauc", "images", "`hil setup`")
    monkeypatch.setattr(doctor, "diagnose", lambda: [bad, mendable])
    monkeypatch.setattr(packages, "missing", lambda: [PACKAGES[0]])
    monkeypatch.setattr(packages, "install", lambda progress: pytest.fail("installed"))
    with pytest.raises(ConfigurationError) as caught:
        setup.setup(View(), Builders(home))
    text = str(caught.value)
    assert "cgroups: none mounted" in text and "mount them" in text and "host-packages" not in text
    monkeypatch.setattr(doctor, "diagnose", lambda: [mendable])
    setup.require_capable_host()


def test_missing_packages_are_installed_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(packages, "missing", lambda: [] if order else [PACKAGES[0]])

    def install(progress: object) -> list[str]:
        order.append("apt")
        return ["docker.io"]

    monkeypatch.setattr(packages, "install", install)
    builders = Builders(home)
    result = setup.setup(View(), builders)
    assert result.did[0] == "host packages" and order == ["apt"] and builders.calls[0] == "images"


def test_a_set_up_at_work_is_noticed(home: Path) -> None:
    assert not setup.is_running()
    with setup._alone(View()):
        assert setup.is_running()
    assert not setup.is_running()


def test_the_leases_are_moved_by_one_set_up_at_a_time_and_not_again_by_one_that_waited(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.setup(View(), Builders(home))
    moves: list[bool] = []
    monkeypatch.setattr(shared, "missing", lambda: "the directory is missing")
    monkeypatch.setattr(shared, "make", lambda: moves.append(setup.is_running()))
    setup.setup(View(), Builders(home))
    assert moves == [True]
    answers = iter(["the directory is missing", ""])  # the other one made it meanwhile
    monkeypatch.setattr(shared, "missing", lambda: next(answers))
    setup.setup(View(), Builders(home))
    assert moves == [True]
