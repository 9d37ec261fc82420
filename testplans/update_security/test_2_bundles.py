"""Bundles that must not come to run: each is refused by the updater or held by the rollout, and the slot proves it."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from hil.errors import ConfigurationError, DeviceError
from hil.evidence.model import equals
from hil.images.bundles import BundleKind
from hil.images.pki import ensure_pki
from hil.images.signer import signature_place
from hil.rollout import activation
from hil.rollout.policy import RolloutPolicy
from hil.rollout.rollout import Rollout
from hil.rollout.updaters.declaration import load_adapter
from hil.rollout.updaters.declared import RAUC, SWUPDATE, over_flight_as
from hil.rollout.updaters.protocol import RefusedBundle

KEYRING = "/etc/rauc/keyring.pem"
RESTART = "kill $(cat /run/service/rauc.pid) && sleep 2"
OFF = {
    BundleKind.WRONG_KEY: f"cat /tmp/foreign.pem >>{KEYRING}; sed -i '/BEGIN X509 CRL/,/END X509 CRL/d' {KEYRING}; "
    "sed -i s/check-crl=true/check-crl=false/ /etc/rauc/system.conf",
    BundleKind.REVOKED: f"sed -i '/BEGIN X509 CRL/,/END X509 CRL/d' {KEYRING}; "
    "sed -i s/check-crl=true/check-crl=false/ /etc/rauc/system.conf",
    BundleKind.WRONG_HARDWARE: "sed -i s/orbital-ref-orin/orbital-ref-nano/ /etc/rauc/system.conf /etc/hwrevision",
    BundleKind.EXPIRED: "true",  # OpenSSL's own check of the time cannot be switched off: see below
}
"""How a board's protection against a bundle is switched off."""
KEEP = "mkdir -p /tmp/kept && cp /etc/rauc/* /etc/hwrevision /tmp/kept/"
GIVE_BACK = f"cp /tmp/kept/keyring.pem /tmp/kept/system.conf /etc/rauc/; cp /tmp/kept/hwrevision /etc/; {RESTART}"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(BundleKind.WRONG_KEY, marks=pytest.mark.requirement("UPS-080")),
        pytest.param(BundleKind.EXPIRED, marks=pytest.mark.requirement("UPS-090")),
        pytest.param(BundleKind.REVOKED, marks=pytest.mark.requirement("UPS-100")),
        pytest.param(BundleKind.WRONG_HARDWARE, marks=pytest.mark.requirement("UPS-110")),
    ],
    ids=str,
)
@pytest.mark.step("bad bundles")
def test_a_bundle_that_must_not_be_installed_is_refused(
    attempt, kind, bundles, guinea_pig, protected, contained, refused, measure
):
    """Off: the board's keyring, revocation list or hardware name; of an expired signature, one that is good in time."""
    bundle = bundles.bundle(kind)
    if not protected:
        with guinea_pig.shell() as shell:
            shell.write("/tmp/foreign.pem", (ensure_pki().directory / "foreign.ca.pem").read_bytes())
            shell.run(["sh", "-c", f"{KEEP}; {OFF[kind]}; {RESTART}"], check=False)
        if kind is BundleKind.EXPIRED:
            bundle = bundles.bundle(BundleKind.NO_BOOT)
    with contained(str(kind)):
        rollout = attempt(bundle)
        rollout.distribute()
        try:
            measure("reason given", refused("it was refused", rollout.install, RefusedBundle))
        finally:
            if not protected:
                with guinea_pig.shell() as shell:
                    shell.run(["sh", "-c", GIVE_BACK], check=False)


@pytest.mark.requirement("UPS-040")
@pytest.mark.step("older bundle")
def test_an_older_bundle_with_a_good_signature_is_not_installed(
    attempt, bundles, guinea_pig, protected, contained, refused, measure
):
    """Off: a downgrade is meant, and the board's own check, which refuses it as well, is told so."""
    if not protected:
        with guinea_pig.shell() as shell:
            shell.run(["touch", "/run/older-allowed"])
    rollout = attempt(bundles.bundle(BundleKind.OLDER), RolloutPolicy(downgrade=not protected))
    with contained("older bundle"):
        rollout.distribute()
        measure("reason given", refused("it was refused", rollout.install, ConfigurationError))


@pytest.mark.requirement("UPS-060")
@pytest.mark.step("mix and match")
def test_an_image_under_another_name_is_not_activated(
    attempt, bundles, protected, contained, refused, monkeypatch, measure
):
    """A good bundle, and the facts of another one.  Off: what the updater says it installed is not compared."""
    other = bundles.bundle(BundleKind.NO_BOOT)
    wanted = replace(other, image_sha256=bundles.os_v2.image_sha256, version=bundles.os_v2.version)
    if not protected:
        wanted = replace(wanted, manifest_version=other.version)
        _trust_the_updater(monkeypatch)
    rollout = attempt(wanted)

    def work():
        rollout.install()
        rollout.activate([rollout.fleet.gateway])

    with contained("mix and match"):
        rollout.distribute()
        measure("reason given", refused("it was refused before a restart", work, DeviceError))


