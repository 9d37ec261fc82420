"""What calibration needs of a probe, without packets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class FakeProbe:
    link: str = "isl"
    direction: str = "a_to_b"
    delay_s: float = 0.0

    @property
    def name(self) -> tuple[str, str]:
        return self.link, self.direction
