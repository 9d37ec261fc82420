"""Faults of links: what netem can do to them, held until healed, and read back from the kernel as proof."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from hil.errors import ConfigurationError, HilError
from hil.faults.fault import Bite, Fault, Outcome, Parameter, Proof
from hil.faults.links import links_of
from hil.links.shape import DIRECTIONS, Direction
from hil.links.state import PPM, GilbertElliott, LinkState
from hil.links.status import LinkStatus, kernel_does

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.lab.model import Lab

WORKS_ON = "every link engine"
BY_CHANCE = "every link engine, in link_profile exact"
STOP_S = 10.0

Change = Callable[[LinkState, Mapping[str, float]], LinkState]
"""Makes the impaired state of a direction from the state that it has."""


def links_read(bench: Bench, names: Iterable[str]) -> dict[str, LinkStatus]:
    """Read links back from their kernel, by name."""
    wanted = {*names}
    return {status.name: status for status in bench.links.show() if status.name in wanted}


def proof_of_states(bench: Bench, wanted: Mapping[tuple[str, Direction], LinkState]) -> Proof:
    """Confirm that the kernel does what is wanted of each direction, and say what the directions have lost."""
    read = links_read(bench, (name for name, _ in wanted))
    wrong, lost = [], 0
    for (name, direction), state in wanted.items():
        status = getattr(read[name], direction)
        lost += status.dropped_packets
        if status.kernel is None or not kernel_does(status.kernel, state):
            wrong.append(f"{name} {direction}: {status.kernel}, not {state}")
    if wrong:
        return Proof(Outcome.MISMATCH, "; ".join(wrong))
    ends = ", ".join(sorted({name for name, _ in wanted}))
    return Proof(Outcome.CONFIRMED, f"the kernel of {ends} says so; {lost} packets lost on these links until now")


def _all_links(lab: Lab) -> list[str]:
    return [link.name for link in lab.links]


def _itself(_: Lab, link: str) -> list[str]:
    return [link]


class _OfLinks:
    """What every fault of links has: what it can hit, and how it is healed."""

    def __init__(
        self,
        description: str,
        *,
        parameters: Sequence[Parameter] = (),
        targets: Callable[[Lab], Iterable[str]] = _all_links,
        links: Callable[[Lab, str], Iterable[str]] = _itself,
        by_chance: bool = False,
    ) -> None:
        """``links`` returns the names of the links that a target of ``targets`` has."""
        self.description = description
        self.works_on = BY_CHANCE if by_chance else WORKS_ON
        self.parameters = parameters
        self._targets = targets
        self._links = links
        self._by_chance = by_chance

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return all targets; no link that is cut already, and none where the profile does not allow chance."""
        if self._by_chance and bench.links.profile != "exact":
            return ()
        cut = bench.links.cut_links()
        return tuple(name for name in self._targets(bench.lab) if name not in cut)

    def named(self, target: str) -> str:
        """Return what a link box calls the fault at a target."""
        return f"{self.description}: {target}"

    def command(self, bench: Bench, link: str, states: Mapping[Direction, LinkState], target: str) -> None:
        """Hold directions of one link."""
        bench.links.impair(link, states, fault=self.named(target))

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Bring the links back as they were commanded, by hand and by other faults."""
        errors = []
        for name in self._links(bench.lab, target):
            try:
                bench.links.mend(name, fault=self.named(target))
            except HilError as exc:  # the others come back all the same
                errors.append(exc)
        if errors:
            raise errors[0]


class LinksHeld(_OfLinks):
    """Some links of a bench are held in another state, all at once; its boards go on."""

    def __init__(
        self,
        description: str,
        change: Change,
        *,
        directions: Callable[[Mapping[str, float]], Sequence[Direction]] = lambda values: DIRECTIONS,
        **options: Any,
    ) -> None:
        super().__init__(description, **options)
        self._change = change
        self._directions = directions

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Command the links; those that are cut by hand stay as they are."""
        cut = {link.name for link in bench.links.remembered() if link.cut}
        wanted: dict[tuple[str, Direction], LinkState] = {}
        for name in (n for n in self._links(bench.lab, target) if n not in cut):
            states = {d: self._change(bench.links.commanded(name, d), values) for d in self._directions(values)}
            wanted |= {(name, d): state for d, state in states.items()}
            self.command(bench, name, states, target)
        if not wanted:
            return Bite(lambda: Proof(Outcome.MISMATCH, f"{target} has no link that is not cut already"))
        return Bite(lambda: proof_of_states(bench, wanted))


