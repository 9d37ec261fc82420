"""Links read back while a campaign runs: does the kernel do what this run commanded, and who else commanded?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hil.core.processes import current
from hil.errors import BenchError, HilError
from hil.links.link_box import DIRECTIONS, LinkBox
from hil.links.status import DirectionStatus, LinkStatus

AGAIN_S = 0.3
"""A link that differs is read once more after this, when nobody can command: it may have been while it was read."""
SHARE = 1.05
SLACK_S = 0.5
"""A link may have carried so much more than its rate allows: the readings and the queue of a busy engine jitter."""


class LinkReadBack:
    """A part that carries a campaign (:class:`hil.bench.carrier_watch.Part`): the link box and its engine.

    ``differs(part, what)`` is called when a link is not as this process commanded it: set by another process, changed
    in its kernel, or carrying more than it could; once until it is in order again.
    """

    name = "the link box"

    def __init__(self, socket_path: Path, differs: Callable[[str, str], None], *, timeout_s: float) -> None:
        self._socket_path = socket_path
        self._differs = differs
        self._timeout_s = timeout_s
        self._box: LinkBox | None = None
        self._me = str(current())
        self._seen_ns = time.monotonic_ns()
        self._told: set[str] = set()
        self._counted: dict[tuple[str, str], tuple[float, DirectionStatus]] = {}

    def look(self) -> float:
        """Read all links back. BenchError when the box or its engine does not answer, and while a link is wrong."""
        if self._box is None:
            self._box = LinkBox.attach(self._socket_path, timeout_s=self._timeout_s)
        try:
            self._note_commands(self._box)
            asked_s = time.monotonic()
            links = self._box.show()
            for link in links:
                self._note_carried(link, asked_s)
            if wrong := _differing(links):
                time.sleep(AGAIN_S)
                with self._box.store.held():
                    again = _differing(self._box.show())
                wrong = {name: what for name, what in again.items() if name in wrong}
        except HilError:
            box, self._box = self._box, None  # an answer that comes late must not be taken for the next one
            box.close()
            raise
        for name in wrong.keys() - self._told:
            self._differs(f"link {name}", wrong[name])
        self._told = set(wrong)
        if wrong:  # not for long: a bench whose links stay wrong is given up
            raise BenchError("; ".join(f"link {name} {what}" for name, what in wrong.items()))
        return time.monotonic()

    def _note_commands(self, box: LinkBox) -> None:
        for command in box.store.load().commands:
            # what is about one tenant's traffic alone is no business of the others
            if command.at_ns > self._seen_ns and command.process != self._me and not command.tenant:
                self._differs(
                    f"link {command.link}",
                    f"was {command.what} by another process ({command.program}, pid {command.process.split(':')[0]})",
                )
            self._seen_ns = max(self._seen_ns, command.at_ns)

    def _note_carried(self, link: LinkStatus, asked_s: float) -> None:
        """Compare what went through each direction since the last time with what its rate allows."""
        for direction in DIRECTIONS:
            now: DirectionStatus = getattr(link, direction)
            before = self._counted.get((link.name, direction))
            self._counted[link.name, direction] = asked_s, now
            rate_bps = now.commanded.rate_bps
            if before is None or not rate_bps or before[1].commanded.rate_bps != rate_bps:
                continue
            bits = 8 * (now.sent_bytes - before[1].sent_bytes)
            seconds = time.monotonic() - before[0]
            if bits > rate_bps * (SHARE * seconds + SLACK_S):
                self._differs(
                    f"link {link.name}",
                    f"carried {bits / 1e6:.1f} Mbit {direction} in {seconds:.2f} s, more than its "
                    f"{rate_bps / 1e6:g} Mbit/s allow",
                )


def _differing(links: list[LinkStatus]) -> dict[str, str]:
    """Return, by link, in what the kernel does not do what was commanded."""
    return {link.name: "; ".join(reasons) for link in links if (reasons := list(_reasons(link)))}


def _reasons(link: LinkStatus) -> Iterator[str]:
    for direction in DIRECTIONS:
        status: DirectionStatus = getattr(link, direction)
        if not status.agrees:
            does = status.kernel if status.kernel is not None else "nothing: it has no netem there"
            yield f"{direction} was commanded as {status.commanded}, and the kernel does {does}"
