"""Boards as servers of tiles, and streams of tiles over them: for plans that keep boards busy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hil.errors import ConfigurationError
from hil.workload.stream import FINISH_S, TileStream
from hil.workload.stream_report import StreamState
from hil.workload.tile import Tile

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.evidence.record import Recorder
    from hil.rollout.fleet import Fleet
    from hil.rollout.rollout import Rollout
    from hil.rollout.tile_servers import NodeTileServer, WeightWatch
    from hil.workload.artefacts import PayloadArtefacts
    from hil.workload.heat_log import HeatLog
    from hil.workload.stream_report import StreamReport

GPU_CLOCK = "/sys/class/devfreq/17000000.gpu/max_freq"
SERVING_S = 60.0
IN_WORK = 2
"""Tiles at a board at once: while one is computed, the next one travels."""


@dataclass(frozen=True)
class Streamed:
    """A stream that has run, and what the twin said meanwhile."""

    report: StreamReport
    heat: HeatLog


@dataclass
class Tiles:
    """Runs streams over the boards that take part; times of all that is in them count from a stream's start."""

    bench: Bench
    recorder: Recorder
    servers: list[NodeTileServer]
    pictures: list[bytes]
    known: dict[int, str]
    epoch: int
    stream: TileStream | None = field(default=None, repr=False)
    """The one that runs, or ran last."""

    def serve_under(self, epoch: int) -> None:
        """Ask all boards under another epoch from now on; none may have a tile in work."""
        self.epoch = epoch
        for server in self.servers:
            server.epoch = epoch

    @property
    def contained(self) -> frozenset[str]:
        """Boards in containers."""
        return frozenset(board.name for board in self.bench.lab.boards if board.contained)

    def run(
        self,
        seconds: float,
        *,
        during: Callable[[], None] | None = None,
        until_done: bool = False,
        finish_s: float = FINISH_S,
        **options: Any,
    ) -> Streamed:
        """Feed the boards for so long and return what came of it, as TileStream.run; ``options`` are TileStream's."""
        from hil.evidence.events import StreamSample

        def record(state: StreamState) -> None:
            self.recorder.emit(StreamSample(dict(state.waiting), state.silent))

        log = _HeatRecorder(self.bench.name)
        self.stream = TileStream(self.servers, self.pictures, **{"known": self.known, "on_state": record, **options})
        report = self.stream.run(seconds, during=during, until_done=until_done, finish_s=finish_s)
        return Streamed(report, log.read(report.fed_s, frozenset(self.boards)))

    def weight_watch(self, period_s: float) -> WeightWatch:
        """Return a watch over the stored weights of all boards, for a ``with`` block; a flip is evidence."""
        from hil.evidence.events import WeightsChanged
        from hil.rollout.tile_servers import WeightWatch

        own = [server.again() for server in self.servers[::IN_WORK]]
        return WeightWatch(own, period_s, lambda flip: self.recorder.emit(WeightsChanged(flip.board, flip.sha256)))

    @contextmanager
    def capped(self, share: float) -> Iterator[None]:
        """Cap the GPU clock of all boards, by their OS, to a share of what it may be now; then take that back."""
        before = {name: self._clock_hz(name) for name in self.boards}
        try:
            for name, hertz in before.items():
                self._clock_hz(name, int(share * hertz))
            yield
        finally:
            for name, hertz in before.items():
                self._clock_hz(name, hertz)

    @property
    def boards(self) -> list[str]:
        """Names of the boards that serve tiles."""
        return list(dict.fromkeys(server.board for server in self.servers))

    def _clock_hz(self, name: str, now: int | None = None) -> int:
        """Return the highest clock that a board's OS allows its GPU, Hz; after setting it where one is given."""
        script = f"p={GPU_CLOCK}; " + (f"echo {now} > $p; " if now is not None else "") + "cat $p"
        with self.bench.boards[name].shell() as shell:
            return int(shell.run(["sh", "-c", script]).stdout)

    @contextmanager
    def flipped(self, name: str, artefact: str) -> Iterator[None]:
        """Flip one bit of a board's stored file of an artefact; then flip it back."""
        with self.bench.boards[name].shell() as shell:
            found = shell.run(["sh", "-c", f"find /data -type f -path '*{artefact}*' -size +1000k"]).stdout.split()
            try:
                for path in found:
                    shell.run(["python3", "-c", _FLIP, path])
                yield
            finally:
                for path in found:
                    shell.run(["python3", "-c", _FLIP, path])


