"""The keeper: one process per bench that owns whatever needs a live process, and takes all of it away at the end.

It brings the bench up, writes ``bench.json``, and then waits: for SIGTERM (``hil bench down``), or, when it is
tied to the process that started it, for the end of its standard input (that process ended, however it ended).
"""

from __future__ import annotations

import argparse
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
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.bench.boards import container_boards
from hil.bench.plumbing import Plumbing
from hil.bench.routing import Router, Routing
from hil.bench.state import (
    BenchState,
    bench_dir,
    disk_dir,
    hold,
    link_socket,
    routes_log,
    schedule_log,
    sky_file,
    write_state,
)
from hil.boards.console import ConsolePump
from hil.boards.container import ContainerBoard
from hil.boards.nv import prepare_nv_dir
from hil.errors import HarnessError, HilError
from hil.evidence.sink import NullSink
from hil.lab.model import Lab, load_lab
from hil.links.box import LinkBox

if TYPE_CHECKING:
    from hil.bench.sky import Sky

PARALLEL = 6
"""Boards started at once: much of a start is waiting for the container engine, so more than the cores pays."""


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stop(BaseException):
    """It was asked to end; a BaseException so that no handler of errors takes it for one."""


def main() -> int:
    """``python -m hil.bench.keeper --name N --lab FILE [--epoch TIME] [--tied]``."""
    parser = argparse.ArgumentParser(prog="hil-bench-keeper")
    parser.add_argument("--name", required=True)
    parser.add_argument("--lab", required=True, type=Path)
    parser.add_argument("--epoch", help="moment of the mission at which the bench starts, ISO 8601 UTC")
    parser.add_argument("--tied", action="store_true", help="end when standard input ends")
    args = parser.parse_args()
    return Keeper(args.name, args.lab, epoch=args.epoch, tied=args.tied).run()


class Keeper:
    """See the module."""

    def __init__(self, name: str, lab_path: Path, *, epoch: str | None, tied: bool) -> None:
        self.tied = tied
        self.epoch = epoch
        self.lab_path = lab_path
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
        lab = load_lab(self.lab_path)
        with hold(self.state.name):
            try:
                if self.tied:
                    threading.Thread(target=_stop_at_end_of_stdin, daemon=True).start()
                with ExitStack() as stack:
                    self._up(lab, stack)
                    self._set(status="up", step="")
                    while True:
                        signal.pause()
            except Stop:
                pass
            except Exception as exc:
                self._failed(exc)
                return 1
            self._set(status="down", step="")
            shutil.rmtree(bench_dir(self.state.name), ignore_errors=True)
            return 0

    def _up(self, lab: Lab, stack: ExitStack) -> None:
        from hil.host.engine import engine
        from hil.twin.images import ensure_images
        from hil.twin.pki import ensure_pki

        name = self.state.name
        stack.callback(shutil.rmtree, disk_dir(name), ignore_errors=True)
        with self._phase("container engine"):
            client = stack.enter_context(engine())
        with self._phase("images"):
            pki = ensure_pki()
            images = ensure_images(client, lambda line: self._set(step=line))
        sky = None
        if lab.orbit or self.epoch:
            from hil.bench.sky import Sky  # numpy and SGP4: only where there is an orbit

            with self._phase("orbit"):
                sky = Sky.ahead(lab, self.lab_path, self.epoch)
        first = {row.link: row for row in sky.window(0, 0)} if sky else {}
        plumbing = Plumbing(name, lab)
        stack.callback(plumbing.remove)
        with self._phase("namespaces"):
            plumbing.build()
        pump = stack.enter_context(ConsolePump(disk_dir(name) / "consoles"))
        consoles = {board.name: pump.add(board.name) for board in lab.boards}
        pump.start()
        boards = container_boards(plumbing, client, images.hardware_image_id, consoles, pki, NullSink())

        def links_up() -> LinkBox:
            forced = None if lab.bench.engine == "auto" else lab.bench.engine
            return LinkBox.up(
                plumbing.box,
                plumbing.wires(first),
                socket_path=link_socket(name),
                engine=forced,
                profile=lab.bench.link_profile,
                seed=lab.bench.seed,
            )

        def board_up(board: ContainerBoard) -> None:
            prepare_nv_dir(board.spec.nv_dir, board.spec.facts, images.factory, pki)
            board.create()
            board.supervisor.on()

        with self._phase("links and boards"), ThreadPoolExecutor(PARALLEL + 1) as pool:
            box = pool.submit(links_up)
            box.add_done_callback(lambda done: _close_later(stack, done))
            stack.callback(_remove_all, list(boards.values()))
            started = [pool.submit(board_up, board) for board in boards.values()]
            self._links_are_up(plumbing, box.result(), sky, stack)
            for future in started:
                future.result()
        with self._phase("boot"), ThreadPoolExecutor(len(boards)) as pool:
            deadline_s = 60.0 + 2.0 * len(boards)  # they share this machine's cores
            list(pool.map(lambda board: board.wait_booted(deadline_s=deadline_s), boards.values()))
        link_box = box.result()
        self._set(
            engine={
                "kind": link_box.engine,
                "reason": link_box.engine_reason,
                "kernel_release": link_box.kernel_release,
                "profile": link_box.profile,
            },
            hardware_image=images.hardware_image_id,
            consoles={
                board: {"board_tty": line.board_tty, "url": line.url, "log": str(line.log)}
                for board, line in consoles.items()
            },
        )

    def _links_are_up(self, plumbing: Plumbing, box: LinkBox, sky: Sky | None, stack: ExitStack) -> None:
        """Addresses and routes; and from now on links and routes follow the orbit."""
        name = self.state.name
        plumbing.address_links()
        routing = Routing(plumbing)
        routing.apply()  # every way there could be, so that what cannot be reached now is lost on a link, not refused
        usable: Callable[[], frozenset[str]] = partial(frozenset, box.links)
        if sky:
            sky.zero_ns = time.monotonic_ns()
            sky.save(sky_file(name))
            box.play(sky, zero_ns=sky.zero_ns, log_path=schedule_log(name), on_error=_say)
            usable = sky.usable
        stack.callback(Router(routing, lambda: usable() - box.cut_links(), routes_log(name)).close)

    @contextmanager
    def _phase(self, step: str) -> Iterator[None]:
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


def _say(error: HilError) -> None:
    """Into the keeper's log: the links stay as they are, and calibration or the campaign will meet them."""
    print(f"schedule: {error}", file=sys.stderr, flush=True)


def _asked_to_stop(number: int, frame: object) -> None:
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # going down already: let that finish
    raise Stop


def _stop_at_end_of_stdin() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _remove_all(boards: list[ContainerBoard]) -> None:
    with ThreadPoolExecutor(PARALLEL) as pool:
        done = [pool.submit(board.remove) for board in boards]
    for each in done:
        each.result()


def _close_later(stack: ExitStack, done: Future[LinkBox]) -> None:
    """Whatever else fails meanwhile, a link box that came up is closed."""
    if not done.cancelled() and done.exception() is None:
        stack.callback(done.result().close)


if __name__ == "__main__":
    sys.exit(main())
