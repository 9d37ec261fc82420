"""Recipes, hashes, keys and bundles, as far as they need neither a download nor root."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from hil.core.command import silent
from hil.errors import BenchError, HarnessError
from hil.images import bundles, packages, rootfs
from hil.images.bundles import BundleKind, damage
from hil.images.packages import Wheel, read_list, read_wheels, run_tool
from hil.images.pki import Pki, ensure_pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(tmp_path_factory.mktemp("home") / "pki")


def test_the_recipes_agree_with_each_other() -> None:
    skip = set(read_list(rootfs.RECIPES / "skip.txt"))
    assert not skip & set(read_list(rootfs.RECIPES / "hardware/packages.txt"))
    assert not skip & set(read_list(rootfs.RECIPES / "packages.txt"))
    assert [wheel.name for wheel in read_wheels(rootfs.RECIPES / "wheels.txt")] == ["numpy", "onnxruntime"]


def test_a_list_has_comments_and_a_glob_needs_a_package_before_it(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    digest = "0" * 64
    path.write_text(f"# all of it\nnumpy==2.4.6 sha256:{digest}   # numbers\n  */tests\n\n")
    assert read_list(path) == [f"numpy==2.4.6 sha256:{digest}", "  */tests"]
    assert read_wheels(path) == [Wheel("numpy", "2.4.6", digest, ("*/tests",))]
    for wrong in ("  */tests\n", "numpy==2.4.6\n", "numpy\n  */tests\n"):
        path.write_text(wrong)
        with pytest.raises(BenchError, match="neither"):
            read_wheels(path)


def test_a_wheel_that_is_there_is_not_downloaded_and_one_with_another_digest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"the wheel"
    (tmp_path / "old-1-py3-none-any.whl").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    commands: list[list[str]] = []

    def pip(argv: list[str], **_: object) -> str:
        commands.append(argv)
        assert Path(argv[-1]).read_text() == f"new==1 --hash=sha256:{'0' * 64}\n"
        (tmp_path / "new-1-py3-none-any.whl").write_bytes(b"something else")
        return ""

    monkeypatch.setattr(packages, "run_tool", pip)
    assert packages.download_wheel("old==1", digest, tmp_path, silent).name == "old-1-py3-none-any.whl"
    assert commands == []
    with pytest.raises(BenchError, match="no wheel with the digest 0000"):
        packages.download_wheel("new==1", "0" * 64, tmp_path, silent)
    assert "--require-hashes" in commands[0]


def test_what_breaks_a_node_service_replaces_a_program_that_boards_have() -> None:
    assert bundles.NODE_PROGRAM in rootfs.on_board_sources()


@pytest.mark.parametrize(
    ("member", "kept"),
    [
        ("numpy/__init__.py", True),
        ("numpy/_core/tests/test_x.py", False),
        ("numpy/f2py/cfuncs.py", False),
        ("numpy/__init__.pyi", False),
        ("numpy.libs/libscipy_openblas64_-32a4b2a6.so", True),
        ("numpy-2.4.6.dist-info/METADATA", True),
    ],
)
def test_a_wheel_leaves_out_what_its_globs_say(member: str, kept: bool) -> None:
    wheel = read_wheels(rootfs.RECIPES / "wheels.txt")[0]
    assert wheel.keeps(member) is kept


def test_a_digest_changes_with_content_name_and_executable_bit_and_with_nothing_else(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    file = tree / "a"
    file.write_text("one")
    seen = [rootfs.digest([tree])]
    os.utime(file, (1, 1))
    (tree / "__pycache__").mkdir()
    (tree / "__pycache__/x.pyc").write_text("cache")
    assert rootfs.digest([tree]) == seen[0]
    file.chmod(0o755)
    seen.append(rootfs.digest([tree]))
    file.write_text("two")
    seen.append(rootfs.digest([tree]))
    file.rename(tree / "b")
    seen.append(rootfs.digest([tree]))
    assert len(set(seen)) == len(seen)


def test_writing_into_a_tree_never_reaches_the_cached_base_through_a_hard_link(tmp_path: Path) -> None:
    base, tree = tmp_path / "base", tmp_path / "tree"
    base.write_text("base")
    tree.hardlink_to(base)
    rootfs.put(tree, b"changed", 0o600)
    assert base.read_text() == "base"
    assert tree.read_bytes() == b"changed"


def test_only_the_last_used_builds_are_kept(tmp_path: Path) -> None:
    for age in range(5):
        build = tmp_path / f"os-{age}"
        build.mkdir()
        os.utime(build, (1000 - age, 1000 - age))
    (tmp_path / "wheels").mkdir()
    rootfs.forget_old(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["os-0", "os-1", "wheels"]


def test_a_missing_host_tool_is_a_bench_error_with_a_remedy() -> None:
    with pytest.raises(BenchError, match="not installed") as caught:
        run_tool(["no-such-tool-anywhere"])
    assert "hil setup" in caught.value.remedy


def test_a_failing_host_tool_is_quoted() -> None:
    with pytest.raises(BenchError, match="so it is"):
        run_tool(["sh", "-c", "echo so it is >&2; exit 3"])


def test_private_keys_are_for_their_owner_alone_and_are_made_once(pki: Pki) -> None:
    host = pki.host_key("a1")
    for path in (pki.release.key, pki.foreign.key, pki.ssh_key, host.private):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = pki.release.key.read_bytes()
    assert ensure_pki(pki.directory).release.key.read_bytes() == before
    assert pki.host_key("a1") == host
    assert pki.host_key("b1").public_line != host.public_line
    assert host.public_line.startswith("ssh-ed25519 ")


def test_the_release_signature_verifies_as_a_board_does_it_and_a_foreign_one_does_not(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hil.images import bundles

    monkeypatch.setattr(bundles, "ensure_pki", lambda: pki)
    artefact = tmp_path / "model.onnx"
    artefact.write_bytes(b"weights" * 1000)
    signature = bundles.sign_artefact(artefact)

    def verified() -> bool:
        argv = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", str(signature), "-purpose", "any"]
        argv += ["-content", str(artefact), "-CAfile", str(pki.keyring), "-out", "/dev/null"]
        return subprocess.run(argv, capture_output=True).returncode == 0

    assert verified()
    artefact.write_bytes(b"weights" * 999 + b"Weights")
    assert not verified()
    foreign = Pki(tmp_path / "pki")
    monkeypatch.setattr(bundles, "ensure_pki", lambda: foreign)
    foreign.directory.mkdir()
    for name in ("cert", "key"):
        (foreign.directory / f"release.{name}.pem").write_bytes((pki.directory / f"foreign.{name}.pem").read_bytes())
    bundles.sign_artefact(artefact)
    assert not verified()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "bundle.raucb"
    path.write_bytes(b"P" * 8000 + b"S" * 1500 + (1500).to_bytes(8, "big"))
    return path


@pytest.mark.parametrize(
    ("kind", "where"),
    [(BundleKind.TAMPERED_PAYLOAD, range(0, 8000)), (BundleKind.TAMPERED_SIGNATURE, range(8000, 9500))],
)
def test_tampering_changes_one_bit_where_its_name_says(bundle: Path, kind: BundleKind, where: range) -> None:
    before = bundle.read_bytes()
    damage(kind, bundle)
    after = bundle.read_bytes()
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert len(changed) == 1
    assert changed[0] in where


def test_the_other_damages_are_a_shorter_file_an_empty_one_and_none(bundle: Path) -> None:
    before = bundle.read_bytes()
    damage(BundleKind.WRONG_KEY, bundle)
    assert bundle.read_bytes() == before
    damage(BundleKind.TRUNCATED, bundle)
    assert 0 < bundle.stat().st_size < len(before)
    bundle.write_bytes(before)
    damage(BundleKind.EMPTY, bundle)
    assert bundle.stat().st_size == 0


def test_damaging_what_is_no_bundle_is_our_own_bug(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(100))
    with pytest.raises(HarnessError, match="not a bundle"):
        damage(BundleKind.TAMPERED_PAYLOAD, path)


def test_onnx_runtime_with_cuda_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the list leaves out; the wheels, which are large, are not kept."""
    wheel = tmp_path / "onnxruntime_gpu.whl"
    asked = []

    def download(wheels: list[Wheel], directory: Path, progress: object) -> list[Path]:
        asked.append([each.name for each in wheels])
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in ("onnxruntime/capi/x.so", "onnxruntime/tools/y.py"):
                archive.writestr(name, "")
        return [wheel]

    listed = tmp_path / "cuda.txt"
    listed.write_text(f"onnxruntime-gpu==1.31.1 sha256:{'0' * 64}\n  onnxruntime/tools\n")
    monkeypatch.setattr("hil.images.rootfs.download_wheels", download)
    monkeypatch.setattr("hil.images.rootfs.CUDA_WHEELS", listed)
    assert not rootfs.cuda_tree(tmp_path).exists()
    tree = rootfs.ensure_cuda(tmp_path, silent)
    assert rootfs.ensure_cuda(tmp_path, silent) == rootfs.cuda_tree(tmp_path) == tree
    assert [path.name for path in tree.rglob("*.*")] == ["x.so"]
    assert asked == [["onnxruntime-gpu"]] and not wheel.exists()