_FLIP = (
    "import sys; f = open(sys.argv[1], 'r+b'); f.seek(10**6); b = f.read(1)[0]; f.seek(10**6); f.write(bytes([b ^ 16]))"
)


class _HeatRecorder:
    """Collects what the twin of a bench says from now on."""

    def __init__(self, bench: str) -> None:
        from hil.bench.twin_journal import Follower

        self._began_s = time.monotonic()
        self._bench, self._follower = bench, Follower(bench)

    def read(self, seconds: float, boards: frozenset[str]) -> HeatLog:
        """Return what came of these boards in the first ``seconds``."""
        from hil.bench.twin_journal import Follower
        from hil.evidence.events import TwinChange, TwinSample, TwinStarted, from_record
        from hil.workload.heat_log import HeatLog

        events = [from_record(line, self._began_s) for line in self._follower.lines()]
        events = [event for event in events if event.t_s <= seconds]
        started = [from_record(line, 0.0) for line in Follower(self._bench, from_start=True).lines()]
        periods = [event.period_s for event in started if isinstance(event, TwinStarted)]
        return HeatLog(
            [event for event in events if isinstance(event, TwinSample)],
            [event for event in events if isinstance(event, TwinChange)],
            periods[-1] if periods else 0.0,
            boards,
        )


@contextmanager
def serving(
    bench: Bench,
    fleet: Fleet,
    rollout: Rollout,
    payload: PayloadArtefacts,
    recorder: Recorder,
    *,
    lease_s: float | None = None,
) -> Iterator[Tiles]:
    """Bring the boards under one epoch with the payload's network, warm; and close the ways to them at the end."""
    from hil.rollout.tile_servers import NodeTileServer
    from hil.workload.pictures import pictures_of

    rollout.distribute(payload.model)
    params = {"revision": 1} if lease_s is None else {"revision": 1, "lease_s": lease_s}
    version = bench.gateway.identity().os_version
    config = fleet.config(os_version=version, model=payload.model.sha256, params=params)
    epoch = rollout.configure(config, wait_for=())
    rollout.serving_together(epoch, deadline_s=SERVING_S)
    pictures, known = pictures_of(payload)
    with ExitStack() as stack:
        servers = []
        for name in fleet.names:
            for _ in range(IN_WORK):
                servers.append(NodeTileServer(fleet, name, epoch, bench.plumbing.namespace))
                stack.callback(servers[-1].close)
        with ThreadPoolExecutor(len(servers)) as pool:
            list(pool.map(lambda server: server.warm_up(pictures[0]), servers[::IN_WORK]))
        providers = {name: health.model_provider or "CPU" for name, health in rollout.status().items() if health}
        yield Tiles(bench, recorder, servers, pictures, _known(known, providers, servers[0], pictures), epoch)


def _known(
    of_cpu: dict[int, str], providers: Mapping[str, str], server: NodeTileServer, pictures: Sequence[bytes]
) -> dict[int, str]:
    """Return the digests of raw outputs that boards must give: the reference's on the CPU, else those of one board.

    ConfigurationError when boards run the network on different providers: their raw outputs differ.
    """
    used = {*providers.values()}
    if used <= {"CPU"}:
        return of_cpu
    if len(used) > 1:
        boards = ", ".join(f"{name} {provider}" for name, provider in sorted(providers.items()))
        raise ConfigurationError(
            f"raw outputs of different providers cannot be compared: {boards}",
            remedy="give all boards that take part a GPU, or none (gpu: none in the lab file)",
        )
    return {
        number: server.compute(Tile(server.spacecraft, number, number, picture)).output_sha256
        for number, picture in enumerate(pictures)
    }
