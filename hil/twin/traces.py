"""Published temperatures of boards in orbit and on the ground, and what the network makes of them.

Two nodes: the board with its processor, and the structure that it sits on.  The structure radiates (in orbit) or loses
heat in proportion (on the ground, in air).  ``tools/fit_twin.py`` finds the parameters; cases without a fit of their
own take those of another case, and show what the twin predicts.

Sources: BUPT-1, Xing et al., MobiCom 2024 (arXiv 2401.03435), traces of TiansuanConstellation/MobiCom24-SatelliteCOTS;
Orin NX 16 GB on a fan-cooled carrier, ARK-Electronics/ark_jetson_kernel, docs/power.md; Orin Nano without its fan, a
bench measurement that was published with its trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hil.onboard.twin.heat import STEFAN_BOLTZMANN, ZERO_C, Network, Temperatures

STEP_S = 2.0
BOARD, STRUCTURE = 0, 1


@dataclass(frozen=True)
class TwoNodes:
    """The parameters of one board on its structure."""

    board_j_per_k: float
    between_w_per_k: float
    structure_j_per_k: float
    radiates_m2: float = 0.0
    """Emissivity times area, in orbit."""
    loses_w_per_k: float = 0.0
    """To the air, on the ground."""

    def network(self, ambient_k: float) -> Network:
        losses = ((STRUCTURE, self.loses_w_per_k, ambient_k),) if self.loses_w_per_k else ()
        radiators = ((STRUCTURE, self.radiates_m2),) if self.radiates_m2 else ()
        links = ((BOARD, STRUCTURE, self.between_w_per_k),)
        return Network((self.board_j_per_k, self.structure_j_per_k), links, losses, radiators)


@dataclass(frozen=True)
class Trace:
    """What was published: power, start, peak, when 63 % of the rise and when the peak was reached."""

    name: str
    power_w: float
    start_c: float
    peak_c: float
    to_63_min: float | None
    minutes: float
    """How long it was heated: until the peak."""
    parameters: TwoNodes
    fitted: bool
    """Whether the parameters were fitted to this trace; else it is a prediction."""


@dataclass(frozen=True)
class Reproduced:
    """A trace beside what the twin makes of it."""

    trace: Trace
    peak_c: float
    to_63_min: float

    @property
    def peak_error_c(self) -> float:
        return self.peak_c - self.trace.peak_c

    @property
    def time_error(self) -> float | None:
        """Error of the time to 63 % of the published rise, as a share."""
        return self.to_63_min / self.trace.to_63_min - 1 if self.trace.to_63_min else None


def run(trace: Trace) -> Iterator[tuple[float, float]]:
    """Yield (minutes, board C) from the moment on at which the load begins; before it all was steady at ``start_c``."""
    start_k = trace.start_c + ZERO_C
    network = trace.parameters.network(start_k)
    background_w = trace.parameters.radiates_m2 * STEFAN_BOLTZMANN * start_k**4
    nodes = Temperatures(network, [start_k, start_k])
    seconds = 0.0
    while seconds < trace.minutes * 60:
        nodes.advance([trace.power_w, background_w], STEP_S)
        seconds += STEP_S
        yield seconds / 60, nodes.kelvin[BOARD] - ZERO_C


def reproduce(trace: Trace) -> Reproduced:
    """Return what the twin makes of a trace."""
    rises = list(run(trace))
    peak_c = max(celsius for _, celsius in rises)
    reached = trace.start_c + 0.632 * (peak_c - trace.start_c)
    return Reproduced(trace, peak_c, next(minutes for minutes, celsius in rises if celsius >= reached))


PI_ORBIT = TwoNodes(17.474, 0.097804, 356.64, radiates_m2=0.041826)
PI_GROUND = TwoNodes(36.333, 0.25855, 240.86, loses_w_per_k=0.81661)
ATLAS_ORBIT = TwoNodes(69.847, 0.50217, 753.48, radiates_m2=0.069596)
ATLAS_GROUND = TwoNodes(21.865, 1.0410, 449.91, loses_w_per_k=0.60616)
NANO_FANLESS = TwoNodes(61.671, 0.18754, 323.78, loses_w_per_k=0.20264)

TRACES = (
    Trace("Pi 4, 4 cores, in orbit", 4.8, 19, 86, 5.5, 86, PI_ORBIT, True),
    Trace("Pi 4, 1 core, in orbit", 3.2, 19, 59, 9.1, 161, PI_ORBIT, False),
    Trace("Pi 4, 4 cores, on the ground", 5.9, 39, 69, 3.7, 39, PI_GROUND, True),
    Trace("Pi 4, 1 core, on the ground", 3.6, 38, 54, 5.1, 67, PI_GROUND, False),
    Trace("Atlas 200, 4 threads, in orbit", 10.1, 13, 57, 17, 148, ATLAS_ORBIT, True),
    Trace("Atlas 200, 4 threads, on the ground", 11.5, 39, 69, 7.7, 88, ATLAS_GROUND, True),
    Trace("Orin Nano without its fan, on the ground", 9.0, 42, 85, None, 9.7, NANO_FANLESS, True),
)

NX_LINE = (45.34, 1.5126)
"""The fan-cooled Orin NX without power (C), and its K/W, fitted to the four plateaus below."""
NX_PLATEAUS = (
    ("25W", 408.0, 16.9, 71.0),
    ("40W", 1063.0, 27.6, 86.0),
    ("MAXN_SUPER", 1173.0, 29.4, 89.0),
    ("MAXN_SUPER, 45 minutes", 1173.0, 29.0, 91.0),
)
"""(mode, GPU MHz, W at VDD_IN, C of the junction)."""
