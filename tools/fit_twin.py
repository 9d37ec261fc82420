"""Fit the two-node parameters of :mod:`hil.twin.traces`: ``python -m tools.fit_twin`` prints them.

Least squares of the peak (1 C), the time to 63 % of the rise (3 %) and the share of the rise that is reached at a
quarter of the published time of the peak, which ties the slow node down: 95 % of it (assumed; the peak is where the
curve has become flat within the noise).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import least_squares

from hil.twin.traces import NX_PLATEAUS, TRACES, Trace, TwoNodes, reproduce, run


def fit(trace: Trace) -> TwoNodes:
    """Return the parameters that bring a trace closest."""
    orbit = trace.parameters.radiates_m2 > 0

    def nodes(logs: np.ndarray) -> TwoNodes:
        board, between, structure, out = np.exp(logs)
        return TwoNodes(board, between, structure, *((out, 0.0) if orbit else (0.0, out)))

    def off(logs: np.ndarray) -> list[float]:
        tried = replace(trace, parameters=nodes(logs))
        found = reproduce(tried)
        errors = [found.peak_error_c]
        if found.time_error is not None:
            errors.append(found.time_error / 0.03)
            late = next((c for m, c in run(tried) if m >= trace.minutes * 0.6), found.peak_c)
            share = (late - trace.start_c) / (found.peak_c - trace.start_c)
            errors.append((share - 0.97) / 0.02)
        else:  # the Nano: still rising by 2.3 C per minute at the end
            (m0, c0), (m1, c1) = list(run(tried))[-31], list(run(tried))[-1]
            errors.append(((c1 - c0) / (m1 - m0) - 2.3) / 0.05)
        return errors + list(0.01 * (logs - first))

    rise = trace.peak_c - trace.start_c
    out = trace.power_w / rise / (1 if not orbit else 6.0)
    first = np.log([100.0, 3 * trace.power_w / rise, 400.0, out if not orbit else 0.02])
    return nodes(least_squares(off, first, diff_step=0.01).x)


def main() -> None:
    """Print every fit, and the line through the plateaus of the Orin NX."""
    for trace in TRACES:
        if trace.fitted:
            found = fit(trace)
            print(trace.name, found, reproduce(replace(trace, parameters=found)))
    watts, celsius = np.array([(w, c) for _, _, w, c in NX_PLATEAUS]).T
    slope, ambient = np.polyfit(watts, celsius, 1)
    print("Orin NX", ambient, slope, ambient + slope * watts - celsius)


if __name__ == "__main__":
    main()
