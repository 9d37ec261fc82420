"""The adapter of the API that runs pods, against a server that behaves like one, with its refusals and its slowness."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from urllib.parse import urlencode

import pytest

from hil.errors import BenchError, ConfigurationError, DeviceError, HilError
from hil.operation.engineering_model import EngineeringModel, connected, load_engineering_model
from tests.kits.pod_api import AT_LOGIN, PASSWORD, Fault, PodApi

FILE = """\
schema: 1
name: em
api: pods
url: {url}
user: client1
password: env:EM_PASSWORD
image: {{name: {image}}}
poll_s: 0.02
{more}"""
FOLDER = "hil-test"


def adapter(api: PodApi, folder: Path, *, image: str = "alpine", more: str = "") -> tuple[EngineeringModel, list[str]]:
    file = folder / "em.yaml"
    file.write_text(FILE.format(url=api.url, image=image, more=more))
    told: list[str] = []
    return connected(load_engineering_model(file), FOLDER, told.append), told


def file_of(folder: Path, content: bytes = b"0123456789") -> Path:
    (file := folder / "a file").write_bytes(content)
    return file


def test_files_go_up_are_listed_come_down_and_are_removed(api: PodApi, tmp_path: Path) -> None:
    model, told = adapter(api, tmp_path)
    content = bytes(range(256)) * 9000 + b"\r\n--"
    model.uplink(file_of(tmp_path, content), "bundle.raucb", deadline_s=5)
    assert (api.volume / FOLDER / "bundle.raucb").read_bytes() == content
    assert model.listing(deadline_s=5) == {"bundle.raucb": len(content)}
    model.downlink("bundle.raucb", tmp_path / "back", limit=len(content), deadline_s=5)
    assert (tmp_path / "back").read_bytes() == content
    model.clear(deadline_s=5)
    assert model.listing(deadline_s=5) == {} and not (api.volume / FOLDER).exists()
    assert not told and api.seen.count("POST /auth/") == 1


def test_a_job_waits_for_its_answer_and_not_for_the_order(api: PodApi, tmp_path: Path) -> None:
    api.slow_start = 3
    model, _ = adapter(api, tmp_path)
    model.uplink(file_of(tmp_path), "in", deadline_s=5)
    model.job("cat in in > part; sleep 0.1; mv part out", "out", deadline_s=10)
    assert (api.volume / FOLDER / "out").read_bytes() == b"0123456789" * 2
    assert api.pods == 1


def test_a_model_that_somebody_has_is_waited_for_and_told_of_once(api: PodApi, tmp_path: Path) -> None:
    api.locked = 5
    model, told = adapter(api, tmp_path)
    model.uplink(file_of(tmp_path), "in", deadline_s=5)
    assert len(told) == 1 and "the uplink of in waits: HTTP 423" in told[0]
    assert api.seen.count("POST /em/files/uplink") == 1, "its bytes are not sent while nobody takes them"
    api.locked = 10_000
    with pytest.raises(BenchError, match=r"no answer in 0\.3 s; last: HTTP 423") as caught:
        model.listing(deadline_s=0.3)
    assert "somebody else has the model" in caught.value.remedy


def test_a_token_that_has_expired_is_renewed(api: PodApi, tmp_path: Path) -> None:
    api.token_uses = 1
    model, _ = adapter(api, tmp_path)
    for _ in range(3):
        assert model.listing(deadline_s=5) == {}
    assert api.seen.count("POST /auth/") == 3


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (Fault.HANG, "TimeoutError"),
        (Fault.CLOSE, "RemoteDisconnected"),
        (Fault.FLOOD, "longer than"),
        (Fault.DRIP, "TimeoutError"),
        (Fault.REDIRECT, "HTTP 302"),
        (Fault.GARBAGE, "no JSON object"),
        (Fault.ECHO, "HTTP 500"),
    ],
)
def test_what_is_no_answer_is_the_models_fault_and_ends_in_time(
    api: PodApi, tmp_path: Path, fault: Fault, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.operation.https.MOST_BYTES", 1 << 18)
    model, _ = adapter(api, tmp_path)
    model.listing(deadline_s=5)
    api.fault = fault
    with pytest.raises(BenchError, match=word):
        model.listing(deadline_s=0.7 if word == "TimeoutError" else 3.0)


def test_slow_answers_are_waited_for(api: PodApi, tmp_path: Path) -> None:
    api.slow_s = 0.4
    assert adapter(api, tmp_path)[0].images(deadline_s=5) == ["alpine"]


@pytest.mark.parametrize("fault", [Fault.ECHO, Fault.ECHO_PADDED, Fault.TOKEN_201, Fault.TOKEN_TEXT, Fault.RAW])
def test_no_secret_is_said_or_written(
    api: PodApi, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    caplog.set_level(logging.DEBUG)
    model, told = adapter(api, tmp_path)
    if fault not in AT_LOGIN:
        model.listing(deadline_s=5)
    api.fault = fault
    with pytest.raises(BenchError) as caught:
        model.listing(deadline_s=0.3)
    said = f"{caught.value} {told} {caplog.text} {model.__dict__['_spec']!r}"
    assert ("***" in said) == (fault is Fault.ECHO or fault is Fault.ECHO_PADDED)
    assert not any(secret in said for secret in (PASSWORD, urlencode({"": PASSWORD})[1:]))
    assert fault is Fault.RAW or api.token[:8] not in said


def test_a_token_that_was_replaced_is_not_said_either(api: PodApi, tmp_path: Path) -> None:
    model, _ = adapter(api, tmp_path)
    model.listing(deadline_s=5)
    first = api.token
    api.token_uses = 1
    model.listing(deadline_s=5)
    api.token_uses, api.images = 10, {"of": first}  # type: ignore[assignment]
    with pytest.raises(BenchError, match="cannot be read") as caught:
        model.images(deadline_s=5)
    assert first != api.token and first not in str(caught.value)


def test_a_wrong_password_is_a_fault_of_the_configuration(
    api: PodApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EM_PASSWORD", "another one")
    with pytest.raises(ConfigurationError, match="refused the log-in") as caught:
        adapter(api, tmp_path)[0].listing(deadline_s=5)
    assert "another one" not in str(caught.value)


def test_a_file_that_one_call_does_not_take_is_refused_here_and_there(api: PodApi, tmp_path: Path) -> None:
    model, _ = adapter(api, tmp_path, more="call_bytes: 9\n")
    with pytest.raises(ConfigurationError, match="call_bytes: in has 10 bytes"):
        model.uplink(file_of(tmp_path), "in", deadline_s=5)
    api.call_bytes = 9
    with pytest.raises(BenchError, match="MAX_UPLINK_SIZE_EXCEEDED"):
        adapter(api, tmp_path)[0].uplink(file_of(tmp_path), "in", deadline_s=5)


def test_a_file_that_is_larger_than_agreed_is_not_kept(api: PodApi, tmp_path: Path) -> None:
    model, _ = adapter(api, tmp_path)
    model.uplink(file_of(tmp_path), "in", deadline_s=5)
    with pytest.raises(DeviceError, match="more than 9 bytes"):
        model.downlink("in", tmp_path / "back", limit=9, deadline_s=5)
    assert not (tmp_path / "back").exists()
    with pytest.raises(BenchError, match="HTTP 404"):
        model.downlink("other", tmp_path / "back", limit=9, deadline_s=5)


@pytest.mark.parametrize(
    ("image", "command", "error", "word"),
    [
        ("other", "true", DeviceError, "does not start: ImagePullBackOff"),
        ("alpine", "exit 3", DeviceError, "ended without its answer out: Completed, 3"),
        ("alpine", "sleep 30", DeviceError, "did not finish within 4 s"),
    ],
)
def test_a_job_that_gives_no_answer_says_why(
    api: PodApi, tmp_path: Path, image: str, command: str, error: type[HilError], word: str
) -> None:
    model, _ = adapter(api, tmp_path, image=image)
    model.uplink(file_of(tmp_path), "in", deadline_s=5)
    with pytest.raises(error, match=word):
        model.job(command, "out", deadline_s=4)


def test_a_pod_that_never_starts_is_the_models_fault(api: PodApi, tmp_path: Path) -> None:
    api.slow_start = 10_000
    model, _ = adapter(api, tmp_path)
    with pytest.raises(BenchError, match="did not start within 1 s: ContainerCreating"):
        model.job("true", "out", deadline_s=1)


def test_an_image_is_loaded_from_what_went_up(api: PodApi, tmp_path: Path) -> None:
    model, _ = adapter(api, tmp_path, image="cloud-mask")
    with pytest.raises(DeviceError, match=r"IMAGE_LOAD_FAILED.*No such file"):
        model.load_image("image.tar", deadline_s=5)
    model.uplink(file_of(tmp_path), "image.tar", deadline_s=5)
    model.load_image("image.tar", deadline_s=5)
    assert model.images(deadline_s=5) == ["alpine", "cloud-mask"]


@pytest.mark.parametrize("fault", [Fault.REDIRECT, Fault.ECHO])
def test_a_front_door_that_fails_while_an_image_is_loaded_is_not_the_images_fault(
    api: PodApi, tmp_path: Path, fault: Fault
) -> None:
    api.fault = fault
    with pytest.raises(BenchError, match="loading the container image alpine: HTTP"):
        adapter(api, tmp_path)[0].load_image("image.tar", deadline_s=5)


def test_a_pod_that_was_never_seen_is_the_models_fault(api: PodApi, tmp_path: Path) -> None:
    api.drops_orders = True
    with pytest.raises(BenchError, match="did not start within"):
        adapter(api, tmp_path)[0].job("true", "out", deadline_s=0.3)


@pytest.mark.parametrize("deadline_s", [1.0, 1.2])
def test_a_pod_that_hangs_fails_however_slow_the_model_answers(api: PodApi, tmp_path: Path, deadline_s: float) -> None:
    model, _ = adapter(api, tmp_path)
    model.uplink(file_of(tmp_path), "in", deadline_s=5)
    api.slow_s = 0.15
    with pytest.raises(DeviceError, match="did not finish"):
        model.job("sleep 30", "out", deadline_s=deadline_s)


@pytest.mark.parametrize(
    "state", [{"waiting": {"reason": "ImagePullBackOff"}}, {"terminated": {"exitCode": 1, "reason": "Error"}}]
)
def test_the_pod_before_this_one_ends_no_job(api: PodApi, tmp_path: Path, state: dict[str, object]) -> None:
    model, _ = adapter(api, tmp_path)
    model.uplink(file_of(tmp_path), "in", deadline_s=5)
    api.stale = [state] * 2
    model.job("sleep 0.1; touch out", "out", deadline_s=5)


def test_an_answer_that_ends_too_soon_is_asked_for_again(api: PodApi, tmp_path: Path) -> None:
    model, told = adapter(api, tmp_path)
    model.uplink(file_of(tmp_path), "in", deadline_s=5)
    api.fault, api.faults = Fault.SHORT, 1
    assert model.listing(deadline_s=5) == {"in": 10}
    api.faults = 1
    model.downlink("in", tmp_path / "back", limit=100, deadline_s=5)
    assert (tmp_path / "back").read_bytes() == b"0123456789"
    assert len(told) == 2 and all("88 bytes too soon" in each for each in told)


@pytest.mark.parametrize("size", [float("inf"), "many", None])
def test_a_size_that_is_none_is_the_models_fault(
    api: PodApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: object
) -> None:
    folder = {"type": "directory", "name": FOLDER, "contents": [{"type": "file", "name": "x", "size": size}]}
    monkeypatch.setattr(api, "_files_list", lambda form: (200, {"data": [folder]}))
    with pytest.raises(BenchError, match="cannot be read"):
        adapter(api, tmp_path)[0].listing(deadline_s=5)


def test_what_is_not_there_is_cleared(api: PodApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = adapter(api, tmp_path)
    model.clear(deadline_s=5)
    (api.volume / FOLDER).mkdir()
    model.clear(deadline_s=5)
    assert not (api.volume / FOLDER).exists()
    (api.volume / FOLDER).mkdir()
    monkeypatch.setattr(api, "_files_delete", lambda form: (400, {"error": "DELETE_FAILED"}))
    with pytest.raises(BenchError, match="removing the operation's folder: HTTP 400"):
        model.clear(deadline_s=5)


def test_a_full_disk_and_a_file_that_is_gone_are_not_waited_for(
    api: PodApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, told = adapter(api, tmp_path)
    model.uplink(file_of(tmp_path), "in", deadline_s=5)
    here = file_of(tmp_path)

    def listed(_form: object) -> tuple[int, object]:
        here.unlink()
        return 200, {"data": []}

    monkeypatch.setattr(api, "_files_list", listed)
    with pytest.raises(BenchError, match=r"on this machine: .*No such file"):
        model.uplink(here, "again", deadline_s=20)

    class Full(io.BytesIO):
        def write(self, content: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("hil.operation.pods.replacing", lambda target: Full())
    with pytest.raises(BenchError, match=r"on this machine: .*No space left"):
        model.downlink("in", tmp_path / "back", limit=100, deadline_s=20)
    assert not told
