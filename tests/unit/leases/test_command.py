"""`hil lease`: takes, lists, waits, and runs a command within a lease."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hil.cli.app import run
from hil.core import paths
from hil.core import processes as procid
from hil.core.wait import wait_until
from hil.leases.leases import LeaseEntry, Leases
from tests.kits.lease_store import A1, A2, in_thread


def test_the_command_takes_lists_refuses_and_frees(capsys: pytest.CaptureFixture[str]) -> None:
    lab = str(paths.ROOT / "lab/virtual.yaml")
    assert run(["lease", "take", "--lab", lab, "a1", "a2", "--for", "new fan", "--ttl", "1h30m", "--json"]) == 0
    taken = json.loads(capsys.readouterr().out)
    assert taken["boards"] == ["virtual/a1", "virtual/a2"] and 5300 < taken["left_s"] <= 5400
    assert run(["lease", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["id"] for each in listed["leases"]] == [taken["id"]] and listed["queue"] == []
    assert run(["lease", "take", "--lab", lab, "--for", "all"]) == 3
    assert "virtual/a1, virtual/a2 are held by" in capsys.readouterr().err
    assert run(["lease", "wait", "virtual/a1", "--timeout", "0s"]) == 3
    assert run(["lease", "renew", str(taken["id"]), "--ttl", "2h"]) == 0
    assert run(["lease", "renew", str(taken["id"]), "--as", "somebody-else"]) == 2
    assert run(["lease", "list"]) == 0
    page = capsys.readouterr().out
    assert "new fan" in page and "person" in page
    assert run(["lease", "free", "--lab", lab]) == 0
    assert f"lease {taken['id']} of" in capsys.readouterr().out
    assert run(["lease", "wait", "virtual/a1"]) == 0
    assert run(["lease", "list"]) == 0
    assert "no board is leased" in capsys.readouterr().out


def test_a_tenants_boards_are_taken_together_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    lab = str(paths.ROOT / "lab/two-tenants.yaml")
    assert run(["lease", "take", "--lab", lab, "--tenant", "beta", "--for", "a trial", "--json"]) == 0
    taken = json.loads(capsys.readouterr().out)
    assert taken["boards"] == ["two-tenants/a3", "two-tenants/b2", "two-tenants/b3"]
    assert run(["lease", "wait", "--lab", lab, "--tenant", "alpha"]) == 0
    assert run(["lease", "wait", "--lab", lab, "--tenant", "beta", "--timeout", "0s"]) == 3
    assert run(["lease", "take", "--lab", lab, "--tenant", "alpha", "b3", "--for", "x"]) == 2
    assert "tenant alpha of lab two-tenants has no board b3" in capsys.readouterr().err
    assert run(["lease", "take", "--tenant", "alpha", "--for", "x"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["take", "a1", "--for", "x"],
        ["take", "--for", "x"],
        ["take", "six/a1"],
        ["take", "six/a1", "--for", "x", "--ttl", "2 hours"],
        ["take", "six/a1", "--for", "x", "--"],
        ["take", "six/a1", "--force", "--for", "x", "--", "/no/such/program"],
        ["take", "six/a1", "--for", "x", "--json", "--", "true"],
        ["take", "--lab", str(paths.ROOT / "lab/virtual.yaml"), "a9", "--for", "x"],
        ["free", "17"],
    ],
)
def test_wrong_arguments_are_refused_and_leave_nothing(arguments: list[str], leases: Leases) -> None:
    assert run(["lease", *arguments]) == 2
    assert leases.list() == () == leases.queue()


def test_a_command_runs_within_its_lease_and_its_exit_code_is_passed_on(
    leases: Leases, capfd: pytest.CaptureFixture[str]
) -> None:
    script = (
        "import os; from hil.leases.leases import Leases\n"
        "(c,) = Leases().list()\n"
        "print(c.pid == os.getpid(), sorted(c.boards), c.purpose)\n"
        "Leases().take(['six/a1'], purpose='inside').free()\n"
        "raise SystemExit(7)"
    )
    assert run(["lease", "take", A1, A2, "--force", "--for", "a run", "--", sys.executable, "-c", script]) == 7
    assert "True ['six/a1', 'six/a2'] a run" in capfd.readouterr().out
    assert leases.list() == ()


def test_a_command_whose_lease_is_lost_is_ended(leases: Leases, capfd: pytest.CaptureFixture[str]) -> None:
    def free_it() -> None:
        (held,) = wait_until(leases.list, what="the lease", deadline_s=30)
        leases.free(held.id, force=True)

    freeing = in_thread(free_it)
    assert run(["lease", "take", A1, "--force", "--for", "x", "--", "sleep", "300"]) == 3
    freeing.join(60)
    assert "the lease is lost" in capfd.readouterr().err


@pytest.fixture
def holder(leases: Leases) -> Iterator[subprocess.Popen[bytes]]:
    """`hil lease take six/a1 -- sleep 300`, running."""
    argv = [sys.executable, "-m", "hil.cli", "lease", "take", A1, "--force", "--for", "x", "--", "sleep", "300"]
    with subprocess.Popen(argv, cwd=paths.ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_boards_are_free_and_the_command_has_ended_once_its_holder_is_killed(
    leases: Leases, holder: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    def command() -> LeaseEntry | None:
        return next((c for c in leases.list() if c.pid != holder.pid), None)

    held = wait_until(command, what="the command to hold the board", deadline_s=30)
    os.kill(holder.pid, number)
    holder.wait(30)
    wait_until(lambda: not leases.list(), what="the board to be free", deadline_s=30)
    assert procid.is_gone(held.pid, held.start_ticks)


@pytest.mark.parametrize(
    ("board", "said"),
    [
        ("virtual/zz", "there is no board virtual/zz: boards: virtual/a1, virtual/a2"),
        ("nosuch/zz", "there is no board nosuch/zz: no lab file in lab/ and no bench is called nosuch"),
    ],
)
def test_a_board_that_nobody_has_is_leased_only_with_force(
    leases: Leases, capsys: pytest.CaptureFixture[str], board: str, said: str
) -> None:
    assert run(["lease", "take", board, "--for", "x"]) == 2
    assert said in capsys.readouterr().err and leases.list() == ()
    assert run(["lease", "take", "virtual/a1", "--for", "x"]) == 0
    assert run(["lease", "take", board, "--for", "x", "--force"]) == 0
