"""An aircraft or a satellite of a third party asks for a mask while it flies from spacecraft to spacecraft."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from hil.evidence.model import at_least, at_most, equals

SETTLED_S = 1.0
"""So long after a hand-over the guest's reach is tried."""
TRIED_S = 5.0
TCP = """\
import select, socket, sys, time
end, waiting = time.monotonic() + float(sys.argv[1]), {}
for target in sys.argv[2:]:
    host, port = target.split(":")
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((host, int(port)))
    waiting[sock] = target
while waiting and (left := end - time.monotonic()) > 0:
    for sock in select.select([], list(waiting), [], left)[1]:
        target = waiting.pop(sock)
        print("refused" if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else "reached", target)
for target in waiting.values():
    print("silent", target)
"""
"""Tries all at once, for so many seconds: its own link may be full of what the guest sends."""


@dataclass
class Flight:
    """What was seen of one guest's flight; times in seconds on the bench's clock, from its epoch on."""

    services: list[Any]
    mask: bytes = b""
    events: list[Any] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    tried: int = 0
    asked: int = 0

    def at_s(self, what, zero_ns):
        """Return when the guest said ``what``, each time."""
        return [event.mono_s - zero_ns / 1e9 for event in self.events if event.what == what]


@pytest.fixture(scope="module")
def guest(bench):
    """The first guest of the lab that is a container."""
    if not bench.guests or bench.orbit is None:
        pytest.skip("the lab has no guest in a container, or no orbit")
    return next(iter(bench.guests.values()))


@pytest.fixture(scope="module")
def cluster(bench, guest):
    """The boards of the tenant that serves the guest, or all: their gateway is the guest's board."""
    from hil.rollout.fleet import Fleet

    tenant = bench.lab.tenant_of(guest.site.board)
    names = tenant.boards if tenant else list(bench.boards)
    return Fleet.of({name: bench.boards[name] for name in names}, guest.site.board, operator=bench.operator)


@pytest.fixture(scope="module")
def flight(bench, guest, cluster, bundles, payload):
    """The whole flight: the guest asks before its first contact, the cluster serves shortly before the last one."""
    from hil.errors import BenchError
    from hil.rollout.rollout import Rollout

    orbit = bench.orbit
    services = [service for service in orbit.services if service.guest == guest.name]
    if len(services) < 3 or orbit.now_s() > services[0].start_s:
        raise BenchError(
            f"guest {guest.name}: its first contact was over or too near when the bench came up",
            remedy="use a quieter host, or an earlier `orbit.epoch` in the lab file",
        )
    seen, last = Flight(services), services[-1]
    asking = guest.ask(payload.scene.path.read_bytes(), deadline_s=last.end_s - orbit.now_s())
    rollout = Rollout(cluster, bundles.os_v2)
    rollout.distribute(payload.model)
    version = bench.images.factory.version
    for service in services[:-1]:
        _wait(orbit, service.start_s + SETTLED_S)
        _reach(bench, guest, seen)
    _wait(orbit, last.start_s - 8.0)
    config = cluster.config(os_version=version, model=payload.model.sha256)
    # Networks are loaded by then, and the job lasts across the last hand-over
    rollout.configure(config, between_phases=lambda epoch: _wait(orbit, last.start_s - 1.5))
    seen.mask = asking.mask(deadline_s=max(1.0, last.end_s - orbit.now_s()))
    seen.events = asking.events()
    return seen


def _wait(orbit, until_s):
    time.sleep(max(0.0, until_s - orbit.now_s()))


def _reach(bench, guest, seen):
    """Try every port that the guest may and may not reach, from the guest; and the guest from a board."""
    from hil.errors import BenchError
    from hil.lab.addressing import node_address
    from hil.onboard.node.answers import PORT

    boards, serving = bench.plumbing.addresses, guest.site.address
    routers = [node_address(bench.lab, craft.name) for craft in bench.lab.spacecraft]
    places = [found.flight for found in boards.values()] + [found.management for found in boards.values()] + routers
    targets = [f"{place}:{port}" for place in places for port in (22, PORT)]
    status, said = guest.run(["/usr/bin/python3", "-S", "-c", TCP, str(TRIED_S), *targets], timeout_s=3 * TRIED_S)
    lines = [line.split() for line in said.splitlines()]
    if status != 0 or len(lines) != len(targets):
        raise BenchError(f"guest {guest.name}: the attempts did not end: {said[-200:]!r}")
    reached = [target for word, target in lines if word == "reached"]
    seen.asked += reached.count(serving)
    seen.reached += [target for target in reached if target != serving]
    seen.tried += len(targets) - 1


