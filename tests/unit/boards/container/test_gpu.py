"""A GPU of the host for a container board, from a CDI description and a device tree that were made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.boards.container.gpu import described, gpu_of, with_cuda
from hil.errors import ConfigurationError
from tests.kits.gpu_descriptions import LIBRARIES, gpu_host

LIBRARY = f"/{LIBRARIES}/libcuda.so.580.65.06"


def test_a_board_gets_the_devices_files_and_variables_of_one_gpu(tmp_path: Path) -> None:
    gpu = gpu_of("1", gpu_host(tmp_path))
    assert gpu is not None
    assert gpu.name == "nvidia.com/gpu=1"
    assert gpu.devices == {path: f"{tmp_path}{path}" for path in ("/dev/nvidia-uvm", "/dev/nvidiactl", "/dev/nvidia1")}
    assert gpu.files == {path: f"{tmp_path}{path}" for path in (LIBRARY, "/usr/bin/nvidia-smi")}
    assert gpu.env == {"NVIDIA_VISIBLE_DEVICES": "void", "LD_LIBRARY_PATH": f"/{LIBRARIES}"}


def test_a_library_has_the_links_that_it_has_on_the_host(tmp_path: Path) -> None:
    gpu = gpu_of("0", gpu_host(tmp_path))
    assert gpu is not None
    assert gpu.links == {f"/{LIBRARIES}/{name}": "libcuda.so.580.65.06" for name in ("libcuda.so", "libcuda.so.1")}


def test_the_container_is_made_with_them_and_the_firmware_is_told(tmp_path: Path) -> None:
    gpu = gpu_of("nvidia.com/gpu=0", gpu_host(tmp_path))
    assert gpu is not None
    options = gpu.options()
    assert f"{tmp_path}/dev/nvidia0:/dev/nvidia0:rwm" in options["devices"]
    library = next(mount for mount in options["mounts"] if mount["Source"] == f"{tmp_path}{LIBRARY}")
    assert (library["Target"], library["ReadOnly"]) == (f"/gpu{LIBRARY}", True)
    assert json.loads(options["environment"]["BOARD_GPU"]) == {
        "devices": [*gpu.devices],
        "files": [*gpu.files],
        "links": gpu.links,
        "env": gpu.env,
    }


def test_auto_takes_all_gpus_and_without_one_none(tmp_path: Path) -> None:
    assert gpu_of("auto", tmp_path) is None
    gpu = gpu_of("auto", gpu_host(tmp_path))
    assert gpu is not None
    assert {"/dev/nvidia0", "/dev/nvidia1"} < gpu.devices.keys()
    assert gpu_of("none", tmp_path) is None


def test_a_description_of_this_boot_counts_before_the_installed_one(tmp_path: Path) -> None:
    gpu_host(tmp_path)
    (tmp_path / "var/run/cdi").mkdir(parents=True)
    newer = {"kind": "nvidia.com/gpu", "devices": [{"name": "0", "containerEdits": {"env": ["WHICH=newer"]}}]}
    (tmp_path / "var/run/cdi/nvidia.json").write_text(json.dumps(newer))
    gpu = gpu_of("0", tmp_path)
    assert gpu is not None
    assert (gpu.env, gpu.devices) == ({"WHICH": "newer"}, {})
    assert described(tmp_path)["nvidia.com/gpu=0"] == tmp_path / "var/run/cdi/nvidia.json"


def test_a_gpu_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    gpu_host(tmp_path)
    with pytest.raises(ConfigurationError, match=r"no CDI device nvidia.com/gpu=7 in .*nvidia.com/gpu=0, nvidia.com/g"):
        gpu_of("7", tmp_path)
    (tmp_path / "dev/nvidia0").unlink()
    with pytest.raises(ConfigurationError, match=r"nvidia.yaml: names /dev/nvidia0, which is not there"):
        gpu_of("0", tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "kind: [",
        "- a list",
        "kind: nvidia.com/gpu\ndevices: [{name: 0}]",
        "kind: nvidia.com/gpu\ndevices: [{name: '0', containerEdits: {deviceNodes: [{path: /dev/../etc/shadow}]}}]",
        "kind: nvidia.com/gpu\ndevices: [{name: '0', containerEdits: {mounts: [{hostPath: /dev, containerPath: /}]}}]",
        "#" + 4_200_000 * "x",
    ],
)
def test_a_damaged_description_is_an_error_and_with_auto_a_warning(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    gpu_host(tmp_path, content)
    with pytest.raises(ConfigurationError, match=r"nvidia.yaml: ") as caught:
        gpu_of("0", tmp_path)
    assert len(str(caught.value)) < 800
    assert gpu_of("auto", tmp_path) is None
    assert "boards get no GPU" in caplog.text


def test_what_uses_cuda_is_put_beside_the_driver(tmp_path: Path) -> None:
    gpu = gpu_of("0", gpu_host(tmp_path / "host"))
    assert gpu is not None
    for library in ("nvidia/cu13/lib/libcudart.so.13", "nvidia/cudnn/lib/libcudnn.so.9", "onnxruntime/capi/x.so"):
        (tmp_path / "cuda" / library).parent.mkdir(parents=True)
        (tmp_path / "cuda" / library).touch()
    found = with_cuda(gpu, tmp_path / "cuda")
    assert found.files["/opt/cuda"] == str(tmp_path / "cuda")
    assert found.env["PYTHONPATH"] == "/opt/cuda"
    libraries = [f"/{LIBRARIES}", "/opt/cuda/nvidia/cu13/lib", "/opt/cuda/nvidia/cudnn/lib"]
    assert found.env["LD_LIBRARY_PATH"].split(":") == libraries
    assert "/opt/cuda" not in gpu.files
