"""A bench comes up, works, goes down, and leaves nothing, however it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from pathlib import Path

import pytest

from hil.bench.bench import Bench
from hil.bench.state import is_live, lease_keys
from hil.boards.protocol import Via
from hil.core import netns, paths
from hil.core.wait import wait_until
from hil.errors import ConfigurationError
from hil.leases.leases import Leases, LeaseTaken
from tests.kits.host_state import as_it_was

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

NAME = "hiltlife"
LAB = paths.ROOT / "lab/two-tenants.yaml"  # as virtual, but for its tenants


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    why = "a bench that is up must not change the host's network"
    with as_it_was(why, bench=NAME) as unchanged, Bench(LAB, name=NAME) as up:
        unchanged()
        yield up


def test_six_boards_answer_with_their_own_identity(bench: Bench) -> None:
    identities = {name: board.identity() for name, board in bench.boards.items()}
    assert list(identities) == ["a1", "a2", "a3", "b1", "b2", "b3"]
    assert len({identity.boot_id for identity in identities.values()}) == 6
    assert len({identity.serial for identity in identities.values()}) == 6


def test_a_board_reaches_a_board_of_the_other_spacecraft_by_name_and_through_the_crosslink(bench: Bench) -> None:
    with bench.boards["a1"].shell() as shell:
        shell.run(["ping", "-c1", "-W2", "b1"])
        before = bench.links.bytes_sent("isl-ab")
        shell.run(["ping", "-c3", "-i0.2", "-s1000", "b1"])
    assert bench.links.bytes_sent("isl-ab") - before >= 6 * 1000


def test_the_round_trip_across_the_crosslink_takes_what_was_commanded(bench: Bench) -> None:
    with bench.boards["a1"].shell() as shell:
        shell.run(["ping", "-c1", "b1"])
        answer = shell.run(["ping", "-c5", "-i0.2", "b1"]).stdout
    fastest_ms = float(answer.rsplit("=", 1)[1].split("/")[0])
    assert 28.7 <= fastest_ms <= 31.0


def test_the_management_ports_do_not_join_the_boards(bench: Bench) -> None:
    other = bench.plumbing.addresses["b1"].management
    with bench.boards["a1"].shell() as shell:
        assert shell.run(["ping", "-c1", "-W1", other], check=False).returncode != 0


def test_no_namespace_of_a_bench_has_a_way_out(bench: Bench) -> None:
    for name in netns.names(f"hil.{bench.name}."):
        routes = subprocess.run(
            ["ip", "-n", name, "route", "show", "table", "all"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        destinations = [
            line.split()[1] if line.split()[0] in {"local", "broadcast"} else line.split()[0] for line in routes
        ]
        assert all(d.startswith(("198.18.", "198.19.", "127.")) for d in destinations), (name, destinations)
        nics = subprocess.run(
            ["ip", "-n", name, "-o", "link", "show"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for nic in nics:
            assert any(kind in nic for kind in (" lo:", " sw0:", " l-", " b-", " m-", "l0", "l1")), nic


def test_ground_commands_reach_a_far_board_only_while_the_crosslink_is_up(bench: Bench) -> None:
    namespace, address = bench.boards["b1"].address(Via.FLIGHT)
    netns.connect(namespace, (address, 22), timeout_s=5).close()
    bench.links.cut("isl-ab")
    try:
        with pytest.raises(OSError):
            netns.connect(namespace, (address, 22), timeout_s=1)
        management, port = bench.boards["b1"].address(Via.MANAGEMENT)
        netns.connect(management, (port, 22), timeout_s=5).close()
    finally:
        bench.links.restore("isl-ab")
    netns.connect(namespace, (address, 22), timeout_s=5).close()


def test_another_process_can_use_the_bench(bench: Bench) -> None:
    script = (
        "from hil.bench.bench import Bench\n"
        f"bench = Bench.attach({bench.name!r})\n"
        "print(bench.boards['b3'].identity().boot_id, len(bench.links.show()))\n"
        "bench.close()\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert answer == [bench.boards["b3"].identity().boot_id, "2"]
    assert is_live(bench.name)


def test_a_second_bench_of_the_same_name_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match="is up already"), Bench(LAB, name=bench.name):
        pass
    assert is_live(bench.name)


def test_six_boards_work_in_parallel_from_threads(bench: Bench) -> None:
    shells = [board.shell() for board in bench.boards.values()]
    try:
        with ThreadPoolExecutor(6) as pool:
            for number in range(25):
                echo = ["echo", str(number)]
                answers = list(pool.map(methodcaller("run", echo), shells))
                assert [answer.stdout for answer in answers] == [f"{number}\n"] * 6
    finally:
        for shell in shells:
            shell.close()


def test_a_bench_that_is_not_up_is_told_with_those_that_are(bench: Bench) -> None:
    with pytest.raises(ConfigurationError, match=f"no bench nowhere is up; up now: .*{bench.name}"):
        Bench.attach("nowhere")


def test_the_boards_of_a_bench_that_is_up_are_leased(bench: Bench) -> None:
    boards = lease_keys(bench.lab, bench.name)
    (claim,) = [claim for claim in Leases().list() if set(claim.boards) == set(boards)]
    assert claim.purpose == f"bench {bench.name}"
    with pytest.raises(LeaseTaken, match=f"bench {bench.name}"):
        Leases().take(boards[:1], purpose="somebody else's")


def test_two_runs_cannot_use_a_kept_bench_at_once(bench: Bench) -> None:
    boards = lease_keys(bench.lab, bench.name)
    first = Leases().take(boards, purpose="the first run", within=bench.state.lease)
    with first, pytest.raises(LeaseTaken, match="the first run"):
        Leases().take(boards, purpose="the second run", within=bench.state.lease)
    Leases().take(boards, purpose="the second run", within=bench.state.lease).free()


PLAN = """\
schema: 1
id: tenants
title: A tenant works beside another
requirements:
  - {id: TEN-1, text: An upload reaches all boards of a tenant., method: T, level: system, fidelity_needed: virtual}
