"""Host packages: declared once, installed without starting a service, never against the user."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hil.core.command import Result
from hil.errors import BenchError, ConfigurationError
from hil.host.apt_no_start import MARK, ServiceGuard
from hil.host.packages import PACKAGES, HostPackage, install, missing, provided
from hil.testing.fakes import FakeRunner

SQUASHFS = next(p for p in PACKAGES if p.name == "squashfs-tools")
DOCKER = next(p for p in PACKAGES if p.name == "docker.io")


@pytest.fixture
def guard(tmp_path: Path) -> ServiceGuard:
    (tmp_path / "sbin").mkdir()
    return ServiceGuard(tmp_path / "sbin/policy-rc.d")


class Shelf:
    """What is missing, until ``apt-get install`` has run."""

    def __init__(self, *packages: HostPackage, apt_works: bool = True, after_update: bool = False) -> None:
        self.lacking = list(packages)
        self.apt_works = apt_works
        self.updated = not after_update
        self.policy_at_install: str | None = None
        self.guard: ServiceGuard | None = None
        self.runner = FakeRunner(
            {
                "apt-get install --simulate": lambda argv: self._result(argv, self.updated),
                "apt-get install -y": self._install,
                "apt-get update": self._update,
            }
        )

    def missing(self) -> list[HostPackage]:
        return list(self.lacking)

    def _update(self, argv: Sequence[str]) -> Result:
        self.updated = True
        return self._result(argv, True)

    def _install(self, argv: Sequence[str]) -> Result:
        if self.guard is not None:
            self.policy_at_install = self.guard.policy.read_text()
        if self.apt_works and self.updated:
            self.lacking.clear()
            return self._result(argv, True)
        return self._result(argv, False)

    @staticmethod
    def _result(argv: Sequence[str], ok: bool) -> Result:
        return Result(tuple(argv), 0 if ok else 100, "", "" if ok else "E: Unable to locate package")


def commands(runner: FakeRunner) -> list[str]:
    return [" ".join(call[:2]) for call in runner.calls]


def test_every_package_says_what_it_is_for_what_works_without_it_and_how_it_is_recognised() -> None:
    for package in PACKAGES:
        assert package.purpose and package.without and (package.commands or package.files), package.name
    assert len({p.name for p in PACKAGES}) == len(PACKAGES)


def test_a_package_is_there_when_what_it_provides_is_there_whatever_its_name(tmp_path: Path) -> None:
    package = HostPackage(
        "libc6-dev", "headers", "nothing", files=("/usr/include/stdio.h", "/usr/lib/*/libc.a|/usr/lib64/libc.a")
    )
    assert not provided(package, root=tmp_path)
    for file in ("usr/include/stdio.h", "usr/lib64/libc.a"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert provided(package, root=tmp_path)
    # A Docker from elsewhere provides the same commands, so docker.io is not wanted.
    assert provided(DOCKER, which=lambda name, path: f"/opt/docker/{name}")
    assert not provided(DOCKER, which=lambda name, path: None if name == "runc" else f"/usr/bin/{name}")


def test_looking_for_missing_packages_runs_no_command_and_reads_only_the_root_it_is_given(tmp_path: Path) -> None:
    names = {p.name for p in missing([p for p in PACKAGES if p.files and not p.commands], root=tmp_path)}
    assert names == {"libc6-dev", "ca-certificates"}


def test_nothing_is_run_when_nothing_is_missing(guard: ServiceGuard) -> None:
    runner = FakeRunner()
    assert install(runner=runner, is_root=True, find_missing=list, guard=guard) == []
    assert runner.calls == []


def test_missing_packages_are_installed_without_recommends_removals_or_questions(guard: ServiceGuard) -> None:
    shelf = Shelf(SQUASHFS)
    assert install(runner=shelf.runner, is_root=True, find_missing=shelf.missing, guard=guard) == ["squashfs-tools"]
    (call,) = [c for c in shelf.runner.calls if c[:2] == ("apt-get", "install") and "--simulate" not in c]
    assert {"-y", "--no-install-recommends", "--no-remove"} <= set(call)
    assert shelf.runner.envs[shelf.runner.calls.index(call)]["DEBIAN_FRONTEND"] == "noninteractive"
    assert "apt-get update" not in commands(shelf.runner)


def test_package_lists_are_fetched_only_when_the_old_ones_do_not_do(guard: ServiceGuard) -> None:
    shelf = Shelf(SQUASHFS, after_update=True)
    install(runner=shelf.runner, is_root=True, find_missing=shelf.missing, guard=guard)
    assert commands(shelf.runner).count("apt-get update") == 1


def test_no_service_may_start_while_apt_works_and_the_guard_is_gone_afterwards(guard: ServiceGuard) -> None:
    shelf = Shelf(DOCKER)
    shelf.guard = guard
    install(runner=shelf.runner, is_root=True, find_missing=shelf.missing, guard=guard)
    assert shelf.policy_at_install is not None and "exit 101" in shelf.policy_at_install
    assert not guard.policy.exists() and not guard.needed()


def test_a_fresh_docker_stays_disabled_and_other_packages_touch_no_unit(guard: ServiceGuard) -> None:
    shelf = Shelf(DOCKER)
    install(runner=shelf.runner, is_root=True, find_missing=shelf.missing, guard=guard)
    assert any(c[:2] == ("systemctl", "disable") and "docker.service" in c for c in shelf.runner.calls)
    other = Shelf(SQUASHFS)
    install(runner=other.runner, is_root=True, find_missing=other.missing, guard=guard)
    assert not any(c[0] == "systemctl" for c in other.runner.calls)


def test_a_plain_user_gets_one_page_that_says_what_why_and_what_works_without(guard: ServiceGuard) -> None:
    runner = FakeRunner()
    with pytest.raises(ConfigurationError) as caught:
        install(runner=runner, is_root=False, find_missing=lambda: [DOCKER, SQUASHFS], guard=guard)
    text = str(caught.value)
    for part in ("only root", "docker.io", DOCKER.purpose, DOCKER.without, SQUASHFS.without, "apt-get install"):
        assert part in text
    assert runner.calls == []


def test_a_host_without_apt_gets_the_same_page(guard: ServiceGuard) -> None:
    runner = FakeRunner({"apt-get --version": 127})
    with pytest.raises(ConfigurationError, match="no apt-get"):
        install(runner=runner, is_root=True, find_missing=lambda: [SQUASHFS], guard=guard)
    assert commands(runner) == ["apt-get --version"]


def test_a_failing_apt_is_the_benchs_fault_with_its_last_words_and_the_guard_is_gone(guard: ServiceGuard) -> None:
    shelf = Shelf(SQUASHFS, apt_works=False)
    with pytest.raises(BenchError, match="Unable to locate package"):
        install(runner=shelf.runner, is_root=True, find_missing=shelf.missing, guard=guard)
    assert not guard.policy.exists()


def test_an_apt_that_succeeds_without_bringing_the_command_is_not_believed(guard: ServiceGuard) -> None:
    with pytest.raises(BenchError, match="still lacks: squashfs-tools"):
        install(runner=FakeRunner(), is_root=True, find_missing=lambda: [SQUASHFS], guard=guard)


def test_the_users_own_policy_comes_back_as_the_very_same_file(guard: ServiceGuard) -> None:
    guard.policy.write_text("#!/bin/sh\nexit 0\n")
    guard.policy.chmod(0o700)
    before = guard.policy.stat()
    with guard:
        assert MARK in guard.policy.read_text()
        assert guard.policy.stat().st_mode & 0o111 == 0o111
    after = guard.policy.stat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
    assert sorted(p.name for p in guard.policy.parent.iterdir()) == ["policy-rc.d"]


def test_an_installation_that_was_killed_is_put_right_by_the_next_one(guard: ServiceGuard) -> None:
    guard.policy.write_text("the user's")
    guard.__enter__()  # and then SIGKILL
    assert guard.needed()
    again = ServiceGuard(guard.policy)
    with again:
        assert MARK in guard.policy.read_text()
    assert guard.policy.read_text() == "the user's"
    assert not again.needed()


def test_a_kill_between_the_two_renames_loses_nothing(guard: ServiceGuard) -> None:
    guard.policy.with_name("policy-rc.d.before-hil").write_text("the user's")
    assert guard.needed()
    assert guard.recover()
    assert guard.policy.read_text() == "the user's"
