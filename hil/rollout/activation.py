"""Switching a board to another OS: restart, health checks, confirm, or back to the old one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

from hil.errors import ConfigurationError, DeviceError, HarnessError, HilError
from hil.evidence.events import RestartOrdered
from hil.images.artefact import BundleFacts
from hil.images.signer import is_plain
from hil.onboard.node.answers import Health
from hil.rollout.node_client import NodeRefused, NodeSilent
from hil.rollout.steps import Context
from hil.rollout.updaters.protocol import OsAdapter, OsStatus

LARGEST_PLAIN = (1 << 31) - 1
"""Bytes."""
SSH_AFTER_S = 2.0
"""From here on SSH is asked too, because a board whose node service is broken answers nowhere else."""
SSH_EVERY_S = 1.0


class FellBack(DeviceError):
    """The board runs the old OS again: the new one did not boot, or was unhealthy and was taken back."""


def runs(health: Health, bundle: BundleFacts) -> bool:
    """Return whether a board runs the bundle's image."""
    return health.os_version == bundle.version and health.image_sha256 in (None, bundle.image_sha256)


def holds(status: OsStatus, bundle: BundleFacts) -> bool:
    """Return whether the slot that is not running has the bundle's image, completely."""
    return status.other.complete and status.other.image_sha256 == bundle.image_sha256


def check_newer(health: Health, bundle: BundleFacts, *, downgrade: bool) -> None:
    """Raise ConfigurationError when a board runs a newer OS than the bundle's, unless a downgrade is meant.

    Old bundles stay validly signed for ever.  Versions are compared by their leading numbers; others are not compared.
    """
    runs_now, offered = _numbers(health.os_version or ""), _numbers(bundle.version)
    if runs_now and offered and offered < runs_now and not downgrade:
        raise ConfigurationError(
            f"{health.board} runs {health.os_version}, and bundle {bundle.path.name} is the older {bundle.version}",
            remedy="if it is meant to go back, roll back, or pass RolloutPolicy(downgrade=True)",
        )