"""
TESTS = """
import pytest
from pathlib import Path
from hil.core.wait import wait_until
from hil.evidence.model import equals

@pytest.mark.requirement("TEN-1")
def test_an_upload_beside_another(bench, fleet, rollout, payload, separation, verify, request):
    Path(__file__).with_name(bench.tenant).touch()
    others = [name for name in ("alpha", "beta") if name != bench.tenant]
    there = [Path(__file__).with_name(name) for name in (*others, "third")]
    wait_until(lambda: all(each.exists() for each in there), what="the others to begin", deadline_s=60)
    scene = payload.scene
    with bench.links.cut("isl-ab"):
        rollout.upload(scene)
    before = separation.bytes_into()
    transfers = rollout.relay(scene)
    verify("boards", sorted(fleet.names), limit=equals(sorted(bench.boards)))
    for transfer in transfers:
        verify("received", transfer.bytes_received, "B", limit=equals(scene.size_bytes), board=transfer.board)
    verify("whole scenes across", (separation.bytes_into() - before) // scene.size_bytes, limit=equals(1))
"""


def test_two_tenants_run_side_by_side_and_a_third_is_told_what_is_free(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "tenants"
    folder.mkdir()
    (folder / "plan.yaml").write_text(PLAN)
    (folder / "test_tenants.py").write_text(TESTS)

    def start(*words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(folder), "--hil-bench", bench.name]
        out = ["--hil-out", str(tmp_path / "out")]
        return subprocess.Popen([*argv, *out, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    runs = {tenant: start("--hil-tenant", tenant, "--hil-run-id", tenant) for tenant in ("alpha", "beta")}
    wait_until(lambda: all((folder / tenant).exists() for tenant in runs), what="both to begin", deadline_s=90)
    third = start("--hil-run-id", "third")
    refused, _ = third.communicate(timeout=60)
    assert third.returncode == 3, refused
    assert "tenant alpha" in refused
    (folder / "third").touch()
    said = {tenant: run.communicate(timeout=120)[0] for tenant, run in runs.items()}
    assert [run.returncode for run in runs.values()] == [0, 0], "\n".join(said.values())
    evidence = {tenant: json.loads((tmp_path / "out/runs" / tenant / "run.json").read_text()) for tenant in runs}
    assert [sorted(meta["boards"]) for meta in evidence.values()] == [["a1", "a2", "b1"], ["a3", "b2", "b3"]]
    assert not bench.links.differences()
