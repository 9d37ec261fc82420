"""Artefacts: resumed at the byte, verified by the chunk, never half accepted."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hil.onboard.node import state
from hil.onboard.node.artefact import BEFORE_RESTART, Artefact, Superseded
from hil.onboard.node.errors import ApiError
from hil.onboard.node.manifest import Manifest
from hil.onboard.node.store import Store, cms_check
from tests.kits.manifest import CHUNK, manifest_of

CONTENT = bytes((i * 7 + i // 251) % 256 for i in range(3 * CHUNK + 1000))


def accept(path: Path, signature: bytes) -> None:
    return None


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artefacts", accept)


def announced(store: Store, **changes: Any) -> Artefact:
    document = manifest_of(CONTENT, **changes)
    return store.put(document["id"], document)


def write(artefact: Artefact, data: bytes, offset: int | None = None, peer: str = "ground") -> None:
    token = artefact.begin(offset, peer)
    artefact.append(token, memoryview(data), peer)


def test_an_artefact_in_one_piece_is_complete_and_installed(store: Store) -> None:
    artefact = announced(store)
    write(artefact, CONTENT, 0)
    status = artefact.status()
    assert (status["complete"], status["installed"], status["have_bytes"]) == (True, True, len(CONTENT))
    assert store.installed(artefact.manifest.id) == artefact.path
    assert artefact.path.read_bytes() == CONTENT


@pytest.mark.parametrize("cut", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 777, len(CONTENT) - 1])
def test_after_a_restart_it_goes_on_at_the_very_byte(store: Store, cut: int) -> None:
    artefact = announced(store)
    write(artefact, CONTENT[:cut], 0)
    again = Store(store.root, accept).get(artefact.manifest.id)
    assert again.status()["have_bytes"] == cut
    assert again.status()["verified"] == cut // CHUNK * CHUNK
    write(again, CONTENT[cut:], cut)
    assert again.status()["complete"]
    assert again.path.read_bytes() == CONTENT


def test_bytes_whose_sender_a_kill_made_us_forget_are_still_counted(store: Store) -> None:
    artefact = announced(store)
    write(artefact, CONTENT[:5000], 0)
    again = Store(store.root, accept).get(artefact.manifest.id)
    write(again, CONTENT[5000:], 5000)
    received = again.status()["received"]
    assert sum(received.values()) == len(CONTENT)
    assert received[BEFORE_RESTART] == 5000


def test_a_wrong_offset_is_refused_and_the_right_one_told(store: Store) -> None:
    artefact = announced(store)
    write(artefact, CONTENT[:100], 0)
    with pytest.raises(ApiError) as refusal:
        artefact.begin(99, "ground")
    assert (refusal.value.status, refusal.value.facts["have_bytes"]) == (409, 100)


def test_a_damaged_chunk_is_cut_off_and_what_came_before_is_kept(store: Store) -> None:
    artefact = announced(store)
    damaged = bytearray(CONTENT)
    damaged[CHUNK + 5] ^= 1
    with pytest.raises(ApiError) as refusal:
        write(artefact, bytes(damaged), 0)
    assert (refusal.value.status, artefact.status()["have_bytes"]) == (422, CHUNK)
    write(artefact, CONTENT[CHUNK:], CHUNK)
    assert artefact.status()["complete"]


def test_damage_on_disk_is_found_at_the_next_start(store: Store) -> None:
    artefact = announced(store)
    write(artefact, CONTENT, 0)
    damaged = bytearray(CONTENT)
    damaged[2 * CHUNK] ^= 1
    artefact.path.write_bytes(bytes(damaged))
    again = Store(store.root, accept).get(artefact.manifest.id)
    assert (again.status()["complete"], again.status()["have_bytes"]) == (False, 2 * CHUNK)
    assert not again.installed


def test_right_chunks_under_a_wrong_id_are_dropped_altogether(store: Store) -> None:
    wrong = hashlib.sha256(b"something else").hexdigest()
    artefact = store.put(wrong, manifest_of(CONTENT, id=wrong))
    with pytest.raises(ApiError) as refusal:
        write(artefact, CONTENT, 0)
    assert (refusal.value.status, artefact.status()["have_bytes"]) == (422, 0)
    assert not artefact.path.exists()


def test_more_bytes_than_announced_are_refused(store: Store) -> None:
    artefact = announced(store)
    write(artefact, CONTENT[:-1], 0)
    token = artefact.begin(None, "ground")
    artefact.append(token, memoryview(CONTENT[-1:]), "ground")
    with pytest.raises(ApiError) as refusal:
        artefact.begin(None, "ground")
    assert refusal.value.status == 409


def test_a_client_that_comes_again_supersedes_its_stale_connection(store: Store) -> None:
    artefact = announced(store)
    stale = artefact.begin(0, "ground")
    artefact.append(stale, memoryview(CONTENT[:10]), "ground")
    fresh = artefact.begin(10, "ground")
    with pytest.raises(Superseded):
        artefact.append(stale, memoryview(CONTENT[10:20]), "ground")
    artefact.append(fresh, memoryview(CONTENT[10:]), "ground")
    assert artefact.status()["complete"]


def test_a_full_disk_is_507_and_leaves_a_clean_state(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact = announced(store)
    real, left = os.pwrite, CHUNK + 100

    def full(fd: int, data: Any, offset: int) -> int:
        if offset >= left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data[: left - offset], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ApiError) as refusal:
        write(artefact, CONTENT, 0)
    assert (refusal.value.status, refusal.value.facts["have_bytes"]) == (507, CHUNK)
    assert artefact.path.stat().st_size == CHUNK
    monkeypatch.undo()
    write(artefact, CONTENT[CHUNK:], CHUNK)
    assert artefact.status()["complete"]


def test_a_client_that_comes_again_during_the_last_sync_does_not_stop_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact, refusals = announced(store), []

    def again(fd: int) -> None:
        with pytest.raises(ApiError) as refusal:
            artefact.begin(len(CONTENT), "ground", "x")
        refusals.append(refusal.value.status)

    monkeypatch.setattr(os, "fdatasync", again)
    write(artefact, CONTENT, 0)
    assert refusals == [409]
    assert artefact.status()["complete"]


@pytest.mark.parametrize(("number", "status"), [(errno.EIO, 500), (errno.ENOSPC, 507)])
def test_after_a_sync_that_failed_the_artefact_comes_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    artefact = announced(store)

    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(ApiError) as refusal:
        write(artefact, CONTENT, 0)
    assert (refusal.value.status, refusal.value.facts["have_bytes"]) == (status, 0)
    monkeypatch.undo()
    write(artefact, CONTENT, 0)
    assert artefact.status()["complete"]


def test_an_artefact_for_which_there_is_no_room_is_refused_before_its_first_byte(store: Store) -> None:
    size = 1 << 50
    with pytest.raises(ApiError) as refusal:
        announced(store, size=size, chunk_size=16 << 20, chunk_sha256=[])
    assert refusal.value.status == 400
    big = 60 << 30
    chunks = ["0" * 64] * (big // (16 << 20))
    free = os.statvfs(store.root)
    if free.f_bavail * free.f_frsize < big:
        with pytest.raises(ApiError) as refusal:
            announced(store, size=big, chunk_size=16 << 20, chunk_sha256=chunks)
        assert refusal.value.status == 507


def test_readers_get_verified_bytes_only(store: Store) -> None:
    artefact = announced(store)
    assert artefact.readable(0, wait_s=0) == 0
    write(artefact, CONTENT[: CHUNK + 10], 0)
    assert artefact.readable(0, wait_s=0) == CHUNK
    with pytest.raises(ApiError, match="bytes"):
        artefact.readable(len(CONTENT) + 1, wait_s=0)


def test_the_file_is_not_held_open_for_writing_once_complete(store: Store) -> None:
    artefact = announced(store)
    write(artefact, CONTENT, 0)
    fds = list(Path("/proc/self/fd").iterdir())
    held = {str(fd.readlink()) for fd in fds if fd.is_symlink()}
    assert str(artefact.path) not in held


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "poem"}, "kind"),
        ({"size": -1}, "size"),
        ({"size": True}, "size"),
        ({"chunk_size": 1}, "chunk_size"),
        ({"chunk_sha256": []}, "chunk_sha256"),
        ({"chunk_sha256": [1, 2, 3, 4]}, "chunk_sha256"),
        ({"name": "../../etc/passwd"}, "name"),
        ({"signature": "%%%"}, "signature"),
        ({"sizes": 3}, "unknown field 'sizes'"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_field_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError, match=words) as refusal:
        Manifest.parse(manifest_of(CONTENT, **changes))
    assert refusal.value.status == 400


def test_the_same_id_with_another_content_is_refused(store: Store) -> None:
    other = announced(store, name="other.raucb")
    artefact = announced(store)
    assert artefact is not other and artefact.manifest.name == "bundle.raucb", "no byte was here yet"
    write(artefact, CONTENT[:10], 0)
    with pytest.raises(ApiError) as refusal:
        store.put(artefact.manifest.id, manifest_of(CONTENT, name="other.raucb"))
    assert refusal.value.status == 409


def test_two_new_signatures_at_once_do_not_mix_in_the_file(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact = announced(store)
    meeting, met = threading.Barrier(2), []
    save = state.save

    def slowly(path: Path, document: dict[str, Any]) -> None:
        with suppress(threading.BrokenBarrierError):
            meeting.wait(0.5)
            met.append(path)
        save(path, document)

    monkeypatch.setattr(state, "save", slowly)
    signatures = [base64.b64encode(word).decode() for word in (b"one", b"two")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda signature: announced(store, signature=signature), signatures))
    assert met == []
    assert Store(store.root, accept).get(artefact.manifest.id).manifest.signature in (b"one", b"two")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release key and one that nobody trusts."""
    directory = tmp_path_factory.mktemp("keys")
    for name in ("release", "foreign"):
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        argv += ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(argv, cwd=directory, check=True, capture_output=True)
    return directory