Step = tuple[float, str, Callable[[LinkState], LinkState]]
"""Seconds until the next step, a link, and the change of both its directions."""
Plan = Callable[["Bench", Mapping[str, float], str], Iterator[Step]]
"""Makes the steps of a fault for as long as it lasts; the last argument is the target."""


@dataclass
class _Played:
    """What a moving fault has done to its links so far, each step read back from the kernel."""

    steps: int = 0
    seen: int = 0
    last: str = ""
    error: str = ""


class LinksMoved(_OfLinks):
    """Links change again and again while the fault lasts, from a thread of this process."""

    def __init__(self, description: str, plan: Plan, **options: Any) -> None:
        super().__init__(description, **options)
        self._plan = plan

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Take the first step, then go on in a thread."""
        played, stopping = _Played(), threading.Event()
        steps = self._plan(bench, values, target)
        own = {(n, d): bench.links.commanded(n, d) for n in self._links(bench.lab, target) for d in DIRECTIONS}

        def step() -> float | None:
            following = next(steps, None)
            if following is None:
                return None
            wait_s, link, change = following
            states: dict[Direction, LinkState] = {d: change(own[link, d]) for d in DIRECTIONS}
            self.command(bench, link, states, target)
            proof = proof_of_states(bench, {(link, d): state for d, state in states.items()})
            played.steps += 1
            played.seen += proof.outcome is Outcome.CONFIRMED
            played.last = proof.seen
            return wait_s

        def go_on(wait_s: float | None) -> None:
            try:
                while wait_s is not None and not stopping.wait(wait_s):
                    wait_s = step()
            except HilError as exc:
                played.error = exc.message

        thread = threading.Thread(target=go_on, args=(step(),), name=f"fault at {target}", daemon=True)
        thread.start()

        def stop() -> None:
            stopping.set()
            thread.join(STOP_S)

        def prove() -> Proof:
            if played.error:
                return Proof(Outcome.UNKNOWN, played.error)
            what = f"{played.seen} of {played.steps} steps read back from the kernel; {played.last}"
            return Proof.of(0 < played.steps == played.seen, what)

        return Bite(prove, stop)


def _down(state: LinkState, values: Mapping[str, float] | None = None) -> LinkState:
    return replace(state, up=False)


def _as_it_was(state: LinkState) -> LinkState:
    return state


def _spoiled(**fields: str) -> Change:
    """Return a change that sets fields of the state to whole parameters (field name -> parameter name)."""

    def change(state: LinkState, values: Mapping[str, float]) -> LinkState:
        changes: dict[str, Any] = {field: int(values[name]) for field, name in fields.items()}
        return replace(state, gemodel=None, **changes)

    return change


def _slower(state: LinkState, values: Mapping[str, float]) -> LinkState:
    if not state.rate_bps:
        raise ConfigurationError("a link without a rate cannot be slowed down", remedy="give the link a rate_bps")
    return replace(state, rate_bps=max(8, int(state.rate_bps * values["share"])))


def _bursts(state: LinkState, values: Mapping[str, float]) -> LinkState:
    """Return bad periods of ``burst_packets`` on average that lose everything, ``loss_ppm`` in the long run."""
    r_ppm = max(1, round(PPM / values["burst_packets"]))
    loss = values["loss_ppm"] / PPM
    p_ppm = max(1, min(PPM, round(r_ppm * loss / (1 - loss))))
    return replace(state, loss_ppm=0, gemodel=GilbertElliott(p_ppm, r_ppm))


def _flap(bench: Bench, values: Mapping[str, float], target: str) -> Iterator[Step]:
    while True:
        yield values["down_s"], target, _down
        yield values["up_s"], target, _as_it_was


def _fade(bench: Bench, values: Mapping[str, float], target: str) -> Iterator[Step]:
    steps = 8
    levels = [min(i, 2 * steps - i) / steps for i in range(1, 2 * steps + 1)]  # up to the worst, and back
    for level in levels:
        change = partial(replace, gemodel=None, loss_ppm=int(values["worst_loss_ppm"] * level))
        yield values["fade_s"] / len(levels), target, change


def _swizzle(bench: Bench, values: Mapping[str, float], target: str) -> Iterator[Step]:
    """Take links away one by one and bring them back in another order (after FoundationDB's swizzle-clogging)."""
    chance = Random(int(values["seed"]))
    names = [link.name for link in bench.lab.links]
    for change in (_down, _as_it_was):
        for name in chance.sample(names, len(names)):
            yield values["step_s"], name, change


def _ppm(name: str, default: float, most: float, what: str, drawn: tuple[float, float]) -> Parameter:
    return Parameter(name, default, 1.0, most, f"{what}, packets per million", drawn)


def _one_way(values: Mapping[str, float]) -> Sequence[Direction]:
    return DIRECTIONS[int(values["direction"]) :][:1]


LINK_CUT: Fault = LinksHeld("loses a link, both directions", _down)
LINK_ONE_WAY: Fault = LinksHeld(
    "loses one direction of a link; the other goes on",
    _down,
    parameters=(Parameter("direction", 0, 0, 1, "0: a to b is lost, 1: b to a", (0, 1)),),
    directions=_one_way,
)
LINK_SLOW: Fault = LinksHeld(
    "lowers the rate of a link, both directions",
    _slower,
    parameters=(Parameter("share", 0.1, 0.0001, 1.0, "share of its rate that is left", (0.02, 0.5)),),
)
LINK_LOSS: Fault = LinksHeld(
    "loses packets of a link independently of each other",
    _spoiled(loss_ppm="loss_ppm"),
    parameters=(_ppm("loss_ppm", 20_000, PPM - 1, "lost", (1_000, 50_000)),),
    by_chance=True,
)
LINK_BURSTS: Fault = LinksHeld(
    "loses packets of a link in bursts (Gilbert-Elliott)",
    _bursts,
    parameters=(
        _ppm("loss_ppm", 20_000, 900_000, "lost in the long run", (1_000, 50_000)),
        Parameter("burst_packets", 50, 1, 10_000, "mean length of a burst, packets", (5, 200)),
    ),
    by_chance=True,
)
LINK_CORRUPT: Fault = LinksHeld(
    "flips one bit of some packets in flight",
    _spoiled(corrupt_ppm="corrupt_ppm"),
    parameters=(_ppm("corrupt_ppm", 10_000, PPM, "corrupted", (1_000, 30_000)),),
    by_chance=True,
)
LINK_REORDER: Fault = LinksHeld(
    "lets some packets overtake those before them (they arrive without the link's delay)",
    _spoiled(reorder_ppm="reorder_ppm"),
    parameters=(_ppm("reorder_ppm", 50_000, PPM, "that overtake", (5_000, 250_000)),),
    by_chance=True,
)
LINK_DUPLICATE: Fault = LinksHeld(
    "lets some packets arrive twice",
    _spoiled(duplicate_ppm="duplicate_ppm"),
    parameters=(_ppm("duplicate_ppm", 50_000, PPM, "that arrive twice", (5_000, 250_000)),),
    by_chance=True,
)
LINK_FLAP: Fault = LinksMoved(
    "loses a link and brings it back, again and again",
    _flap,
    parameters=(
        Parameter("down_s", 0.5, 0.05, 3600.0, "how long it is down each time, seconds", (0.2, 1.5)),
        Parameter("up_s", 0.5, 0.05, 3600.0, "how long it is up each time, seconds", (0.2, 1.5)),
    ),
)
LINK_FADE: Fault = LinksMoved(
    "lets a link fade: its loss rises to a worst value and falls again",
    _fade,
    parameters=(
        Parameter("fade_s", 4.0, 0.5, 3600.0, "from the first loss to the last, seconds", (1.0, 6.0)),
        _ppm("worst_loss_ppm", 400_000, PPM - 1, "lost at the worst", (50_000, 800_000)),
    ),
    by_chance=True,
)
SWIZZLE: Fault = LinksMoved(
    "loses all links one by one, and brings them back in another order",
    _swizzle,
    parameters=(
        Parameter("step_s", 0.5, 0.05, 600.0, "between two links, seconds", (0.1, 1.0)),
        Parameter("seed", 1, 0, 2**32 - 1, "of the two orders", (0, 2**32 - 1)),
    ),
    targets=lambda lab: [lab.name],
    links=lambda lab, _: [link.name for link in lab.links],
)
SPACECRAFT_DARK: Fault = LinksHeld(
    "loses all links of a spacecraft, also those to the ground; its boards go on",
    _down,
    targets=lambda lab: (craft.name for craft in lab.spacecraft),
    links=links_of,
)
GROUND_LOST: Fault = LinksHeld(
    "loses all links of the ground station: a pass ends",
    _down,
    targets=lambda lab: [lab.ground_station.name],
    links=links_of,
)
