"""How long a rollout waits for what, and its choices."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class RolloutPolicy:
    """Deadlines in seconds and choices of a rollout."""

    transfer_deadline_s: float = 180.0
    install_deadline_s: float = 120.0
    boot_deadline_s: float = 40.0
    node_deadline_s: float = 8.0  # SSH answers after a boot, the node service does not: unhealthy
    health_deadline_s: float = 15.0
    configure_deadline_s: float = 30.0
    poll_s: float = 0.05
    canary_head_start_s: float = 1.0  # the canary installs first: everybody waits for its restart
    downgrade: bool = False  # a bundle older than the OS that a board runs is refused
    canary: str | None = None  # None: the first board that nobody pulls from

    def allowing_for(self, gap_s: float) -> RolloutPolicy:
        """Return the same, with transfers that may wait out a planned gap of the contact of that length."""
        return replace(self, transfer_deadline_s=self.transfer_deadline_s + gap_s)

    def allowing_for_boots(self, boot_s: float) -> RolloutPolicy:
        """The same, for boards of which the slowest may take so long to boot or to fall back (an Orin: minutes)."""
        return replace(self, boot_deadline_s=max(self.boot_deadline_s, boot_s))
