"""The doctor: facts in, judgement and exit code out."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from rich.console import Console

from hil.host.doctor.facts import CONTROLLERS, FILESYSTEMS, NETWORK, HostFacts, gather
from hil.host.doctor.this_host import GIB, as_json, examine, exit_code, print_page, verdict
from tests.kits.gpu_descriptions import gpu_host

GOOD = HostFacts(
    root=True,
    apt=True,
    python=(3, 11, 2),
    missing_distributions=(),
    kernel_release="6.1.0-test",
    kernel_lacks=(),
    filesystems=FILESYSTEMS,
    loop=True,
    controllers=CONTROLLERS,
    cgroup_version=2,
    missing_packages=(),
    group="member",
    links_lack={"kernel": "", "uml": ""},
    engine_url="",
    engine_version="",
    engine_problem="",
    dockerd=True,
    free_disk_bytes=50 * GIB,
    free_memory_bytes=16 * GIB,
    total_memory_bytes=24 * GIB,
    cpus=2,
    clock_unix=1_800_000_000.0,
    source_unix=1_799_000_000.0,
    apparmor=False,
    home="/var/lib/hil",
)


def failing(facts: HostFacts) -> dict[str, str]:
    return {c.id: c.status for c in examine(facts) if c.status != "ok"}


@pytest.mark.parametrize(("group", "remedy"), [("none", "hil setup"), ("stranger", "usermod -aG hil USER")])
def test_who_is_not_in_the_group_is_told_how_to_get_in(group: Literal["none", "stranger"], remedy: str) -> None:
    facts = replace(GOOD, group=group)
    (check,) = (check for check in examine(facts) if check.id == "group-hil")
    assert check.status == "warn" and remedy in check.remedy
    assert exit_code(examine(facts)) == 0


def test_a_good_host_can_run_the_campaign() -> None:
    checks = examine(GOOD)
    assert failing(GOOD) == {} and exit_code(checks) == 0
    assert verdict(checks) == "the campaign can run here"


@pytest.mark.parametrize(
    ("change", "expected", "code"),
    [
        (
            {"root": False, "kernel_lacks": NETWORK, "dockerd": False},
            {"root": "fail", "kernel-network": "warn", "docker": "fail"},
            1,
        ),
        ({"missing_packages": ("rauc",)}, {"host-packages": "fail"}, 1),
        ({"links_lack": {"kernel": "no netem", "uml": "no UML"}}, {"links": "fail"}, 1),
        ({"kernel_lacks": ("veth",)}, {"kernel-network": "fail"}, 1),
        ({"filesystems": ("ext4", "overlay", "tmpfs")}, {"kernel-filesystems": "fail"}, 1),
        ({"loop": False}, {"kernel-filesystems": "fail"}, 1),
        ({"controllers": ("cpu", "memory")}, {"cgroups": "fail"}, 1),
        ({"cgroup_version": 0, "controllers": ()}, {"cgroups": "fail"}, 1),
        ({"engine_problem": "DOCKER_HOST is tcp://x"}, {"docker": "fail"}, 1),
        ({"free_disk_bytes": 2 * GIB}, {"disk": "warn"}, 0),
        ({"free_disk_bytes": GIB // 2}, {"disk": "fail"}, 1),
        ({"free_memory_bytes": GIB // 2}, {"memory": "fail"}, 1),
        ({"cpus": 1}, {"cpus": "warn"}, 0),
        ({"clock_unix": 1.0}, {"clock": "fail"}, 1),
        ({"python": (3, 9, 2)}, {"python": "fail"}, 2),
        ({"missing_distributions": ("pydantic",)}, {"python-packages": "fail"}, 2),
    ],
)
def test_what_is_missing_decides_the_exit_code(change: dict[str, Any], expected: dict[str, str], code: int) -> None:
    facts = replace(GOOD, **change)
    assert failing(facts) == expected
    assert exit_code(examine(facts)) == code


def test_a_gpu_that_boards_cannot_have_is_a_warning_with_what_to_do(tmp_path: Path) -> None:
    assert not [c for c in examine(GOOD) if c.id == "gpu"]
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    found = gather(root=tmp_path)
    (gpu,) = [c for c in examine(replace(GOOD, gpu_problem=found.gpu_problem)) if c.id == "gpu"]
    assert gpu.status == "warn" and "no CDI description" in gpu.found and "nvidia-ctk cdi generate" in gpu.remedy
    gpus = gather(root=gpu_host(tmp_path / "described")).gpus
    assert gpus == ("nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all")
    (gpu,) = [c for c in examine(replace(GOOD, gpus=gpus)) if c.id == "gpu"]
    assert gpu.status == "warn" and "hil setup --cuda" in gpu.remedy
    (gpu,) = [c for c in examine(replace(GOOD, gpus=gpus, cuda=True)) if c.id == "gpu"]
    assert gpu.status == "ok"


def test_a_kernel_without_netem_is_fine_with_user_mode_linux() -> None:
    facts = replace(GOOD, links_lack={"kernel": "this kernel lacks netem", "uml": ""})
    (links,) = [c for c in examine(facts) if c.id == "links"]
    assert links.status == "ok" and links.found == "engine uml (this kernel lacks netem)"


def test_a_failed_check_says_why_it_matters_what_to_do_and_what_works_without() -> None:
    broken = replace(
        GOOD,
        root=False,
        kernel_lacks=NETWORK,
        links_lack={},
        filesystems=(),
        controllers=(),
        missing_packages=("rauc",),
        dockerd=False,
        free_disk_bytes=0,
        free_memory_bytes=0,
        python=(3, 8, 0),
        missing_distributions=("click",),
        clock_unix=0.0,
    )
    checks = [c for c in examine(broken) if c.status == "fail"]
    assert len(checks) >= 10
    for check in checks:
        assert check.found and check.why and check.remedy and check.without, check.id


def test_the_json_has_every_check_and_the_exit_code() -> None:
    checks = examine(replace(GOOD, root=False))
    document = as_json(checks)
    assert document["exit_code"] == exit_code(checks) == 1
    assert {c["id"] for c in document["checks"]} == {c.id for c in checks}
    assert set(document["checks"][0]) == {"id", "status", "found", "why", "remedy", "without", "scope"}


def test_the_page_explains_only_what_is_not_well() -> None:
    text = io.StringIO()
    print_page(examine(replace(GOOD, missing_packages=("rauc",))), Console(file=text, width=200))
    page = text.getvalue()
    assert "missing: rauc" in page and "remedy: `hil setup` installs them" in page
    assert page.count("remedy:") == 1
    assert "the virtual lab cannot run here" in page


def test_gathering_changes_nothing_and_knows_this_host() -> None:
    facts = gather()
    assert facts.kernel_release and facts.python >= (3, 11)
    assert facts.free_disk_bytes > 0 and facts.total_memory_bytes > 0 and facts.cpus > 0
