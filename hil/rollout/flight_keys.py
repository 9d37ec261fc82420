"""Keys of the flight network changed on boards in use: a new key for a board, and what boards trust, both over SSH."""

from __future__ import annotations

from collections.abc import Iterable

from hil.boards.protocol import Board, Via
from hil.errors import DeviceError
from hil.images.flight_pki import FlightPki
from hil.onboard.node.facts import Places
from hil.onboard.node.flight import OWN, TRUST

PLACE = Places().flight
OPENSSL_S = 30.0
_NEW_KEY = (
    f"cd {PLACE} && umask 077 && "
    "exec openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -batch -subj /CN=board -keyout new.key"
)
_TAKE = (
    f"cd {PLACE} && umask 077 && cat new.key new.cert >new.pem && sync && mv new.pem {OWN} && "
    "rm new.key new.cert && sync"
)


def renew_key(board: Board, pki: FlightPki, *, via: Via = Via.FLIGHT) -> bytes:
    """Have a board make a new key, certify it, and have the board use it; return the new certificate (PEM).

    The private key never leaves the board.  The old certificate stays good until :meth:`FlightPki.revoke` and
    :func:`give_trust`.  DeviceError when the board's request is none.
    """
    with board.shell(via) as shell:
        request = shell.run(["sh", "-c", _NEW_KEY], timeout_s=OPENSSL_S).stdout
        try:
            certificate = pki.answer(request.encode(), "board", board.name)
        except ValueError as exc:
            raise DeviceError(f"{board.name}: its request for a certificate is none: {exc}") from exc
        shell.write(str(PLACE / "new.cert"), certificate)
        shell.run(["sh", "-c", _TAKE])
    return certificate


def give_trust(boards: Iterable[Board], pki: FlightPki, *, via: Via = Via.FLIGHT) -> None:
    """Bring the CA's certificate and its revocation list to boards, which use them from their next request on."""
    content = pki.trust.read_bytes()
    for board in boards:
        with board.shell(via) as shell:
            shell.write(str(PLACE / "new.ca"), content)
            shell.run(["sh", "-c", f"cd {PLACE} && sync && mv new.ca {TRUST} && sync"])
