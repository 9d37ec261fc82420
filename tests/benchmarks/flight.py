"""Flight security: what it costs a rollout, and what a hostile node on the flight network gets and costs."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from hil.bench.bench import Bench
from hil.bench.reset import renew
from hil.bench.state import disk_dir
from hil.boards.protocol import Board, Via
from hil.core import paths
from hil.images.flight_pki import flight_pki
from hil.onboard.node.answers import PORT
from hil.rollout.fleet import ClusterConfig, Fleet
from hil.rollout.node_client import NodeClient
from hil.rollout.rollout import Rollout
from hil.rollout.watcher import InvariantWatcher
from hil.testing.attacker import Attacker, Loot, loot_of
from tests.benchmarks.figures import Figure
from tests.kits.hil_command import Hil

TURNS = 5
ATTACK_S, CAMPAIGN_S = 300.0, 900.0
SHARED, TENANT = paths.ROOT / "lab/two-customers.yaml", "beta"
ALONE_TURNS = 3
STOP_S = 30.0
NICE = 10
Told = tuple[Counter[str], Counter[str], list[str], list[str]]


def flight(lab: Path) -> Iterator[Figure]:
    """Rollouts with and without flight security, in turns."""
    took: dict[str, list[float]] = {"none": [], "mtls": []}
    for _ in range(TURNS):
        for security, seconds in took.items():
            with _bench(lab, security) as bench:
                rollout = Rollout(_fleet(bench), bench.images.bundles.os_v2)
                begin = time.monotonic()
                rollout.run(_configuration(bench, 1))
                seconds.append(time.monotonic() - begin)
    plain, secured = (statistics.median(seconds) for seconds in took.values())
    spread = "; ".join(f"{name}: {', '.join(f'{s:.2f}' for s in seconds)} s" for name, seconds in took.items())
    yield Figure("rollout, flight_security: none", round(plain, 2), "s", "", f"median of {TURNS}")
    yield Figure("rollout, flight_security: mtls", round(secured, 2), "s", "", f"median of {TURNS}; {spread}")
    yield Figure("cost of flight security", round(100 * (secured / plain - 1), 1), "%", "<= 5", "same run, in turns")


def attack(lab: Path) -> Iterator[Figure]:
    """A tenant's campaign and rollouts while a router attacks all boards of their bench for five minutes."""
    with (
        _bench(SHARED, "mtls") as whole,
        closing(Bench.attach(whole.name, tenant=TENANT)) as bench,
        tempfile.TemporaryDirectory(prefix="hil-attack-") as folder,
    ):
        scratch, fleet = Path(folder), _fleet(bench)
        others = {name: board for name, board in whole.boards.items() if name not in bench.boards}
        alone = [_one_rollout(bench, fleet, 1 + turn) for turn in range(ALONE_TURNS)]
        loot = replace(loot_of(flight_pki(disk_dir(whole.name)), scratch), orders=[_used_order(fleet)])
        targets = {name: (found.flight, PORT) for name, found in whole.plumbing.addresses.items()}
        before = {name: _state(whole, board) for name, board in others.items()}
        under_attack: list[float] = []
        space = whole.plumbing.namespace(fleet.members[-1].spacecraft)  # from another tenant's place nothing gets there
        end = time.monotonic() + ATTACK_S
        with _attacking(space, targets, loot) as attacker:
            verdict = _campaign(whole.name, scratch / "reports")
            renew(bench, dict.fromkeys(fleet.names, "the rollouts"))
            with InvariantWatcher(fleet) as watcher:
                while time.monotonic() < end or not under_attack:
                    under_attack.append(_one_rollout(bench, fleet, 1 + ALONE_TURNS + len(under_attack)))
        changed = [name for name, board in others.items() if _state(whole, board) != before[name]]
        held = {name: _held(fleet, name) for name in fleet.names}
    wanted = {bench.images.bundles.os_v2.sha256}
    yield Figure(
        "attacks",
        sum(attacker.attempts.values()),
        "",
        "",
        f"in {ATTACK_S:g} s; that reached a board: {dict(attacker.reached)}",
    )
    never = [name for name in attacker.attempts if not attacker.reached[name]]
    yield Figure("kinds of attack that never reached a board", len(never), "", "<= 0", ", ".join(never))
    yield Figure("faults of the attacker itself", len(attacker.broken), "", "<= 0", "; ".join(attacker.broken[:3]))
    yield Figure(
        "attacks that were granted something", len(attacker.let_in), "", "<= 0", "; ".join(attacker.let_in[:3])
    )
    yield Figure("tenant's campaigns that did not pass", int(verdict != "PASS"), "", "<= 0", f"six_gpu: {verdict}")
    yield Figure("tenant's boards with another artefact", sum(h != wanted for h in held.values()), "", "<= 0", "of six")
    yield Figure("other tenant's boards that changed", len(changed), "", "<= 0", f"of {len(others)}; {changed}")
    yield Figure("moments of a mixed cluster", len(watcher.report().violations), "", "<= 0", "by the watcher")
    yield Figure(
        "rollouts that passed under attack", len(under_attack), "", ">= 1", "each of six boards, from the factory"
    )
    usual, attacked = statistics.median(alone), statistics.median(under_attack)
    each = ", ".join(f"{seconds:.2f}" for seconds in alone)
    yield Figure("rollout under attack", round(attacked, 2), "s", "", f"median; slowest {max(under_attack):.2f} s")
    yield Figure("rollout alone", round(usual, 2), "s", "", f"median of {each} s")
    yield Figure("under attack / alone", round(attacked / usual, 2), "", "<= 1.2", "medians, same bench")
    yield Figure("slowest / slowest alone", round(max(under_attack) / max(alone), 2), "", "", "same bench")


