"""Heat between lumps: capacities joined by conductances, some of which radiate.

``C dT/dt = K T + loss (T_ambient - T) - eps sigma A T^4 + q``.  What is linear is carried on exactly, by the
exponential of its matrix, so no step is too long for a small capacity; radiation is taken at the middle of a step,
extrapolated from its last two beginnings (Adams-Bashforth: second order).  Temperatures in kelvin, heat in watts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import mul

STEFAN_BOLTZMANN = 5.670374419e-8  # W/(m2 K4), CODATA 2018
ZERO_C = 273.15

Row = tuple[float, ...]
Matrix = tuple[Row, ...]


@dataclass(frozen=True)
class Network:
    """Nodes by number; ``links`` are (node, node, W/K), ``losses`` (node, W/K, K of the surroundings)."""

    capacity_j_per_k: tuple[float, ...]
    links: tuple[tuple[int, int, float], ...] = ()
    losses: tuple[tuple[int, float, float], ...] = ()
    radiators: tuple[tuple[int, float], ...] = ()
    """(node, emissivity times area in m2); each radiates to 0 K: what it receives is heat like any other."""

    def __len__(self) -> int:
        return len(self.capacity_j_per_k)

    def matrix(self) -> list[list[float]]:
        """Return ``C^-1 K`` with the losses, 1/s."""
        size = len(self)
        rates = [[0.0] * size for _ in range(size)]
        for a, b, watt_per_k in self.links:
            for here, there in ((a, b), (b, a)):
                rates[here][here] -= watt_per_k / self.capacity_j_per_k[here]
                rates[here][there] += watt_per_k / self.capacity_j_per_k[here]
        for node, watt_per_k, _ in self.losses:
            rates[node][node] -= watt_per_k / self.capacity_j_per_k[node]
        return rates

    def radiated_w(self, kelvin: Sequence[float]) -> list[float]:
        """Return what each node radiates, W (Stefan-Boltzmann)."""
        heat = [0.0] * len(self)
        for node, emissivity_m2 in self.radiators:
            heat[node] = emissivity_m2 * STEFAN_BOLTZMANN * kelvin[node] ** 4
        return heat

    def steady_k(self, heat_w: Sequence[float]) -> list[float]:
        """Return the temperatures at which nothing changes any more under constant heat, by Newton's method, K.

        ValueError where no node radiates or loses anything.
        """
        if not self.radiators and not self.losses:
            raise ValueError("nothing leaves this network, so it never becomes steady")
        size = len(self)
        rates, kelvin = self.matrix(), [300.0] * size
        for _ in range(200):
            radiated = self.radiated_w(kelvin)
            jacobian = [list(row) for row in rates]
            residual = []
            for i in range(size):
                flow = sum(map(mul, rates[i], kelvin)) + (heat_w[i] - radiated[i]) / self.capacity_j_per_k[i]
                jacobian[i][i] -= 4 * radiated[i] / kelvin[i] / self.capacity_j_per_k[i]
                residual.append(flow)
            for node, watt_per_k, ambient_k in self.losses:
                residual[node] += watt_per_k * ambient_k / self.capacity_j_per_k[node]
            step = solve(jacobian, residual)
            kelvin = [max(1.0, k - s) for k, s in zip(kelvin, step, strict=True)]
            if max(map(abs, step)) < 1e-9:
                break
        return kelvin


@lru_cache(maxsize=64)
def propagator(network: Network, seconds: float) -> tuple[Matrix, Matrix]:
    """Return (Phi, Psi): temperatures after ``seconds`` are ``Phi T + Psi q`` with constant heat ``q`` in W.

    ``phi_1(z) = (e^z - 1)/z`` by its series at a small part of the step, doubled from there:
    ``phi_1(2 z) = (1 + e^z) phi_1(z) / 2``.
    """
    size, rates = len(network), network.matrix()
    largest = max(sum(map(abs, row)) for row in rates) * seconds
    doublings = max(0, int(largest).bit_length() + 3)
    step = seconds / 2**doublings
    scaled = [[rate * step for rate in row] for row in rates]
    phi, term = _identity(size), _identity(size)
    for order in range(2, 12):
        term = [[value / order for value in row] for row in _times(term, scaled)]
        phi = _plus(phi, term)
    whole = _plus(_identity(size), _times(scaled, phi))  # e^z
    for _ in range(doublings):
        phi = [[value / 2 for value in row] for row in _plus(phi, _times(whole, phi))]
        whole = _times(whole, whole)
    heat = [[value * seconds / c for value, c in zip(row, network.capacity_j_per_k, strict=True)] for row in phi]
    return tuple(map(tuple, whole)), tuple(map(tuple, heat))


class Temperatures:
    """The state of a network, carried on from step to step."""

    def __init__(self, network: Network, kelvin: Sequence[float]) -> None:
        self.network = network
        self.kelvin = list(kelvin)
        self._before: list[float] | None = None
        self.received_j = self.radiated_j = 0.0
        """Energy since the start: all heat put in, and what was radiated away (trapezoid of Stefan-Boltzmann)."""

    def advance(self, heat_w: Sequence[float], seconds: float) -> None:
        """Carry on under constant heat per node."""
        network = self.network
        phi, psi = propagator(network, seconds)
        now = network.radiated_w(self.kelvin)
        before = self._before or now
        net = [q - 1.5 * a + 0.5 * b for q, a, b in zip(heat_w, now, before, strict=True)]
        for node, watt_per_k, ambient_k in network.losses:
            net[node] += watt_per_k * ambient_k
        self.kelvin = [
            sum(map(mul, row, self.kelvin)) + sum(map(mul, other, net)) for row, other in zip(phi, psi, strict=True)
        ]
        self._before = now
        self.received_j += sum(heat_w) * seconds
        self.radiated_j += (sum(now) + sum(network.radiated_w(self.kelvin))) / 2 * seconds

    def stored_j(self, since_k: Sequence[float]) -> float:
        """Return the heat that the nodes hold more than at ``since_k``, J."""
        gained = map(lambda c, now, then: c * (now - then), self.network.capacity_j_per_k, self.kelvin, since_k)
        return sum(gained)


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Return ``x`` of ``matrix x = right`` (Gauss with pivots). ZeroDivisionError for a singular matrix."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for k in range(size):
        pivot = max(range(k, size), key=lambda i: abs(rows[i][k]))
        rows[k], rows[pivot] = rows[pivot], rows[k]
        for i in range(k + 1, size):
            if factor := rows[i][k] / rows[k][k]:
                rows[i] = [a - factor * b for a, b in zip(rows[i], rows[k], strict=True)]
    found = [0.0] * size
    for k in reversed(range(size)):
        found[k] = (rows[k][size] - sum(rows[k][j] * found[j] for j in range(k + 1, size))) / rows[k][k]
    return found


def _identity(size: int) -> list[list[float]]:
    return [[float(i == j) for j in range(size)] for i in range(size)]


def _plus(a: list[list[float]], b: list[list[float]]) -> list[list[float]]:
    return [[x + y for x, y in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]


def _times(a: list[list[float]], b: list[list[float]]) -> list[list[float]]:
    columns = list(zip(*b, strict=True))
    return [[sum(map(mul, row, column)) for column in columns] for row in a]
