"""The guests of a lab file: nodes from outside the constellation that its spacecraft serve."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydantic import Field

from hil.lab.link_spec import LinkSpec, Name
from hil.lab.real_board import NicName
from hil.lab.yamlfile import Strict, fault

MAX_GUESTS = 16


class GuestSpec(Strict):
    """One guest.  With an orbit, the orbit file has a guest of the same name; its links follow its track."""

    name: Name
    served_by: Name | None = Field(
        default=None, description="the board that it may ask, and nobody else; default: the lab's gateway"
    )
    nic: NicName | None = Field(
        default=None,
        description="NIC or VLAN of this machine that leads to a real machine; the bench takes it while it is up. "
        "Left out: the bench makes a container",
    )


def check_guests(
    guests: Sequence[GuestSpec], links: Sequence[LinkSpec], *, boards: Collection[str], station: str, security: str
) -> None:
    """Refuse a board that is not there, a lab without flight security, and a link whose kind does not fit its ends."""
    for guest in guests:
        if guest.served_by is not None and guest.served_by not in boards:
            key, known = f"guests.{guest.name}.served_by", ", ".join(boards)
            raise fault(key, guest.served_by, f"{guest.served_by} is not a board; boards: {known}")
    if guests and security != "mtls":
        raise fault("flight_security", security, "a lab with guests needs `flight_security: mtls`: they are strangers")
    names = {guest.name for guest in guests}
    for link in links:
        ends = {*link.between}
        for kind, are, what in (("ground", {station}, "the ground station"), ("guest", names, "a guest")):
            if bool(ends & are) != (link.kind == kind):
                has = "has" if ends & are else "does not have"
                raise fault(
                    f"links.{link.name}.kind", link.name, f"is {link.kind}, but the link {has} {what} at an end"
                )
        if link.kind == "guest" and ends <= names:
            raise fault(
                f"links.{link.name}.between", link.name, "both ends are guests; a guest's link needs a spacecraft"
            )
