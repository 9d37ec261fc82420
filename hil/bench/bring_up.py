"""The order in which a bench comes up: engine, images, orbit, namespaces, links and boards, boot."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from hil.bench.equipment import PARALLEL, FirmwarePids, KeeperEquipment, guests_of
from hil.bench.host_nics import HostNics
from hil.bench.leftovers import remove_earlier
from hil.bench.plumbing import Plumbing
from hil.bench.routing import Router, Routing
from hil.bench.state import disk_dir, link_socket, orbit_file, routes_log, schedule_log
from hil.errors import HilError
from hil.host.engine.engine import engine
from hil.images.flight_pki import flight_pki
from hil.images.images import Images, ensure_images
from hil.images.pki import ensure_pki
from hil.images.recipes import recipe_of
from hil.lab.model import Lab
from hil.links.link_box import LinkBox
from hil.links.schedule.player import Player
from hil.links.wires import ShaperHost, Wire

if TYPE_CHECKING:
    from docker import DockerClient

    from hil.bench.orbit_clock import OrbitClock

_log = logging.getLogger(__name__)


class BringUp:
    """The steps that bring a bench up.  ``stack`` takes everything down in the reverse order.

    ``set_state`` writes fields of the bench's state: the step now, the seconds that each step took, the result.
    ``on_problem`` is told when later on the links do not follow the schedule.
    """

    def __init__(
        self,
        name: str,
        lab: Lab,
        epoch: str | None,
        stack: ExitStack,
        set_state: Callable[..., None],
        on_problem: Callable[[str], None],
    ) -> None:
        self.name = name
        self.lab = lab
        self.epoch = epoch
        self._stack = stack
        self._set_state = set_state
        self._on_problem = on_problem
        self._phases_s: dict[str, float] = {}

    def run(self) -> None:
        """Bring everything up, in order."""
        self._stack.callback(shutil.rmtree, disk_dir(self.name), ignore_errors=True)
        client, images = self._engine_and_images()
        orbit = self._orbit()
        plumbing = self._namespaces(orbit)
        equipment = KeeperEquipment(plumbing, client, images, ensure_pki(), self._stack)
        box = self._links_and_boards(plumbing, equipment, orbit)
        self._guests(plumbing, client, images)
        modes = self._boot(equipment)
        self._twin(client, equipment)
        self._set_state(
            engine={
                "kind": box.engine,
                "reason": box.engine_reason,
                "kernel_release": box.kernel_release,
                "profile": box.profile,
            },
            hardware_image=images.hardware_image_id,
            power_modes=modes,
            consoles={name: asdict(line) | {"log": str(line.log)} for name, line in equipment.consoles.items()},
        )

    def _engine_and_images(self) -> tuple[DockerClient, Images]:
        """Start the container engine, remove what an earlier bench of this name left, build what boards boot."""
        with self._phase("container engine"):
            client = self._stack.enter_context(engine())
        with self._phase("clear the way"):
            remove_earlier(self.name, client)
        with self._phase("images"):
            recipe = recipe_of(self.lab.os.adapter)
            return client, ensure_images(client, lambda line: self._set_state(step=line), recipe=recipe)

    def _orbit(self) -> OrbitClock | None:
        """Compute the links' phases; None for a lab without an orbit."""
        if not (self.lab.orbit or self.epoch):
            return None
        from hil.bench.orbit_clock import OrbitClock  # numpy and SGP4: only where there is an orbit

        with self._phase("orbit"):
            return OrbitClock.ahead(self.lab, self.epoch)

    def _namespaces(self, orbit: OrbitClock | None) -> Plumbing:
        """Build the namespaces, and bring this host's link NICs into them where a shaper host has the other ends."""
        plumbing = Plumbing(self.name, self.lab)
        self._stack.callback(plumbing.remove)
        with self._phase("namespaces"):
            plumbing.build()
            nics = HostNics(self.lab.shaper_host)
            self._stack.callback(nics.give_back)
            nics.take(_wires(plumbing, orbit))
        return plumbing

    def _links_and_boards(self, plumbing: Plumbing, equipment: KeeperEquipment, orbit: OrbitClock | None) -> LinkBox:
        """Bring the link box up and give the boards power, at the same time."""
        with self._phase("links and boards"), ThreadPoolExecutor(PARALLEL + 1) as pool:
            box = pool.submit(
                lambda: LinkBox.up(
                    plumbing.box,
                    _wires(plumbing, orbit),
                    socket_path=link_socket(self.name),
                    engine=self.lab.engine,
                    profile=self.lab.bench.link_profile,
                    seed=self.lab.bench.seed,
                    shaper_host=ShaperHost.of(self.lab.shaper_host) if self.lab.shaper_host else None,
                )
            )
            box.add_done_callback(lambda done: _close_later(self._stack, done))
            self._stack.callback(equipment.take_down)
            started = [pool.submit(equipment.power_on, board) for board in self.lab.boards]
            self._follow(plumbing, box.result(), orbit)
            for future in started:
                future.result()
        return box.result()

    def _guests(self, plumbing: Plumbing, client: DockerClient, images: Images) -> None:
        """Start the guests that are containers, each with a certificate of this bench."""
        if not self.lab.guests:
            return
        pki = flight_pki(disk_dir(self.name))
        with self._phase("guests"):
            for guest in guests_of(plumbing, client, images.hardware_image_id).values():
                self._stack.callback(guest.remove)
                guest.make(pki, partial(plumbing.plug_guest, guest.name))
            for spec in self.lab.guests:
                pki.tls("guest", spec.name)  # that of a real machine is brought there by hand

    def _boot(self, equipment: KeeperEquipment) -> dict[str, str]:
        """Wait until every board has booted; return the power modes that the lab file wants, by board."""
        boards = self.lab.boards
        with self._phase("boot"), ThreadPoolExecutor(len(boards)) as pool:
            list(pool.map(equipment.wait_booted, boards))
            modes = pool.map(equipment.choose_power_mode, boards)
            return {board.name: mode for board, mode in zip(boards, modes, strict=True) if mode}

    def _twin(self, client: DockerClient, equipment: KeeperEquipment) -> None:
        """Start the twin of a lab that has one in the loop: from now on boards feel heat and power."""
        if not (self.lab.twin and self.lab.twin.loop):
            return
        from hil.bench.twin import TwinRunner  # numpy: only where there is a twin

        with self._phase("twin"):
            pids = FirmwarePids(client, self.name)
            twin = TwinRunner.of(self.name, self.lab, equipment.boards, pids.of, self._on_problem, self.epoch)
            self._stack.callback(twin.close)
            twin.start()

    def _follow(self, plumbing: Plumbing, box: LinkBox, orbit: OrbitClock | None) -> None:
        """Set addresses and routes; from now on links and routes follow the orbit."""
        name = self.name
        plumbing.address_links()
        routing = Routing(plumbing)
        routing.apply()  # every way there could be, so that what cannot be reached now is lost on a link, not refused
        usable: Callable[[], frozenset[str]] = partial(frozenset, box.links)
        if orbit:
            orbit.zero_ns = time.monotonic_ns()
            orbit.save(orbit_file(name))
            Player(box, orbit, zero_ns=orbit.zero_ns, log_path=schedule_log(name), on_error=self._note).start()
            usable = orbit.usable
        self._stack.callback(Router(routing, lambda: usable() - box.cut_links(), routes_log(name)).close)

    def _note(self, error: HilError) -> None:
        _log.error("schedule: %s", error)  # links stay as they are
        self._on_problem(f"the links do not follow the schedule: {error.message}")

    @contextmanager
    def _phase(self, step: str) -> Iterator[None]:
        _log.info("%s", step)
        self._set_state(step=step)
        start = time.monotonic()
        yield
        self._phases_s[step] = round(time.monotonic() - start, 3)
        self._set_state(phases_s=dict(self._phases_s))


def _wires(plumbing: Plumbing, orbit: OrbitClock | None) -> list[Wire]:
    return plumbing.wires({row.link: row for row in orbit.window(0, 0)} if orbit else {})


def _close_later(stack: ExitStack, done: Future[LinkBox]) -> None:
    """Whatever else fails meanwhile, a link box that came up is closed."""
    if not done.cancelled() and done.exception() is None:
        stack.callback(done.result().close)
