"""What fits into the passes over the ground: bytes that a constellation makes, and those that its contacts carry."""

from __future__ import annotations

from dataclasses import dataclass

from hil.orbit.contact_plan import ContactPlan


@dataclass(frozen=True)
class Downlink:
    """The downlink of a span; bytes of all spacecraft together."""

    made: float
    sent: float
    left: float
    """Not sent at the end of the span."""
    unfit: float
    """Of it, what was there when the last pass of its spacecraft ended: the passes had no room for it."""
    most_stored: float
    """The largest backlog of one spacecraft."""
    passes: int
    contact_s: float

    @property
    def fits(self) -> float:
        """Share of what was made that came down."""
        return self.sent / self.made if self.made else 1.0


def downlink(
    plan: ContactPlan, spacecraft: tuple[str, ...], bytes_per_s: float, *, efficiency: float = 0.9
) -> Downlink:
    """Return what comes down when every spacecraft makes ``bytes_per_s`` all the time, and keeps what does not fit.

    A pass carries the rate of its contact times ``efficiency`` (headers, acquisition; assumed).  Each spacecraft sends
    by its own passes; two at once over one station share nothing: it has an antenna for each (assumed).
    """
    sent = left = unfit = most = 0.0
    passes, contact_s = 0, 0.0
    for craft in spacecraft:
        stored = at_s = 0.0
        own = sorted(
            (c for c in plan.contacts if c.kind == "ground" and craft in (c.a, c.b)),
            key=lambda contact: contact.start_s,
        )
        for contact in own:
            stored += bytes_per_s * max(0.0, contact.start_s - at_s)
            most = max(most, stored)
            begin_s = max(at_s, contact.start_s)
            seconds = max(0.0, contact.end_s - begin_s)
            moved = min(stored + bytes_per_s * seconds, contact.rate_bps / 8 * efficiency * seconds)
            stored += bytes_per_s * seconds - moved
            sent += moved
            at_s = max(at_s, contact.end_s)
            passes, contact_s = passes + 1, contact_s + seconds
        unfit += stored
        stored += bytes_per_s * max(0.0, plan.duration_s - at_s)
        left, most = left + stored, max(most, stored)
    return Downlink(bytes_per_s * plan.duration_s * len(spacecraft), sent, left, unfit, most, passes, contact_s)
