"""The keeper: one process per bench that owns what needs a live process, and removes all of it at the end.

It brings the bench up, writes ``bench.json``, and then waits: for SIGTERM (``hil bench down``), or, when it is
tied to the process that started it, for the end of its standard input (that process ended, however it ended).
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.bench.equipment import PARALLEL, KeeperEquipment
from hil.bench.host_nics import HostNics
from hil.bench.leftovers import remove_earlier
from hil.bench.plumbing import Plumbing
from hil.bench.routing import Router, Routing
from hil.bench.state import (
    BenchState,
    bench_dir,
    disk_dir,
    hold,
    keeper_log,
    lease_keys,
    link_socket,
    orbit_file,
    routes_log,
    schedule_log,
    write_state,
)
from hil.core.log import log_file
from hil.errors import BenchError, HarnessError, HilError
from hil.host.engine.engine import engine
from hil.images.images import Images, ensure_images
from hil.images.pki import ensure_pki
from hil.images.recipes import recipe_of
from hil.lab.model import load_lab
from hil.leases.leases import Lease, Leases
from hil.links.link_box import LinkBox
from hil.links.schedule.player import Player
from hil.links.wires import ShaperHost, Wire

if TYPE_CHECKING:
    from docker import DockerClient

    from hil.bench.orbit_clock import OrbitClock

_log = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stop(BaseException):
    """It was asked to end; a BaseException so that no handler of errors takes it for one."""


def main() -> int:
    """``python -m hil.bench.keeper --name N --lab FILE [--epoch TIME] [--tied]``."""
    parser = argparse.ArgumentParser(prog="hil-bench-keeper")
    parser.add_argument("--name", required=True)
    parser.add_argument("--lab", required=True, type=Path)
    parser.add_argument("--epoch", help="moment of the mission at which the bench starts, ISO 8601 UTC")
    parser.add_argument("--lease-wait-s", type=float, help="queue so long for boards that somebody else has")
    parser.add_argument("--tied", action="store_true", help="end when standard input ends")
    args = parser.parse_args()
    keeper = Keeper(args.name, args.lab, epoch=args.epoch, lease_wait_s=args.lease_wait_s, tied=args.tied)
    with log_file(keeper_log(args.name)):
        return keeper.run()


class Keeper:
    """See the module."""

    def __init__(
        self, name: str, lab_path: Path, *, epoch: str | None, lease_wait_s: float | None, tied: bool
    ) -> None:
        self.tied = tied
        self.epoch = epoch
        self.lease_wait_s = lease_wait_s
        self.lab = load_lab(lab_path)
        self.state = BenchState(
            name=name,
            lab_path=str(lab_path),
            keeper_pid=os.getpid(),
            status="starting",
            tied=tied,
            started_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def run(self) -> int:
        """Bring up, wait, take down; the process's exit code."""
        for number in STOP_SIGNALS:
            signal.signal(number, _asked_to_stop)
        with hold(self.state.name):
            try:
                if self.tied:
                    threading.Thread(target=_stop_at_end_of_stdin, daemon=True).start()
                with ExitStack() as stack:
                    lease = self._lease(stack)
                    self._bring_up(stack)
                    self._set(status="up", step="")
                    while not lease.lost:
                        time.sleep(1.0)
                    raise BenchError(
                        "the boards of this bench were freed by force and are somebody else's now",
                        remedy="see `hil lease list`, then bring the bench up again",
                    )
            except Stop:
                pass
            except Exception as exc:
                self._failed(exc)
                return 1
            self._set(status="down", step="")
            shutil.rmtree(bench_dir(self.state.name), ignore_errors=True)
            return 0

    def _bring_up(self, stack: ExitStack) -> None:
        """Bring everything up, in order; ``stack`` takes it down in the reverse order."""
        stack.callback(shutil.rmtree, disk_dir(self.state.name), ignore_errors=True)
        client, images = self._engine_and_images(stack)
        orbit = self._orbit()
        plumbing = self._namespaces(orbit, stack)
        equipment = KeeperEquipment(plumbing, client, images, ensure_pki(), stack)
        box = self._links_and_boards(plumbing, equipment, orbit, stack)
        modes = self._boot(equipment)
        self._set(
            engine={
                "kind": box.engine,
                "reason": box.engine_reason,
                "kernel_release": box.kernel_release,
                "profile": box.profile,
            },
            hardware_image=images.hardware_image_id,
            power_modes=modes,
            consoles={
                name: asdict(line) | {"log": str(line.log)} for name, line in equipment.consoles.items()
            },
        )

    def _engine_and_images(self, stack: ExitStack) -> tuple[DockerClient, Images]:
        """Start the container engine, remove what an earlier bench of this name left, build what boards boot."""
        with self._phase("container engine"):
            client = stack.enter_context(engine())
        with self._phase("clear the way"):
            remove_earlier(self.state.name, client)
        with self._phase("images"):
            recipe = recipe_of(self.lab.os.adapter)
            return client, ensure_images(client, lambda line: self._set(step=line), recipe=recipe)

    def _orbit(self) -> OrbitClock | None:
        """Compute the links' phases; None for a lab without an orbit."""
        if not (self.lab.orbit or self.epoch):
            return None
        from hil.bench.orbit_clock import OrbitClock  # numpy and SGP4: only where there is an orbit

        with self._phase("orbit"):
            return OrbitClock.ahead(self.lab, self.epoch)

    def _namespaces(self, orbit: OrbitClock | None, stack: ExitStack) -> Plumbing:
        """Build the namespaces, and bring this host's link NICs into them where a shaper host has the other ends."""
        plumbing = Plumbing(self.state.name, self.lab)
        stack.callback(plumbing.remove)
        with self._phase("namespaces"):
            plumbing.build()
            nics = HostNics(self.lab.shaper_host)
            stack.callback(nics.give_back)
            nics.take(_wires(plumbing, orbit))
        return plumbing

    def _links_and_boards(
        self, plumbing: Plumbing, equipment: KeeperEquipment, orbit: OrbitClock | None, stack: ExitStack
    ) -> LinkBox:
        """Bring the link box up and give the boards power, at the same time."""
        with self._phase("links and boards"), ThreadPoolExecutor(PARALLEL + 1) as pool:
            box = pool.submit(
                lambda: LinkBox.up(
                    plumbing.box,
                    _wires(plumbing, orbit),
                    socket_path=link_socket(self.state.name),
                    engine=self.lab.engine,
                    profile=self.lab.bench.link_profile,
                    seed=self.lab.bench.seed,
                    shaper_host=ShaperHost.of(self.lab.shaper_host) if self.lab.shaper_host else None,
                )
            )
            box.add_done_callback(lambda done: _close_later(stack, done))
            stack.callback(equipment.take_down)
            started = [pool.submit(equipment.power_on, board) for board in self.lab.boards]
            self._follow(plumbing, box.result(), orbit, stack)
            for future in started:
                future.result()
        return box.result()

    def _boot(self, equipment: KeeperEquipment) -> dict[str, str]:
        """Wait until every board has booted; return the power modes that the lab file wants, by board."""
        boards = self.lab.boards
        with self._phase("boot"), ThreadPoolExecutor(len(boards)) as pool:
            list(pool.map(equipment.wait_booted, boards))
            modes = pool.map(equipment.choose_power_mode, boards)
            return {board.name: mode for board, mode in zip(boards, modes, strict=True) if mode}

    def _lease(self, stack: ExitStack) -> Lease:
        """The right to use the boards: had before anything of theirs is touched, given back after everything."""
        lease = stack.enter_context(
            Leases().take(
                lease_keys(self.lab, self.state.name),
                purpose=f"bench {self.state.name}",
                wait_s=self.lease_wait_s,
                progress=lambda line: self._set(step=line),
            )
        )
        self._set(lease=str(lease.id))
        return lease

    def _follow(self, plumbing: Plumbing, box: LinkBox, orbit: OrbitClock | None, stack: ExitStack) -> None:
        """Set addresses and routes; from now on links and routes follow the orbit."""
        name = self.state.name
        plumbing.address_links()
        routing = Routing(plumbing)
        routing.apply()  # every way there could be, so that what cannot be reached now is lost on a link, not refused
        usable: Callable[[], frozenset[str]] = partial(frozenset, box.links)
        if orbit:
            orbit.zero_ns = time.monotonic_ns()
            orbit.save(orbit_file(name))
            Player(box, orbit, zero_ns=orbit.zero_ns, log_path=schedule_log(name), on_error=_note).start()
            usable = orbit.usable
        stack.callback(Router(routing, lambda: usable() - box.cut_links(), routes_log(name)).close)

    @contextmanager
    def _phase(self, step: str) -> Iterator[None]:
        _log.info("%s", step)
        self._set(step=step)
        start = time.monotonic()
        yield
        self._set(phases_s={**self.state.phases_s, step: round(time.monotonic() - start, 3)})

    def _set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        write_state(self.state)

    def _failed(self, exc: Exception) -> None:
        traceback.print_exc()
        told = exc if isinstance(exc, HilError) else HarnessError(f"{type(exc).__name__}: {exc}")
        self._set(
            status="failed",
            error={"blame": told.blame.value, "message": told.message, "remedy": told.remedy},
        )


def _wires(plumbing: Plumbing, orbit: OrbitClock | None) -> list[Wire]:
    return plumbing.wires({row.link: row for row in orbit.window(0, 0)} if orbit else {})


def _note(error: HilError) -> None:
    _log.error("schedule: %s", error)  # links stay as they are: calibration or the campaign will meet them


def _asked_to_stop(number: int, frame: object) -> None:
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # going down already: let that finish
    raise Stop


def _stop_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _close_later(stack: ExitStack, done: Future[LinkBox]) -> None:
    """Whatever else fails meanwhile, a link box that came up is closed."""
    if not done.cancelled() and done.exception() is None:
        stack.callback(done.result().close)


if __name__ == "__main__":
    sys.exit(main())