def check_size(bundle: BundleFacts) -> None:
    """Raise ConfigurationError for a bundle of RAUC's plain format whose signature may cover only a part of it.

    RAUC before 1.15.2 takes the size as 32 bits with a sign (CVE-2026-34155): of more than 2 GiB only the first bytes
    are signed.  Which RAUC a board has is not asked: the bundle need not reach it.
    """
    try:
        size = bundle.path.stat().st_size
        if size <= LARGEST_PLAIN or not is_plain(bundle.path):
            return
    except (OSError, HarnessError):
        return  # it is no bundle: the updater says so
    raise ConfigurationError(
        f"bundle {bundle.path.name} has {size} bytes in RAUC's plain format, whose signature may cover only a part of "
        f"more than {LARGEST_PLAIN} bytes",
        remedy="make it with format=verity",
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, without zeros at their end: 2.0.1+x gives (2, 0, 1)."""
    found = re.match(r"v?(\d{1,9}(?:\.\d{1,9})*)", version)
    numbers = [int(part) for part in found[1].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def activate(
    context: Context, board: str, bundle: BundleFacts, adapter: OsAdapter, known: OsStatus | None = None
) -> None:
    """Restart a board into the bundle and confirm it, unless that is done already.

    ``known`` is what the updater said when it had just installed; without it the updater is asked.  FellBack when
    the board runs the old OS afterwards, by itself or because the new one was unhealthy or not what the bundle says;
    DeviceError when the bundle is not installed or it does not come back.
    """
    health = before = context.health(board, deadline_s=context.policy.boot_deadline_s)
    check_newer(before, bundle, downgrade=context.policy.downgrade)
    if not runs(before, bundle):
        if not holds(known or adapter.status(), bundle):
            raise DeviceError(f"{board}: {bundle.version} is not installed", remedy="install it first")
        with context.step("boot", board) as facts:
            context.sink.emit(RestartOrdered(board, "activate"))
            adapter.activate()
            try:
                health = wait_restarted(context, board, before.boot_id, adapter)
            except _NodeNeverCame as exc:
                _take_back(context, board, adapter, f"was unhealthy ({exc})", exc.facts)
            facts.update(os_version=health.os_version, slot=health.slot)
            if not runs(health, bundle):
                if _changed_slot(before, health):
                    why = f"is not what was installed ({_other_than(health, bundle)})"
                    _take_back(context, board, adapter, why, health.document())
                raise FellBack(
                    f"{board}: {bundle.version} did not come up; it runs {health.os_version} in slot "
                    f"{health.slot} again{_last_reset(adapter)}",
                    remedy=f"see the boots of {bundle.version} in `hil board console {board}`",
                )
    confirm(context, board, adapter, health)


def _changed_slot(before: Health, after: Health) -> bool:
    """Return whether another slot runs; where that is not said, whether another image does."""
    if None not in (before.slot, after.slot):
        return before.slot != after.slot
    return (before.os_version, before.image_sha256) != (after.os_version, after.image_sha256)


def _other_than(health: Health, bundle: BundleFacts) -> str:
    """Return what of a running OS is not as the bundle says, in words."""
    if health.image_sha256 not in (None, bundle.image_sha256):
        return f"slot {health.slot} runs image {str(health.image_sha256)[:16]}…, not {bundle.image_sha256[:16]}…"
    return f"the OS in slot {health.slot} says that it is {health.os_version}, not {bundle.version}"


def _still(first: Health, now: Health) -> Health:
    """Return ``now``; FellBack when another OS runs than in ``first``."""
    if _changed_slot(first, now):
        raise FellBack(
            f"{now.board}: {first.os_version} did not last until it was confirmed; it runs {now.os_version} in slot "
            f"{now.slot} again",
            remedy=f"see the boots of {first.os_version} in `hil board console {now.board}`",
        )
    return now


def confirm(context: Context, board: str, adapter: OsAdapter, health: Health) -> None:
    """Mark the running slot good after its health checks; FellBack when it is unhealthy, or did not last until then."""
    if health.healthy and health.confirmed:
        return
    first = health
    with context.step("confirm", board) as facts:
        limit = context.policy.health_deadline_s
        for _ in context.polling(limit):
            if health.healthy:
                break
            health = _still(first, context.health(board, deadline_s=limit))
        else:
            _take_back(context, board, adapter, f"was unhealthy ({'; '.join(health.problems)})", health.document())
        adapter.confirm()
        if not any(_still(first, context.health(board, deadline_s=limit)).confirmed for _ in context.polling(limit)):
            raise DeviceError(f"{board}: the updater confirmed the slot, but the board does not know of it")
        facts.update(os_version=health.os_version, slot=health.slot)


def roll_back(context: Context, board: str, adapter: OsAdapter) -> None:
    """Restart a board into its previous slot and confirm it there. DeviceError when there is nothing to go back to."""
    before = context.health(board, deadline_s=context.policy.boot_deadline_s)
    with context.step("roll back", board) as facts:
        context.sink.emit(RestartOrdered(board, "roll back"))
        adapter.roll_back()
        try:
            after = wait_restarted(context, board, before.boot_id, adapter)
        except _NodeNeverCame as exc:
            raise DeviceError(f"{board}: after the roll-back {exc}") from exc
        facts.update(os_version=after.os_version, slot=after.slot)
        if after.slot == before.slot:
            raise DeviceError(f"{board}: it came back in slot {after.slot} again")
    confirm(context, board, adapter, after)


class _NodeNeverCame(Exception):
    """The board restarted and answers SSH, but its node service does not; ``facts`` are what SSH said of that boot."""

    def __init__(self, seconds: float, facts: Mapping[str, Any]) -> None:
        super().__init__(f"its node service does not answer for {seconds:.0f} s")
        self.facts = facts


def wait_restarted(context: Context, board: str, boot_id: str, adapter: OsAdapter) -> Health:
    """Return the board's health once its boot id is another one.

    DeviceError at the boot deadline; _NodeNeverCame when only SSH answers for ``node_deadline_s``.
    """
    limit = context.policy.boot_deadline_s
    next_ssh, ssh_since = SSH_AFTER_S, 0.0
    by_ssh: Mapping[str, Any] = {}
    last: Exception | None = None
    with context.client(board, timeout_s=1.0) as client:
        for now in context.polling(limit):
            try:
                health = client.health()
                if health.boot_id != boot_id:
                    return health
            except (NodeSilent, NodeRefused) as exc:
                last = exc
            if now >= next_ssh:
                next_ssh = now + SSH_EVERY_S
                if not by_ssh and (by_ssh := _restarted_by_ssh(adapter, boot_id)):
                    ssh_since = now
            if by_ssh and now - ssh_since >= context.policy.node_deadline_s:
                raise _NodeNeverCame(now - ssh_since, by_ssh)
    raise context.silence(board, f"come back within {limit:g} s of its restart", last)


def _last_reset(adapter: OsAdapter) -> str:
    """Return why the board came back in the other slot, where it tells: a watchdog, a panic, a power-on."""
    try:
        why = adapter.health().facts.get("last_reset")
    except (HilError, OSError, EOFError):
        return ""
    return f"; last reset: {why}" if why else ""


def _restarted_by_ssh(adapter: OsAdapter, boot_id: str) -> Mapping[str, Any]:
    """Return what SSH says of a board's boot; nothing while it is the one before the restart."""
    try:
        report = adapter.health()
    except (HilError, OSError, EOFError):
        return {}
    return report.facts if report.healthy and report.facts.get("boot_id") not in (None, boot_id) else {}


def _take_back(context: Context, board: str, adapter: OsAdapter, why: str, seen: Mapping[str, Any]) -> NoReturn:
    """Restart a board into its old slot, as the new OS must not stay; raises FellBack once it runs there.

    ``seen``: ``boot_id`` and, where it is known, ``slot`` of the new OS.
    """
    context.sink.emit(RestartOrdered(board, "take back"))
    adapter.roll_back()
    try:
        after = wait_restarted(context, board, str(seen["boot_id"]), adapter)
    except _NodeNeverCame as exc:
        raise DeviceError(f"{board}: the new OS {why}, and the old one is unhealthy: {exc}") from exc
    if after.slot is not None and after.slot == seen.get("slot"):
        raise DeviceError(f"{board}: the new OS {why}, and the board came back in slot {after.slot} again")
    raise FellBack(f"{board}: the new OS {why}; it was taken back, and the board runs {after.os_version} again")
