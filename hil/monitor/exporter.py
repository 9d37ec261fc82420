"""The figures of a bench on an HTTP page that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from hil.bench.state import is_up
from hil.errors import ConfigurationError
from hil.monitor.metrics import BENCH_UP, BENCH_UP_HELP, METRICS

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

    from hil.monitor.bench_health import Health

LOOPBACK = "127.0.0.1"
PORT = 9435


class Collects(Protocol):
    """What ``prometheus_client`` takes for a collector."""

    def collect(self) -> Iterable[Family]:
        """Yield families."""
        ...


class BenchCollector:
    """A ``prometheus_client`` collector: series are made anew on every scrape, so none outlives what it is about."""

    def __init__(
        self, bench: str, latest: Callable[[], Health | None], *, is_up: Callable[[str], bool] = is_up
    ) -> None:
        """``latest``: the last look, None when there is none that says anything about now."""
        self._bench = bench
        self._latest = latest
        self._is_up = is_up

    def collect(self) -> Iterator[Family]:
        """Yield every family, also those without a series, so that a page always lists all names."""
        from prometheus_client.core import GaugeMetricFamily

        is_up = self._is_up(self._bench)
        up = GaugeMetricFamily(BENCH_UP, BENCH_UP_HELP, labels=["bench"])
        up.add_metric([self._bench], is_up)
        yield up
        health = self._latest() if is_up else None
        for metric in METRICS:
            family = metric.family("bench")
            for labels, value in metric.known(health) if health else ():
                family.add_metric([self._bench, *labels], value)
            yield family


@contextmanager
def serving(*collectors: Collects, host: str = LOOPBACK, port: int = PORT) -> Iterator[int]:
    """Serve ``collectors`` over HTTP while the block runs; yield the port.

    ``host`` is the loopback by default: the page has no password.  Port 0 takes a free one.
    ConfigurationError when the address cannot be listened on.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    # Without auto_describe nothing is collected when it is registered: the first look may not have been taken.
    registry = CollectorRegistry(auto_describe=False)
    for collector in collectors:
        registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {exc.strerror or exc}",
            remedy="is another exporter at work? choose another port with --listen HOST:PORT",
        ) from exc
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def host_and_port(text: str) -> tuple[str, int]:
    """``127.0.0.1:9435``, ``[::1]:9435`` or ``:9435`` (loopback).  ConfigurationError when it is something else."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(
            f"{text!r} is not an address to listen on", remedy=f"write HOST:PORT, such as {LOOPBACK}:{PORT}"
        )
    return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a page on ``host``."""
    from ipaddress import ip_address

    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
