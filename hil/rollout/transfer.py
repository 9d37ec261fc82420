"""Upload, relay and fan-out: every board gets every byte once, and forwards it while more arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from hil.core.activity import doing
from hil.errors import DeviceError
from hil.images.artefact import Artefact
from hil.onboard.node.answers import ArtefactStatus
from hil.rollout.node_client import NodeRefused, NodeSilent
from hil.rollout.restart_barrier import HeldBack
from hil.rollout.steps import Context
from hil.rollout.upload import upload

NEAR_END = 0.85
"""From this part of an artefact on, boards are asked often; before, questions would only cost time."""
REFUSED = frozenset({400, 409, 413, 422})
ANSWER_S = 10.0
"""For an answer about a whole artefact: the board may have to read it again."""
READ_AGAIN_BYTES_S = 20e6
"""Slower than any board reads and hashes its own storage."""


@dataclass(frozen=True)
class Transfer:
    """How one artefact got to one board."""

    board: str
    source: str  # "ground" or the board it was pulled from
    seconds: float
    bytes_received: int  # payload bytes it took in, all sources and attempts, since it was first announced
    connections: int
    received: dict[str, int]  # the same bytes by peer
    moved: bool = True  # False: the board had it all before


def sources(context: Context) -> dict[str, str]:
    """Return where each board takes its data from: "ground", the gateway, or the head of its spacecraft."""
    fleet = context.fleet
    heads = {spacecraft: head.name for spacecraft, head in fleet.heads().items()}
    plan = {member.name: heads[member.spacecraft] for member in fleet}
    return {**plan, **dict.fromkeys(heads.values(), fleet.gateway), fleet.gateway: "ground"}


def step_name(context: Context, board: str) -> str:
    """upload, relay or fan-out."""
    if board == context.fleet.gateway:
        return "upload"
    return "relay" if board in {m.name for m in context.fleet.heads().values()} else "fan-out"


def to_gateway(context: Context, artefact: Artefact) -> Transfer:
    """Upload to the gateway board; nothing is sent when it has the artefact."""
    board = context.fleet.gateway
    with context.step("upload", board) as facts, context.client(board, timeout_s=ANSWER_S) as client:
        done = upload(
            client,
            artefact,
            deadline_s=context.policy.transfer_deadline_s,
            clock=context.clock,
            manifest=artefact.manifest(),
        )
        status = client.artefact(artefact.sha256)
        transfer = _transfer(status, board, "ground", done.seconds, moved=done.connections > 0)
        facts.update(artefact=artefact.name, bytes=artefact.size_bytes, connections=done.connections)
        if done.resumed_at:
            facts["resumed_at"] = list(done.resumed_at)
    return transfer


def to_board(context: Context, artefact: Artefact, board: str, source: str, given_up: threading.Event) -> Transfer:
    """Order a board to pull from another one, and wait until it has everything.

    HeldBack when ``given_up`` is set meanwhile.
    """
    start = context.clock.monotonic()
    with context.step(step_name(context, board), board) as facts:
        status, moved = _pull(context, artefact, board, source, given_up)
        transfer = _transfer(status, board, source, context.clock.monotonic() - start, moved=moved)
        facts.update(artefact=artefact.name, source=source, bytes=transfer.bytes_received)
    return transfer


def _pull(
    context: Context, artefact: Artefact, board: str, source: str, given_up: threading.Event
) -> tuple[ArtefactStatus, bool]:
    """Return the board's status of the artefact once it is complete, and whether it was not so from the start."""
    start = context.clock.monotonic()
    last: Exception | None = None
    ordered = moved = False
    pause_s = context.policy.poll_s
    what, limit_s = f"{board}: {step_name(context, board)} of {artefact.name}", context.policy.transfer_deadline_s
    with context.client(board) as client, doing(what, deadline_s=limit_s, whole=artefact.size_bytes) as activity:
        while context.clock.monotonic() - start < limit_s:
            try:
                status = client.artefact(artefact.sha256)
                if status is not None and status.complete:
                    if status.error:
                        raise DeviceError(f"{board} refused {artefact.name}: {status.error}")
                    return status, moved
                moved = True
                activity.done = status.have_bytes if status is not None else 0
                near_end = status is not None and status.have_bytes >= NEAR_END * artefact.size_bytes
                pause_s = context.policy.poll_s * (1 if near_end else 4)
                pulling = status.pulling if status is not None else None
                address = context.fleet.node_address(source)
                if pulling is None or (not ordered and pulling.sources != (address,)):
                    wanted = {"from": [address], "manifest_sha256": artefact.manifest_sha256}
                    client.call("POST", f"/artefacts/{artefact.sha256}/pull", wanted)
                    ordered = True
                elif pulling.last_error:
                    last = DeviceError(f"its puller says: {pulling.last_error}")
            except NodeRefused as exc:
                if exc.status in REFUSED:
                    raise
                last = exc
            except NodeSilent as exc:
                last = exc
            if given_up.is_set():
                raise HeldBack(f"{board}: no longer waits for {artefact.name}: another board failed")
            context.clock.sleep(pause_s)
    raise context.silence(board, f"get {artefact.name} from {source} within {limit_s:g} s", last)


def everywhere(
    context: Context,
    artefact: Artefact,
    *,
    with_upload: bool = True,
    arrived: Callable[[Transfer], None] = lambda _: None,
    failed: Callable[[str], None] = lambda _: None,
) -> list[Transfer]:
    """Bring the artefact to all boards, pipelined.

    ``arrived`` is called in the board's thread, ``failed`` with the reason when a board did not get the artefact;
    then the others no longer wait either (their own orders stay, and they go on pulling by themselves).
    """
    plan = sources(context)
    if not with_upload:
        del plan[context.fleet.gateway]

    artefact.manifest()  # now, rather than in all threads at once
    given_up = threading.Event()

    def one(board: str) -> Transfer:
        try:
            if plan[board] == "ground":
                transfer = to_gateway(context, artefact)
            else:
                transfer = to_board(context, artefact, board, plan[board], given_up)
        except BaseException as exc:
            given_up.set()
            failed(f"{board}: {exc}")
            raise
        arrived(transfer)
        return transfer

    return list(context.each(plan, one).values())


def _transfer(status: ArtefactStatus | None, board: str, source: str, seconds: float, *, moved: bool) -> Transfer:
    received = status.received if status is not None else {}
    connections = sum(status.connections.values()) if status is not None else 0
    return Transfer(board, source, round(seconds, 3), sum(received.values()), connections, received, moved)


def path_on_board(context: Context, artefact: Artefact, board: str) -> str:
    """Return where a board keeps an artefact that it has completely.

    Asked for the first time after a restart, a board reads all of it again before it answers.
    DeviceError when it does not have it, or does not answer; BenchError when the path to it is lost.
    """
    limit_s = context.policy.boot_deadline_s + artefact.size_bytes / READ_AGAIN_BYTES_S
    last: NodeSilent | None = None
    with context.client(board, timeout_s=min(ANSWER_S, limit_s)) as client:
        for _ in context.polling(limit_s):
            try:
                status = client.artefact(artefact.sha256)
            except NodeSilent as exc:
                last = exc
                continue
            if status is None or not status.installed:
                raise DeviceError(
                    f"{board} does not have {artefact.name} completely", remedy="distribute it before it is installed"
                )
            return status.path
    raise context.silence(board, f"say within {limit_s:.0f} s what it has of {artefact.name}", last) from last
