"""Errors with another message are still the same errors."""

from __future__ import annotations

from hil.errors import Blame, DeviceError


class RefusedError(DeviceError):
    """An error whose constructor wants more than a message."""

    def __init__(self, reason: str, *, code: int) -> None:
        super().__init__(f"refused: {reason}", remedy="ask again")
        self.code = code


def test_a_context_keeps_type_remedy_and_what_the_error_carries() -> None:
    error = RefusedError("busy", code=7)
    other = error.with_context(f"board a1: {error.message}")
    assert (type(other), other.code, other.remedy) == (RefusedError, 7, "ask again")
    assert other.blame is Blame.DEVICE
    assert str(other) == "board a1: refused: busy\n  remedy: ask again"
    assert other.args == ("board a1: refused: busy",)
    assert error.message == "refused: busy"
