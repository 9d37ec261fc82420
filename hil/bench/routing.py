"""Routes that follow the links: planned changes are made before a contact ends, unplanned ones when a link is lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from hil.bench.plumbing import Plumbing, netlink
from hil.errors import HilError
from hil.lab.routes import Route, routes

EVERY_S = 0.1
"""How often the router looks: a terminal tells of a lost beam at once, and nothing on the way is slower."""


class Routing:
    """The routes of every router and of the ground station. Used by one thread at a time."""

    def __init__(self, plumbing: Plumbing) -> None:
        self._plumbing = plumbing
        self._gateways: dict[tuple[str, str], str] = {}

    def apply(self, usable: Collection[str] | None = None) -> int:
        """Route over these links (None: all); how many routes changed.

        A network that cannot be reached keeps the route it had: packets are lost at the link that is down, and
        arrive again when it is back.  BenchError when the kernel refuses.
        """
        changes: dict[str, list[Route]] = {}
        for route in routes(self._plumbing.lab, usable):
            if self._gateways.get((route.node, route.destination)) != route.gateway:
                changes.setdefault(route.node, []).append(route)
        for node, changed in changes.items():
            # A handle of its own each time: the library makes one socket per thread, in the thread's namespace
            with netlink(self._plumbing.namespace(node)) as ip:
                for route in changed:
                    ip.route("replace", dst=route.destination, gateway=route.gateway, prefsrc=route.source)
                    self._gateways[route.node, route.destination] = route.gateway
        return sum(len(changed) for changed in changes.values())


class Router:
    """A thread that keeps the routes on the links that can be used; started at once, ended by :meth:`close`.

    ``usable`` tells which links these are now (and still are in a moment, so that a route leaves a link before
    its contact ends).  Every change is a line of ``log``: ``mono_s``, ``took_s``, ``changed``, ``came``, ``went``.
    """

    def __init__(self, routing: Routing, usable: Callable[[], frozenset[str]], log: Path) -> None:
        self._routing, self._usable, self._log = routing, usable, log
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="router", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        known: frozenset[str] | None = None
        failed = ""
        while True:
            try:
                now = self._usable()
                if now != known:
                    self._change(known, now)
                    known = now
                failed = ""
            except HilError as exc:
                if str(exc) != failed:  # told once, tried again: the link box may be on its way down
                    failed = str(exc)
                    self._write(error=failed)
            if self._stop.wait(EVERY_S):
                return

    def _change(self, before: frozenset[str] | None, now: frozenset[str]) -> None:
        start = time.monotonic()
        changed = self._routing.apply(now)
        came, went = sorted(now - (before or now)), sorted((before or now) - now)
        self._write(changed=changed, came=came, went=went, took_s=round(time.monotonic() - start, 4))

    def _write(self, **fields: object) -> None:
        line = json.dumps({"mono_s": round(time.monotonic(), 6), **fields})
        with self._log.open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
