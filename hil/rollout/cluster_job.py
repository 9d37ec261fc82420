"""Runs the workload on the cluster and compares it with the ground twin."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from hil.boards.protocol import Via
from hil.core.wait import SYSTEM_CLOCK, Clock, poll_until, wait_until
from hil.errors import DeviceError
from hil.evidence.events import BoardWork, InferenceFinished
from hil.evidence.sink import NullSink, Sink
from hil.onboard.node.answers import ContractError
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeClient, NodeRefused, NodeSilent
from hil.workload.artefacts import PayloadArtefacts
from hil.workload.compare import compare, read_mask

START_S = 10.0
"""The gateway must claim an epoch, and so take a job, within this time."""
JOB_ID = re.compile(r"[0-9]{1,9}")
MASK_S = 60.0
"""For the mask to come down, about 1 MB."""


@dataclass(frozen=True)
class JobStatus:
    """The document of ``GET /jobs/<id>``, as far as the harness reads it."""

    id: str
    scene: str
    epoch: int
    state: str
    """``running``, ``done``, ``failed``, or ``cut off`` when the board restarted."""
    error: str = ""
    tiles: int = 0
    retried: int = 0
    seconds: float = 0.0
    boards: dict[str, BoardWork] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not JOB_ID.fullmatch(self.id):
            raise ContractError(f"id must be a number of up to 9 digits, not {self.id[:40]!r}")
        if self.seconds < 0:
            raise ContractError(f"seconds is below 0: {self.seconds}")


def run_inference(
    fleet: Fleet,
    payload: PayloadArtefacts,
    sink: Sink | None = None,
    *,
    deadline_s: float = 120.0,
    clock: Clock = SYSTEM_CLOCK,
    keep: Path | None = None,
) -> InferenceFinished:
    """Start the job at the gateway over the flight network, fetch the mask, compare; emits and returns the result.

    The scene must be at the gateway (``Rollout.upload(payload.scene)``) and the cluster configured with the model.
    ``keep``: where to write the mask as ``.npy``.  DeviceError when the job fails or does not end in time.
    """
    with NodeClient(fleet, fleet.gateway, Via.FLIGHT, timeout_s=10.0) as client:
        job = start_job(client, payload.scene.sha256, clock)

        def finished() -> JobStatus | None:
            status = client.ask(JobStatus, "GET", f"/jobs/{job}")
            return status if status.state != "running" else None

        status = wait_until(
            finished,
            what=f"job {job} on {fleet.gateway} to end",
            deadline_s=deadline_s,
            every_s=0.1,
            error=DeviceError,
            remedy="are all boards up, and do they claim? see `hil board list`",
            clock=clock,
        )
        if status.state != "done":
            raise DeviceError(f"{fleet.gateway}: job {job} {status.state}: {status.error}")
        code, content = client.raw("GET", f"/jobs/{job}/mask", timeout_s=MASK_S)
        if code != 200:
            raise DeviceError(f"{fleet.gateway}: the mask of job {job} cannot be fetched (HTTP {code})")
    if keep is not None:
        keep.write_bytes(content)
    result = _event(job, status, content, payload)
    (sink or NullSink()).emit(result)
    return result


def start_job(client: NodeClient, scene: str, clock: Clock) -> str:
    """Start the job over a scene; its id.

    A job that a killed harness left running is taken over when it is over the same scene.  A gateway that refuses
    with HTTP 409 is asked again for ``START_S``: its lease may have lapsed for a moment.
    """
    last: NodeRefused | None = None
    for _ in poll_until(START_S, every_s=0.1, clock=clock):
        try:
            return client.ask(JobStatus, "POST", "/jobs", {"scene": scene}).id
        except NodeRefused as exc:
            running = exc.facts.get("job")
            if running is not None and not JOB_ID.fullmatch(str(running)):
                raise DeviceError(
                    f"{client.board}: it says that job {str(running)[:40]!r} runs, which is no number"
                ) from exc
            if running is not None and client.ask(JobStatus, "GET", f"/jobs/{running}").scene == scene:
                return str(running)
            if running is not None or exc.status != 409:
                raise
            last = exc
        except NodeSilent as exc:
            raise DeviceError(f"{client.board} did not take the job: {exc}") from exc
    raise DeviceError(f"{client.board} did not take the job within {START_S:g} s: {last}") from last


def _event(job: str, status: JobStatus, content: bytes, payload: PayloadArtefacts) -> InferenceFinished:
    from hil.onboard.node.errors import ApiError
    from hil.onboard.node.infer import from_npy

    try:
        mask = from_npy(content)
    except ApiError as exc:
        raise DeviceError(f"job {job}: the mask is {exc.message}") from exc
    found = compare(mask, read_mask(payload.golden))
    committed = compare(mask, read_mask(payload.committed)) if payload.committed.exists() else None
    return InferenceFinished(
        job=job,
        epoch=status.epoch,
        seconds=round(status.seconds, 3),
        tiles=status.tiles,
        retried_tiles=status.retried,
        tiles_per_s=round(status.tiles / status.seconds, 3) if status.seconds else 0.0,
        per_board=status.boards,
        mismatched_pixels=found.mismatched_pixels,
        pixels=found.pixels,
        iou=round(found.iou, 6),
        digest=found.digest,
        golden_digest=found.golden_digest,
        mismatched_pixels_committed=committed.mismatched_pixels if committed else None,
    )