class TestSignatures:
    def signature(self, keys: Path, name: str, content: bytes) -> str:
        argv = ["openssl", "cms", "-sign", "-binary", "-outform", "DER", "-md", "sha256"]
        argv += ["-signer", f"{name}.pem", "-inkey", f"{name}.key"]
        done = subprocess.run(argv, cwd=keys, input=content, check=True, capture_output=True)
        return base64.b64encode(done.stdout).decode()

    @pytest.fixture
    def checked(self, tmp_path: Path, keys: Path) -> Store:
        return Store(tmp_path / "artefacts", cms_check(keys / "release.pem"))

    def test_a_signed_model_is_installed(self, checked: Store, keys: Path) -> None:
        artefact = announced(checked, kind="model", signature=self.signature(keys, "release", CONTENT))
        write(artefact, CONTENT, 0)
        assert artefact.installed

    @pytest.mark.parametrize("case", ["none", "foreign key", "other content"])
    def test_a_model_without_a_valid_signature_arrives_but_is_not_installed(
        self, checked: Store, keys: Path, case: str
    ) -> None:
        signature = {
            "none": None,
            "foreign key": self.signature(keys, "foreign", CONTENT),
            "other content": self.signature(keys, "release", CONTENT + b"!"),
        }[case]
        artefact = announced(checked, kind="model", **({"signature": signature} if signature else {}))
        with pytest.raises(ApiError) as refusal:
            write(artefact, CONTENT, 0)
        assert refusal.value.status == 422
        assert artefact.status()["complete"] and not artefact.installed
        assert "signature" in artefact.status()["error"]
        again = Store(checked.root, cms_check(keys / "release.pem")).get(artefact.manifest.id)
        assert not again.installed

    def test_a_valid_signature_that_comes_later_installs_it(self, checked: Store, keys: Path) -> None:
        artefact = announced(checked, kind="model")
        with pytest.raises(ApiError):
            write(artefact, CONTENT, 0)
        announced(checked, kind="model", signature=self.signature(keys, "release", CONTENT))
        assert artefact.installed