@pytest.mark.requirement("GST-010")
@pytest.mark.step("hand-overs")
def test_the_guest_is_handed_over_as_its_contacts_open_and_close(bench, guest, flight, parameters, measure, verify):
    """Its route goes from spacecraft to spacecraft by the plan, and its request goes on."""
    from hil.bench.state import routes_log

    orbit, links = bench.orbit, {link.name for link in bench.lab.links if guest.name in link.between}
    lines = [json.loads(line) for line in routes_log(bench.name).read_text().splitlines()]
    came = [(line["mono_s"] - orbit.zero_ns / 1e9, name) for line in lines for name in line.get("came", ())]
    way = [(at_s, bench.lab.link(name).between) for at_s, name in came if name in links]
    verify("spacecraft that served it", len(way), limit=equals(len(flight.services)))
    measure("hand-overs", len(way) - 1, limit=at_least(2))
    for (at_s, ends), service in zip(way, flight.services, strict=True):
        assert service.spacecraft in ends, f"{ends} where {service.spacecraft} was to serve"
        late = abs(at_s - service.start_s)
        limit = at_most(parameters["most_apart_s"])
        measure("route against the plan", round(late, 3), "s", limit=limit, slot=service.spacecraft)
    measure("mission seconds in a second of the bench", orbit.time_factor)


@pytest.mark.requirement("GST-020")
@pytest.mark.step("result")
@pytest.mark.needs("hand-overs")
def test_its_job_ran_once_across_the_hand_overs_and_its_result_is_right(
    bench, cluster, flight, payload, measure, verify
):
    """The mask against the ground's own, pixel by pixel; the jobs that the board has run; who asked for what."""
    from hil.boards.protocol import Via
    from hil.errors import DeviceError
    from hil.onboard.node.errors import ApiError
    from hil.onboard.node.infer import from_npy
    from hil.rollout.node_client import NodeClient
    from hil.workload.compare import compare, limits_of, read_mask

    orbit, last = bench.orbit, flight.services[-1]
    with NodeClient(cluster, cluster.gateway, Via.FLIGHT) as client:
        job = client.call("GET", "/jobs/1")
        another = client.raw("GET", "/jobs/2")[0] == 200
    different, least_iou = limits_of(work.get("provider", "") for work in job["boards"].values())
    try:
        found = compare(from_npy(flight.mask), read_mask(payload.golden))
    except ApiError as exc:
        raise DeviceError(f"the mask is {exc.message}") from exc
    measure("pixels that differ", found.mismatched_pixels, limit=at_most(different * found.pixels))
    measure("intersection over union", round(found.iou, 6), limit=at_least(least_iou))
    measure("jobs that were run", 1 + another, limit=equals(1))
    verify("results that it got", len(flight.at_s("got", orbit.zero_ns)), limit=equals(1))
    measure("boards that computed", sum(work["tiles"] > 0 for work in job["boards"].values()))
    first = flight.services[0]
    for what, least_s in (("joined", first.start_s), ("sent", first.end_s), ("got", last.start_s)):
        (at_s, *_) = flight.at_s(what, orbit.zero_ns)
        measure(f"time at which it had {what}", round(at_s, 2), "s", limit=at_least(round(least_s, 2)))


@pytest.mark.requirement("GST-030")
@pytest.mark.step("isolation")
@pytest.mark.needs("hand-overs")
def test_the_guest_reaches_the_service_of_its_board_and_nothing_else(bench, guest, cluster, flight, measure):
    """Ports of all boards and routers, tried in each contact but the last; what the boards were asked by guests."""
    from hil.boards.protocol import Via
    from hil.lab.addressing import guest_address
    from hil.rollout.node_client import NodeClient

    measure("attempts at others", flight.tried, limit=at_least(1))
    measure("of these reached", len(flight.reached), limit=equals(0))
    measure("times that it reached its board", flight.asked, limit=equals(len(flight.services) - 1))
    asked = {}
    for name in cluster.names:
        with NodeClient(cluster, name, Via.FLIGHT) as client:
            counts = client.call("GET", "/record")["counts"]
        asked[name] = sum(each["count"] for each in counts if str(each["who"]).startswith("guest/"))
    measure("requests of guests at its board", asked.pop(cluster.gateway), limit=at_least(1))
    measure("requests of guests at other boards", sum(asked.values()), limit=equals(0))
    with bench.boards[cluster.gateway].shell() as shell:
        address = guest_address(bench.lab, guest.name)
        answered = shell.run(["ping", "-c1", "-W1", address], check=False).returncode == 0
    measure("guest answers who was not asked", int(answered), limit=equals(0))