@pytest.mark.requirement("UPS-120")
@pytest.mark.step("exchanged")
def test_a_bundle_that_is_exchanged_after_its_check_is_not_activated(
    bench, fleet, guinea_pig, bundles, recorder, protected, contained, refused, forget, monkeypatch, measure
):
    """Somebody on the board exchanges the file once its digest was found right.  Off: as for mix and match."""
    other, bundle = bundles.bundle(BundleKind.NO_BOOT), bundles.os_v2
    file = load_adapter(SWUPDATE if bench.lab.os.adapter == "swupdate" else RAUC)
    swap = file.install.steps[0].model_copy(update={"run": ["cp", "/data/exchanged", "{bundle}"]})
    file = file.model_copy(update={"install": file.install.model_copy(update={"steps": [swap, *file.install.steps]})})
    with guinea_pig.shell() as shell:
        shell.push(other.path, "/data/exchanged")
    if not protected:
        bundle = replace(bundle, manifest_version=other.version)
        _trust_the_updater(monkeypatch)
    adapter = over_flight_as(file, version=bundle.version)
    rollout = Rollout(fleet.only(guinea_pig.name), bundle, recorder, adapter=adapter)

    def work():
        rollout.install()
        rollout.activate([guinea_pig.name])

    with contained("exchanged"):
        rollout.distribute()
        measure("reason given", refused("it was refused before a restart", work, DeviceError))
    forget(bundle.sha256)  # what the attacker wrote there
    with guinea_pig.shell() as shell:
        shell.run(["rm", "-f", "/data/exchanged"])


@pytest.mark.requirement("UPS-070")
@pytest.mark.step("partial fleet")
def test_a_board_that_refuses_keeps_the_whole_fleet_as_it_is(
    fleet, guinea_pig, bundles, recorder, os_adapter, protected, contained, refused, measure
):
    """The attacked board trusts nobody any more.  Off: each board restarts for itself."""
    pair = fleet.only(fleet.members[-2].name, guinea_pig.name)
    policy = RolloutPolicy(canary=fleet.members[-2].name)
    rollout = Rollout(pair, bundles.os_v2, recorder, policy, adapter=os_adapter(bundles.os_v2.version))
    with guinea_pig.shell() as shell:
        shell.run(["sh", "-c", f"cp {KEYRING} /tmp/kept; : >{KEYRING}; {RESTART}"], check=False)

    def each_for_itself():
        rollout.distribute()
        rollout.install([pair.gateway])
        rollout.activate([pair.gateway])
        rollout.install([guinea_pig.name])

    def together():
        rollout.distribute()
        rollout.install()
        rollout.activate_canary()

    try:
        with contained("partial fleet"):
            measure("reason given", refused("it was refused", together if protected else each_for_itself, DeviceError))
    finally:
        with guinea_pig.shell() as shell:
            shell.run(["sh", "-c", f"cp /tmp/kept {KEYRING}; {RESTART}"], check=False)


@pytest.mark.requirement("UPS-150")
@pytest.mark.step("large bundle")
def test_a_plain_bundle_above_2_gib_reaches_no_board(
    attempt, bundles, tmp_path, protected, refused, monkeypatch, verify, fleet, measure
):
    """Off: its size is not looked at; nothing is sent even then, for it is only a hole with a signature at its end."""
    small = bundles.bundle(BundleKind.NO_BOOT)
    large = tmp_path / "large.raucb"
    if large.suffix == small.path.suffix:
        start, size = signature_place(small.path)
        tail = small.path.read_bytes()[start : start + size] + size.to_bytes(8, "big")
    else:
        tail = b"no manifest in here" + (19).to_bytes(8, "big")
    with large.open("wb") as file:
        file.truncate((1 << 31) + 4096)
        file.seek(0, os.SEEK_END)
        file.write(tail)
    if not protected:
        monkeypatch.setattr(activation, "LARGEST_PLAIN", 1 << 62)
    bundle = replace(small, path=large, sha256="0" * 64, size_bytes=large.stat().st_size)
    rollout = attempt(bundle)
    measure("reason given", refused("it was refused before a byte was sent", rollout._note_bundle, ConfigurationError))
    verify("bytes on the board", rollout.bytes_at(rollout.fleet.gateway), limit=equals(0))


def _trust_the_updater(monkeypatch) -> None:
    """Believe that what was installed is what was meant, as a server does that takes "done" for done."""
    monkeypatch.setattr(activation, "holds", lambda status, bundle: True)