@contextmanager
def _attacking(space: str, targets: Mapping[str, tuple[str, int]], loot: Loot) -> Iterator[Attacker]:
    """Attack until the block ends, in a process of its own at a low priority; what it did is known at the end.

    A hostile node computes on its own processor: here it shares this host's, and in this process it would also hold up
    the rollout's own program.
    """
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_attack_until_told, args=(there, space, dict(targets), loot), daemon=True)
    process.start()
    seen = Attacker(space, targets, loot)
    try:
        yield seen
    finally:
        with suppress(OSError):  # it may be gone
            here.send("stop")
        try:
            seen.attempts, seen.reached, seen.let_in, seen.broken = here.recv() if here.poll(STOP_S) else _SILENT
        except EOFError:
            seen.attempts, seen.reached, seen.let_in, seen.broken = _SILENT
        process.join(STOP_S)
        process.kill()


_SILENT: Told = (Counter({"none": 0}), Counter(), [], ["the attacker's process ended without a word"])


def _attack_until_told(line: Connection, space: str, targets: Mapping[str, tuple[str, int]], loot: Loot) -> None:
    os.nice(NICE)
    os.setsid()
    with suppress(OSError):  # where the kernel groups tasks by session, niceness alone holds only within a session
        Path("/proc/self/autogroup").write_text(str(NICE))
    with Attacker(space, targets, loot) as attacker:
        line.recv()
    line.send((attacker.attempts, attacker.reached, attacker.let_in, attacker.broken))


@contextmanager
def _bench(lab: Path, security: str) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="hil-flight-") as folder:
        file = Path(folder) / lab.name
        file.write_text(f"{lab.read_text()}\nflight_security: {security}\n")
        with Bench(file) as bench:
            yield bench


def _fleet(bench: Bench) -> Fleet:
    return Fleet.of(bench.boards, bench.lab.gateway, operator=bench.operator)


def _configuration(bench: Bench, revision: int) -> ClusterConfig:
    bundle = bench.images.bundles.os_v2
    return _fleet(bench).config(
        os_version=bundle.version, image_sha256=bundle.image_sha256, params={"revision": revision}
    )


def _one_rollout(bench: Bench, fleet: Fleet, revision: int) -> float:
    """Bring all boards to the factory's state and roll out; the seconds from the first byte to six that serve."""
    renew(bench, dict.fromkeys(fleet.names, "the next rollout"))
    begin = time.monotonic()
    Rollout(fleet, bench.images.bundles.os_v2).run(_configuration(bench, revision))
    return time.monotonic() - begin


def _used_order(fleet: Fleet) -> tuple[str, str, bytes, dict[str, str]]:
    """Return an order that was followed."""
    assert fleet.operator is not None
    path = f"/artefacts/{'1' * 64}"
    order = ("DELETE", path, b"", fleet.operator.sign(fleet.gateway, "DELETE", path, b""))
    with NodeClient(fleet, fleet.gateway, Via.MANAGEMENT) as client:
        client._peer.request(*order[:3], headers=order[3])
    return order


def _held(fleet: Fleet, board: str) -> set[str]:
    with NodeClient(fleet, board, Via.MANAGEMENT) as client:
        return {str(each["id"]) for each in client.call("GET", "/artefacts")["artefacts"]}


def _state(bench: Bench, board: Board) -> tuple[str, str, set[str]]:
    """Return of a board what an attack may not change: its boot, its slot, the artefacts that it holds."""
    identity = board.identity()
    return identity.boot_id, identity.slot, _held(_fleet(bench), board.name)


def _campaign(bench: str, out: Path) -> str:
    """Run the six-GPU campaign of the tenant; return its verdict, or the last words of one that came to none."""
    options = ("--bench", bench, "--tenant", TENANT, "-o", str(out), "-q")
    done = Hil()("campaign", "run", "six_gpu", *options, timeout_s=CAMPAIGN_S)
    results = [json.loads(result.read_text("utf-8")) for result in out.glob("runs/*/result.json")]
    return str(results[0]["verdict"]) if results else (done.stderr or done.stdout)[-300:]
