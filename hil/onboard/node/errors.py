"""The one error that the HTTP layer turns into an answer."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request that cannot be served: an HTTP status, a sentence, and facts that help the client go on."""

    def __init__(self, status: int, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.facts = facts

    def document(self) -> dict[str, Any]:
        """Return the JSON body of the answer."""
        return {"error": self.message, **self.facts}
