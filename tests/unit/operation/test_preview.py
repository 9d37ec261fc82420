"""The preview on labs: what binds, from where the figures are, and what is said."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hil.core import paths
from hil.errors import ConfigurationError
from hil.lab.link_spec import Direction
from hil.lab.model import Lab, load_lab
from hil.lab.tenant import QuotaSpec
from hil.lab.twin import BusSpec, RadiatorSpec, StructureSpec, TwinSpec
from hil.operation.arithmetic import quantity
from hil.operation.contacts import Contacts
from hil.operation.heat import heat_and_power
from hil.operation.model import LimitsSpec, Operation, load_operation
from hil.operation.preview import Checked, check
from hil.orbit.times import parse_time
from hil.twin.prediction import Prediction

UPLOAD = "upload: {deadline: 3m}"
ALL = "upload: {deadline: 3m}\n  verify: {}\n  install: {}\n  activate: {}\n  configure: {}"


@pytest.fixture(autouse=True)
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_HOME", str(tmp_path / "home"))


def operation(folder: Path, *, steps: str = UPLOAD, size: int = 50_000_000, more: str = "") -> Operation:
    file = folder / "operation.yaml"
    file.write_text(
        f"schema: 1\nname: test\nbundle: {{size_bytes: {size}}}\nlimits: {{margin: 0.0}}\n{more}\nsteps:\n  {steps}\n"
    )
    return load_operation(file)


def lab(name: str, **changes: object) -> Lab:
    loaded = load_lab(Path(name))
    changed = loaded.model_copy(update=changes)
    changed._file = loaded.file
    return changed


def at_rate(name: str, **rates_bps: int) -> Lab:
    loaded = lab(name)
    links = [
        link.model_copy(update={"rate_bps": rates_bps.get(link.name.replace("-", "_"), link.rate_bps)})
        for link in loaded.links
    ]
    return lab(name, links=tuple(links))


def free(found: Checked) -> dict[str, float | None]:
    return {term.name: term.free for term in found.preview.terms}


def test_a_link_that_is_always_there_carries_rate_times_deadline(tmp_path: Path) -> None:
    found = check(operation(tmp_path), lab("virtual"))
    upload, relay = (next(t for t in found.preview.terms if t.name.startswith(word)) for word in ("upload", "relay"))
    assert upload.needs == 50_000_000 and upload.has == pytest.approx(100e6 / 8 * 0.9 * 180)
    assert relay.has == pytest.approx(upload.has, rel=1e-6), "the relay cannot be ahead of the upload"
    assert found.preview.feasible and "Feasible" in found.sentence
    assert found.uploaded_s == pytest.approx(50e6 * 8 / 90e6, abs=0.01)
    assert "virtual.yaml" in upload.source and "scaled down" in upload.source


def test_a_rate_that_is_cut_makes_the_slow_link_bind(tmp_path: Path) -> None:
    slow = check(operation(tmp_path), at_rate("virtual", isl_ab=1_000_000))
    assert slow.preview.binding is not None and slow.preview.binding.name == "relay: sc-a to sc-b"
    assert not slow.preview.feasible
    assert slow.sentence == (
        "Infeasible: relay: sc-a to sc-b needs 50 MB and has 20.2 MB "
        "(1 pass in 3 min; it would be done after 7 min 24 s, in 1 pass)."
    )


def test_the_direction_that_is_used_counts(tmp_path: Path) -> None:
    loaded = lab("virtual")
    ground = loaded.links[0].model_copy(update={"b_to_a": Direction(rate_bps=64_000)})
    one_way = lab("virtual", links=(ground, *loaded.links[1:]))
    assert check(operation(tmp_path), one_way).preview.feasible
    down = operation(tmp_path, steps=f"{ALL}\n  run: {{duration: 1s}}\n  collect: {{size_bytes: 10000000}}")
    found = check(down, one_way)
    assert found.preview.binding is not None and found.preview.binding.name.startswith("collect")
    assert not found.preview.feasible


@pytest.mark.parametrize(
    ("gigabytes", "deadline", "fits", "words"),
    [
        (4, "15m", True, ""),
        (8, "15m", False, "1 pass in 15 min; it would be done after 12 h"),
        (8, "13h", True, ""),
        (400, "13h", False, "2 passes in 13 h; not done"),
    ],
)
def test_passes_decide_how_much_reaches_a_spacecraft(
    gigabytes: int, deadline: str, fits: bool, words: str, tmp_path: Path
) -> None:
    """The ground sees sc-a of brief-gap for 7 minutes, and again after twelve hours."""
    asked = operation(tmp_path, steps=f"upload: {{deadline: {deadline}}}", size=gigabytes * 10**9)
    found = check(asked, lab("brief-gap"))
    upload = next(term for term in found.preview.terms if term.name.startswith("upload"))
    assert upload.fits(0.0) is fits
    assert words in upload.reason and "orbits/brief-gap.yaml" in upload.source


def test_the_time_after_the_upload_must_hold_the_deadlines_of_the_steps_in_contact(tmp_path: Path) -> None:
    found = check(operation(tmp_path, steps=ALL), lab("brief-gap"))
    binding = found.preview.binding
    assert binding is not None and binding.name == "contact for verify, install, activate, configure"
    assert binding.needs == 390 and binding.has is not None and 380 < binding.has < 400
    assert check(operation(tmp_path, steps=ALL), lab("virtual")).preview.feasible
    short = check(operation(tmp_path, steps=ALL, more="deadline: 5m"), lab("virtual"))
    assert not short.preview.feasible and "contact for" in short.sentence


def test_what_cannot_begin_is_not_called_short_of_bytes(tmp_path: Path) -> None:
    steps = f"{ALL}\n  run: {{duration: 1m}}\n  collect: {{size_bytes: 10}}".replace(
        "install: {}", "install: {deadline: 4m}"
    )
    found = check(operation(tmp_path, steps=steps), lab("brief-gap"))
    assert "contact for" in found.sentence
    assert free(found)["collect"] is None


HOT = TwinSpec(radiator=RadiatorSpec(area_m2=0.02), structure=StructureSpec(start_c=80.0))
RUN = f"{ALL}\n  run: {{duration: 20m}}"


def test_a_radiator_that_is_too_small_binds(tmp_path: Path) -> None:
    found = check(operation(tmp_path, steps=RUN), lab("virtual", twin=HOT))
    assert found.preview.binding is not None and found.preview.binding.name == "heat of sc-a"
    assert not found.preview.feasible
    assert "starts at 80 C and may reach 99 C" in found.sentence and "slowed down for" in found.sentence
    assert "assumed: radiator" in found.preview.binding.source
    cool = check(operation(tmp_path, steps=RUN), lab("virtual", twin=TwinSpec()))
    assert cool.preview.feasible


def test_a_payload_that_pauses_stays_cool(tmp_path: Path) -> None:
    twin = HOT.model_copy(update={"radiator": RadiatorSpec(area_m2=0.08)})
    busy = check(operation(tmp_path, steps=RUN), lab("virtual", twin=twin))
    pausing = check(operation(tmp_path, steps=f"{ALL}\n  run: {{duration: 20m, busy: 0.1}}"), lab("virtual", twin=twin))
    before, after = free(busy)["heat of sc-a"], free(pausing)["heat of sc-a"]
    assert before is not None and after is not None and after > before + 0.3


def test_a_budget_and_a_battery_that_are_too_small_bind(tmp_path: Path) -> None:
    poor = TwinSpec(bus=BusSpec(budget_w=150.0))
    found = check(operation(tmp_path, steps=RUN), lab("virtual", twin=poor))
    assert found.preview.binding is not None and found.preview.binding.name == "power of sc-a"
    assert found.preview.binding.needs == pytest.approx(180.0)
    dark = TwinSpec(bus=BusSpec(battery_wh=40.0, panel_m2=0.01))
    found = check(operation(tmp_path, steps=RUN), lab("virtual", twin=dark))
    assert found.preview.binding is not None and found.preview.binding.name == "energy of sc-a"
    assert "the battery falls to" in found.sentence


def test_without_a_twin_heat_and_power_are_not_known_and_do_not_bind(tmp_path: Path) -> None:
    found = check(operation(tmp_path, steps=RUN), lab("virtual"))
    unknown = {term.name: term.source for term in found.preview.unknown}
    assert set(unknown.values()) == {"not known, no twin section"} and len(unknown) == 3
    assert found.preview.feasible


def test_a_bundle_that_no_board_can_keep_is_infeasible(tmp_path: Path) -> None:
    found = check(operation(tmp_path, size=600_000_000), lab("virtual"))
    assert found.preview.binding is not None and found.preview.binding.name == "storage of a board"
    assert "data partition of a1" in found.preview.binding.source


def test_a_bundle_whose_size_nobody_knows_is_a_wrong_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has not been built") as caught:
        check(load_operation("six_gpu"), lab("virtual"))
    assert "bundle.size_bytes" in caught.value.remedy


def test_the_size_of_a_file_is_measured_and_compared(tmp_path: Path) -> None:
    (tmp_path / "os.raucb").write_bytes(bytes(1000))
    bundle = f"file: os.raucb, version: 1.0.0, image_sha256: {'a' * 64}"

    def named(more: str = "") -> Operation:
        file = tmp_path / "operation.yaml"
        file.write_text(f"schema: 1\nname: test\nbundle: {{{bundle}{more}}}\nsteps: {{{UPLOAD}}}\n")
        return load_operation(file)

    assert check(named(), lab("virtual")).files == {"os.raucb": 1000}
    with pytest.raises(ConfigurationError, match="has 1000 bytes, not 7"):
        check(named(", size_bytes: 7"), lab("virtual"))


def test_the_last_bundle_that_was_made_here_gives_the_size(tmp_path: Path) -> None:
    for number in (3, 4):
        folder = paths.cache() / f"bundles-{number}"
        folder.mkdir(parents=True)
        (folder / "os-v2.raucb").write_bytes(bytes(number))
    os.utime(paths.cache() / "bundles-3", (2e9, 2e9))
    assert check(load_operation("six_gpu"), lab("virtual")).files == {"reference OS": 3}


def test_boards_that_the_lab_does_not_have_are_named_with_the_file(tmp_path: Path) -> None:
    asked = operation(tmp_path, more="boards: {on: [sc-a, sc-x]}")
    with pytest.raises(ConfigurationError, match=r"operation\.yaml: boards: .*sc-x"):
        check(asked, lab("virtual"))
    steps = ALL.replace("activate: {}", "activate: {canary: zz}")
    with pytest.raises(ConfigurationError, match=r"steps\.activate\.canary: zz does not take part"):
        check(operation(tmp_path, steps=steps), lab("virtual"))


def test_a_document_has_every_term(tmp_path: Path) -> None:
    document = check(operation(tmp_path), lab("virtual")).document()
    assert document["feasible"] is True and document["binding"] in {term["name"] for term in document["terms"]}
    assert all({"needs", "has", "free", "fits", "source"} <= set(term) for term in document["terms"])


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (4.2e9, "B", "4.2 GB"),
        (999.0, "B", "999 B"),
        (2.5e12, "B", "2,500 GB"),
        (5400.0, "s", "1 h 30 min"),
        (0.2, "s", "0 s"),
        (29.06, "K", "29.1 K"),
        (None, "B", "?"),
    ],
)
def test_figures_are_shown_for_people(value: float | None, unit: str, words: str) -> None:
    assert quantity(value, unit) == words


NEEDS = "bundle: {size_bytes: 50000000, needs: {memory_bytes: 8000000000}}"


def of_beta(folder: Path, quotas: Mapping[str, float]) -> Checked:
    shared = lab("two-tenants")
    alpha, beta = shared.tenants
    tenants = (alpha, beta.model_copy(update={"quotas": QuotaSpec.model_validate(dict(quotas))}))
    file = folder / "operation.yaml"
    file.write_text(f"schema: 1\nname: test\n{NEEDS}\nlimits: {{margin: 0.0}}\nsteps:\n  {UPLOAD}\n")
    return check(load_operation(file), lab("two-tenants", tenants=tenants), tenant="beta")


def test_a_tenants_operation_is_compared_with_its_boards_shares_and_quotas(tmp_path: Path) -> None:
    quotas = {"memory_bytes": 16_000_000_000, "bus_bytes_per_day": 60_000_000, "downlink_bytes_per_day": 1}
    found = of_beta(tmp_path, quotas)
    assert found.boards == ("a3", "b2", "b3")
    assert found.preview.feasible
    terms = {term.name: term for term in found.preview.terms}
    upload = next(term for name, term in terms.items() if name.startswith("upload"))
    assert upload.has == pytest.approx(0.7 * 100e6 / 8 * 0.9 * 180)
    assert terms["memory_bytes of tenant beta"].free == pytest.approx(0.5)
    assert terms["bus_bytes_per_day of tenant beta"].needs == 50_000_000
    assert terms["downlink_bytes_per_day of tenant beta"].needs == 0


@pytest.mark.parametrize(
    ("quotas", "says"),
    [
        ({"memory_bytes": 7_000_000_000}, "memory_bytes of tenant beta needs 8 GB and has 7 GB"),
        ({"storage_bytes": 40_000_000}, "storage_bytes of tenant beta needs 50 MB and has 40 MB"),
        ({"bus_bytes_per_day": 49_000_000}, "bus_bytes_per_day of tenant beta needs 50 MB and has 49 MB"),
    ],
)
def test_an_operation_above_a_quota_is_infeasible_and_the_quota_named(
    tmp_path: Path, quotas: dict[str, int], says: str
) -> None:
    found = of_beta(tmp_path, quotas)
    assert not found.preview.feasible
    assert says in found.sentence


def test_a_quota_of_which_the_bundle_declares_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="says nothing of cpu_cores, of which tenant beta has a quota"):
        of_beta(tmp_path, {"cpu_cores": 4.0})


def test_contacts_are_those_of_a_bench_on_which_mission_time_passes_faster() -> None:
    guests = lab("guests")
    assert guests.orbit is not None
    (first, *_) = Contacts.of(guests, 60.0).ways("flight-2", "sc-02")
    real_time = guests.model_copy(update={"orbit": guests.orbit.model_copy(update={"time_factor": 1.0})})
    real_time._file = guests.file
    (slow, *_) = Contacts.of(real_time, 1200.0).ways("flight-2", "sc-02")
    assert first.start_s == pytest.approx(slow.start_s / 20) and first.start_s == pytest.approx(16.34, abs=0.01)
    assert Contacts.of(guests, 60.0).source.endswith(", 20 times faster")


def test_heat_begins_where_the_twin_is_by_then_in_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = lab("kepler", twin=TwinSpec(time_factor=30.0))
    begun: list[datetime] = []

    def predict(*_: object, epoch: str, **__: object) -> Prediction:
        begun.append(parse_time(epoch))
        raise InterruptedError

    monkeypatch.setattr("hil.twin.prediction.predict", predict)
    with pytest.raises(InterruptedError):
        list(heat_and_power(fast, LimitsSpec(), {fast.boards[0].name: 1.0}, seconds=60.0, after_s=600.0))
    assert fast.orbit is not None and fast.orbit.epoch is not None
    assert begun == [parse_time(fast.orbit.epoch) + timedelta(seconds=18_000)]
