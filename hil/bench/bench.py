"""A lab brought up, as its users see it."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hil.bench.journal import Journal, JournalSink
from hil.bench.ownership import up_already
from hil.bench.state import (
    BenchState,
    bench_dir,
    disk_dir,
    is_live,
    is_up,
    keeper_log,
    link_socket,
    orbit_file,
    own_name,
    read_state,
    require_state,
)
from hil.core.command import Progress, silent
from hil.core.processes import families, identify, memory_b
from hil.core.wait import poll_until, wait_until
from hil.errors import BenchError, ConfigurationError, HarnessError, HilError
from hil.evidence.events import BenchUp
from hil.evidence.sink import NullSink, Sink
from hil.lab.model import Lab, load_lab

if TYPE_CHECKING:
    from hil.bench.guest import Guest
    from hil.bench.orbit_clock import OrbitClock
    from hil.bench.plumbing import Plumbing
    from hil.boards.protocol import Board
    from hil.images.flight_pki import Operator
    from hil.images.images import Images
    from hil.links.link_box import LinkBox

_log = logging.getLogger(__name__)

UP_DEADLINE_S = 300.0
DOWN_DEADLINE_S = 60.0


class Bench:
    """Boards and links of one lab, ready to use::

        with Bench(Path("lab/virtual.yaml")) as bench:
            bench.boards["a1"].shell().run(["uname", "-a"])
            bench.links.cut("isl-ab")

    ``with`` brings the bench up and takes it down; it also goes down when this process is killed.
    ``Bench.attach(name)`` uses a bench that ``hil bench up`` keeps, and leaves it up.
    """

    lab: Lab
    state: BenchState
    plumbing: Plumbing
    boards: dict[str, Board]
    guests: dict[str, Guest]
    """Those in containers, by name."""
    operator: Operator | None
    """As whom the ground commands the boards; None without flight security."""
    links: LinkBox

    def __init__(
        self,
        lab: Path | Lab,
        *,
        name: str | None = None,
        epoch: str | None = None,
        lease_wait_s: float | None = None,
        sink: Sink | None = None,
    ) -> None:
        """``epoch`` (ISO 8601 UTC): where in the mission a bench of a lab with an orbit starts.

        ``lease_wait_s``: how long to queue for boards that somebody else has; None refuses at once.
        """
        self.lease_wait_s = lease_wait_s
        self.epoch = epoch
        self.lab = lab if isinstance(lab, Lab) else load_lab(lab)
        self.whole_lab = self.lab
        self.tenant = ""
        """On whose behalf it is used; empty: nobody in particular."""
        self.lab_path = self.lab.file
        self.name = own_name() if name is None else name
        if not re.fullmatch(r"[a-z0-9]{1,20}", self.name):
            raise ConfigurationError(
                f"bench name {self.name!r} is not usable", remedy="use lower case letters and digits, at most 20"
            )
        self.journal = Journal(self.name)
        self.sink = JournalSink(sink or NullSink(), self.journal)
        self._stack = ExitStack()

    @classmethod
    def attach(cls, name: str, *, sink: Sink | None = None, tenant: str = "") -> Bench:
        """Use a bench that is up; ConfigurationError names the ones that are when ``name`` is not.

        ``tenant``: of the lab file; then ``lab`` and ``boards`` have its boards only, and ``links`` its traffic.
        """
        bench = cls(Path(require_state(name).lab_path), name=name, sink=sink)
        bench.tenant = tenant
        if tenant:
            bench.lab = bench.whole_lab.as_seen_by(tenant)
        bench._open()
        return bench

    def __enter__(self) -> Bench:
        self.up()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def switched(self) -> dict[str, str]:
        """What this process did last to the power of each board: on, off, cut, reset."""
        return self.sink.switched

    @property
    def gateway(self) -> Board:
        """The board that receives from the ground."""
        return self.boards[self.lab.gateway]

    @cached_property
    def images(self) -> Images:
        """Hardware image, factory OS and signed bundles of this bench (from the cache)."""
        from hil.images.images import ensure_images
        from hil.images.recipes import recipe_of

        return ensure_images(self._client, recipe=recipe_of(self.lab.os.adapter))

    @cached_property
    def orbit(self) -> OrbitClock | None:
        """Where the spacecraft are and what that makes of the links; None for a lab without an orbit."""
        if self.lab.orbit is None:
            return None
        from hil.bench.orbit_clock import OrbitClock

        return OrbitClock.load(orbit_file(self.name), self.lab)

    def memory_b(self) -> dict[str, int]:
        """Return memory of this machine that each board in a container takes, bytes; shared pages count in part."""
        from hil.bench.equipment import firmware_pids

        pids = firmware_pids(self._client, self.name)
        family = families(pids.values())
        return {name: memory_b(family[pid]) for name, pid in pids.items()}

    def up(self, *, progress: Progress | None = None, keep: bool = False) -> None:
        """Bring the bench up and open it.

        With ``keep`` it outlives this process (``hil bench up``).  Raises what the keeper met, with its blame;
        whatever had been brought up is gone again then.
        """
        require_root()
        _log.info("bench %s: bring up %s", self.name, self.lab_path)
        keeper = self._start_keeper(keep=keep)
        try:
            self.state = self._wait_up(keeper, progress or silent)
            self._open()
        except BaseException:
            _end(keeper.pid, self.name)
            raise
        if not keep:
            self._stack.callback(_take_down, keeper.pid, self.name)
        _log.info("bench %s: up after %.1f s", self.name, sum(self.state.phases_s.values()))
        self.sink.emit(BenchUp(self.state.engine, self.state.phases_s, self.state.power_modes, self.name))

    def close(self) -> None:
        """Let go of the bench; a bench that this object brought up (without ``keep``) goes down, as by :func:`down`."""
        self._stack.close()

    def _start_keeper(self, *, keep: bool) -> subprocess.Popen[bytes]:
        from hil.bench.leftovers import live_benches

        # The lock of a keeper that was killed is free once its last thread has ended, which is waited for here.
        if is_live(self.name) and self.name in live_benches():
            raise up_already(self.name)
        shutil.rmtree(bench_dir(self.name), ignore_errors=True)
        bench_dir(self.name).mkdir(parents=True)
        argv = [sys.executable, "-m", "hil.bench.keeper", "--name", self.name, "--lab", str(self.lab_path)]
        if self.epoch is not None:
            argv += ["--epoch", self.epoch]
        if self.lease_wait_s is not None:
            argv += ["--lease-wait-s", str(self.lease_wait_s)]
        with keeper_log(self.name).open("ab") as log:
            return subprocess.Popen(
                argv if keep else [*argv, "--tied"],
                # The pipe is never written: its end tells a tied keeper that this process is gone, even by SIGKILL.
                stdin=subprocess.DEVNULL if keep else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal must reach us first, not the keeper
            )

    def _wait_up(self, keeper: subprocess.Popen[bytes], progress: Progress) -> BenchState:
        shown = ""
        deadline_s = UP_DEADLINE_S + (self.lease_wait_s or 0.0)
        for _ in poll_until(deadline_s):
            has_ended = keeper.poll() is not None  # asked first, so that what is read then is its last word
            state = read_state(self.name)
            if state and state.step != shown:
                shown = state.step
                _log.debug("bench %s: keeper: %s", self.name, shown)
                progress(shown)
            if has_ended or (state and state.status == "failed"):
                raise _told_by_keeper(state, keeper_log(self.name))
            if state and state.status == "up":
                return state
        raise BenchError(f"waited {deadline_s:g} s for bench {self.name} to come up")

    def _open(self) -> None:
        """Make the objects that drive the boards and links of this bench from this process."""
        from hil.bench.equipment import boards_of, guests_of
        from hil.bench.plumbing import Plumbing
        from hil.boards.console.log_console import ConsoleLine
        from hil.host.engine.engine import connect
        from hil.images.flight_pki import Operator, flight_pki
        from hil.images.pki import ensure_pki
        from hil.links.link_box import LinkBox

        self.state = require_state(self.name)
        self.plumbing = Plumbing(self.name, self.whole_lab)
        with ExitStack() as stack:
            self._client = stack.enter_context(closing(connect()))
            consoles = {
                board: ConsoleLine(line["board_tty"], line["url"], Path(line["log"]))
                for board, line in self.state.consoles.items()
            }
            self.operator = Operator.of(flight_pki(disk_dir(self.name))) if self.lab.flight_security == "mtls" else None
            every = boards_of(self.plumbing, self._client, self.state.hardware_image, consoles, ensure_pki(), self.sink)
            self.boards = {board.name: every[board.name] for board in self.lab.boards}
            self.guests = {} if self.tenant else guests_of(self.plumbing, self._client, self.state.hardware_image)
            self.links = stack.enter_context(LinkBox.attach(link_socket(self.name), sink=self.sink, tenant=self.tenant))
            self._stack = stack.pop_all()


def down(name: str) -> None:
    """Take down a kept bench; ConfigurationError when there is none of that name.

    Raises what the keeper met on the way down: a real board may still have power then.
    """
    state = read_state(name)
    if state is None or not is_live(name):
        raise ConfigurationError(f"no bench {name} is up", remedy="`hil bench status` lists those that are")
    _take_down(state.keeper_pid, name)
    _log.info("bench %s: down", name)


def require_root() -> None:
    """ConfigurationError when this is not root: the virtual lab makes namespaces, NICs and loop devices."""
    if os.geteuid() != 0:
        raise ConfigurationError(
            "the virtual lab needs root: it makes network namespaces, NICs and loop devices",
            remedy="run as root; `make unit` and `hil lab validate` work without",
        )


def _told_by_keeper(state: BenchState | None, log: Path) -> HilError:
    """Return the keeper's own error, with its blame, or what its log ends with when it died without a word."""
    kinds: dict[str, type[HilError]] = {kind.blame: kind for kind in (ConfigurationError, HarnessError)}
    if state and state.error:
        # A board that does not boot from its factory image is the bench's fault: nothing was under test yet.
        kind = kinds.get(state.error["blame"], BenchError)
        return kind(state.error["message"], remedy=state.error["remedy"])
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-8:]) if log.exists() else ""
    return BenchError(f"the bench's keeper ended while bringing it up; its log ends:\n{tail}", remedy="run `hil clean`")


def _take_down(keeper_pid: int, name: str) -> None:
    """End the keeper of a bench that is up. Raises what the keeper could not take down."""
    was_up = is_up(name)
    last = _end(keeper_pid, name)
    if was_up and last is not None and last.status == "failed":
        error = _told_by_keeper(last, keeper_log(name))
        raise error.with_context(f"bench {name} did not go down as it should: {error.message}")


def _end(keeper_pid: int, name: str) -> BenchState | None:
    """Ask the keeper to take the bench down, wait until it has ended, and return the state that it left, if any.

    BenchError when it does not end.
    """
    keeper = identify(keeper_pid)
    if is_live(name):
        try:
            os.kill(keeper_pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        except PermissionError as exc:
            raise ConfigurationError(f"bench {name} is root's", remedy="take it down as root") from exc

    def gone() -> bool:
        with suppress(ChildProcessError):  # kept benches are somebody else's children
            os.waitpid(keeper_pid, os.WNOHANG)
        return not is_live(name) and not (keeper and keeper.alive())

    wait_until(gone, what=f"bench {name} to go down", deadline_s=DOWN_DEADLINE_S, remedy="run `hil clean` to end it")
    last = read_state(name)
    shutil.rmtree(bench_dir(name), ignore_errors=True)
    return last
