"""Root file systems: unpacked packages, pruned, compiled, with our own files on top; squashed for slots.

Nothing is installed: packages are unpacked into a directory, no maintainer script runs, this host's own root is not
touched.  Two trees come from one download: the *hardware image* (firmware as PID 1) and the *reference OS*.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from hil.core.command import Progress
from hil.core.files import sha256_of
from hil.core.paths import PACKAGE
from hil.errors import BenchError
from hil.images.packages import Apt, Wheel, download_wheels, read_list, read_wheels, run_tool
from hil.images.recipes import REFERENCE, Recipe

FORMAT = 4
"""Raise when this module builds something else from the same inputs."""

RECIPES = PACKAGE / "images" / "os"
CUDA_WHEELS = RECIPES / "cuda.txt"
LINKS = ("bin", "sbin", "lib", "lib64")
MOUNT_POINTS = ("dev", "proc", "sys", "run", "tmp", "data", "root", "mnt", "etc", "var", "home", "opt")
LIBRARIES = "usr/lib/x86_64-linux-gnu"
SQUASH_OPTIONS = ("-comp", "zstd", "-Xcompression-level", "9", "-b", "256K", "-no-xattrs", "-all-root")
ON_BOARD = tuple(
    PACKAGE / name
    for name in (
        "__init__.py",
        "onboard/__init__.py",
        "onboard/files.py",
        "onboard/squashfs.py",
        "onboard/tegrastats_figures.py",
        "onboard/boot_control.py",
    )
)


def digest(parts: Iterable[str | bytes | Path]) -> str:
    """Return a content hash over strings, bytes, files and directories (names, modes and contents below them)."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for path in [part] if part.is_file() else files_below(part):
                name = path.relative_to(part.parent).as_posix()
                total.update(f"\0{name}\0{path.stat().st_mode & 0o111}\0".encode())
                total.update(path.read_bytes())
        else:
            total.update(b"\0" + (part.encode() if isinstance(part, str) else part))
    return total.hexdigest()[:20]


def files_below(directory: Path) -> Iterator[Path]:
    """Yield the files below a directory in a fixed order, without Python's caches."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def on_board_sources() -> list[Path]:
    """Return the sources of this project that run inside the OS."""
    packages = [*files_below(PACKAGE / "onboard/node"), *files_below(PACKAGE / "onboard/tools")]
    return [*ON_BOARD, *packages]


def firmware_sources() -> list[Path]:
    """Return the sources of this project that run in the hardware image."""
    return [*ON_BOARD, *files_below(PACKAGE / "onboard/firmware")]


def base_key() -> str:
    recipes = [RECIPES / name for name in ("packages.txt", "skip.txt", "prune.txt", "wheels.txt")]
    return digest([str(FORMAT), *recipes])


def ensure_base(cache: Path, progress: Progress) -> Path:
    """Build (or find) the unpacked, pruned and compiled userland of the OS, without anything of this project.

    ``<result>/tree`` is the root, ``<result>/debs`` the packages, ``<result>/manifest.json`` what went in.
    """
    wheels = read_wheels(RECIPES / "wheels.txt")

    def build(scratch: Path) -> object:
        packages, skip = (read_list(RECIPES / name) for name in ("packages.txt", "skip.txt"))
        debs = _download(scratch, packages, skip, progress)
        wheel_files = download_wheels(wheels, cache / "wheels", progress)
        progress(f"userland: unpacking {len(debs)} packages and {len(wheel_files)} wheels")
        tree = scratch / "tree"
        unpack(debs, tree)
        for wheel, path in zip(wheels, wheel_files, strict=True):
            unpack_wheel(wheel, path, tree / "usr/lib/python3/dist-packages")
        finish(tree)
        check_libraries(tree)
        progress("userland: compiling Python")
        compile_python(tree, ["usr/lib/python3.11", "usr/lib/python3"], keep_sources=False)
        return {"debs": _digests(debs), "wheels": _digests(wheel_files)}

    return cached(cache / f"base-{base_key()}", build)


def ensure_userland(recipe: Recipe, base: Path, cache: Path, progress: Progress) -> Path:
    """Build (or find) the userland of an OS recipe: ``base``, or ``base`` with the recipe's own packages."""
    if not recipe.extra:
        return base
    folder = RECIPES / recipe.extra
    lists = [folder / name for name in ("packages.txt", "prune.txt")]

    def build(scratch: Path) -> object:
        wanted = read_list(lists[0])
        there = {path.name.split("_", 1)[0] for path in debs_in(base)}
        leave = ({*read_list(RECIPES / "skip.txt")} | there) - {*wanted}
        packages = [*read_list(RECIPES / "packages.txt"), *wanted]
        debs = _download(scratch, packages, sorted(leave), progress)
        progress(f"userland of {recipe.name}: unpacking {len(debs)} more packages")
        tree = scratch / "tree"
        run_tool(["cp", "-al", str(base / "tree"), str(tree)])
        unpack(debs, tree)
        for pattern in [*read_list(RECIPES / "prune.txt"), *read_list(lists[1])]:
            remove_glob(tree, pattern)
        check_libraries(tree)
        manifest = json.loads((base / "manifest.json").read_text())
        manifest["debs"].update(_digests(debs))
        return manifest

    return cached(cache / f"base-{digest([base.name, str(FORMAT), *lists])}", build)


def cuda_tree(cache: Path) -> Path:
    """Return the folder of ONNX Runtime with CUDA, for boards with a GPU; it is there after :func:`ensure_cuda`."""
    return cache / f"cuda-{digest([str(FORMAT), CUDA_WHEELS])}" / "tree"


def ensure_cuda(cache: Path, progress: Progress) -> Path:
    """Download (or find) ONNX Runtime with CUDA, and the CUDA libraries that it loads."""
    wheels = read_wheels(CUDA_WHEELS)

    def build(scratch: Path) -> object:
        files = download_wheels(wheels, cache / "wheels", progress)
        for wheel, path in zip(wheels, files, strict=True):
            progress(f"CUDA: unpacking {wheel.name}")
            unpack_wheel(wheel, path, scratch / "tree")
            path.unlink()  # they are large, and only needed once
        return {"wheels": [f"{wheel.name}=={wheel.version}" for wheel in wheels]}

    return cached(cuda_tree(cache).parent, build) / "tree"


def _download(scratch: Path, packages: Sequence[str], skip: Sequence[str], progress: Progress) -> list[Path]:
    """Download Debian packages to ``debs`` in a build's scratch directory."""
    Apt(scratch / "apt").download(packages, skip, progress)
    (scratch / "apt/archives").rename(scratch / "debs")
    shutil.rmtree(scratch / "apt")
    return debs_in(scratch)


def _digests(files: Iterable[Path]) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in files}


def debs_in(base: Path) -> list[Path]:
    return sorted((base / "debs").glob("*.deb"))


def hardware_key(base: Path) -> str:
    return digest([base.name, str(FORMAT), RECIPES / "hardware", *firmware_sources()])


def ensure_hardware_tar(base: Path, cache: Path, progress: Progress) -> tuple[Path, str]:
    """Build (or find) the tar of the hardware image's root; (tar, content hash)."""
    key = hardware_key(base)

    def build(scratch: Path) -> object:
        progress("hardware image: unpacking")
        names = set(read_list(RECIPES / "hardware/packages.txt"))
        debs = {path.name.split("_", 1)[0]: path for path in debs_in(base)}
        if missing := names - debs.keys():
            raise BenchError(
                f"hil/images/os/hardware/packages.txt names packages that nothing brings: {sorted(missing)}"
            )
        chosen = [path for name, path in debs.items() if name in names]
        tree = scratch / "tree"
        unpack(chosen, tree)
        finish(tree)
        check_libraries(tree)
        copy_sources(firmware_sources(), tree)
        for name in ("nv", "os"):
            (tree / name).mkdir()
        compile_python(tree, ["usr/lib/python3.11"], keep_sources=False)
        compile_python(tree, ["usr/lib/hil"], keep_sources=True)
        run_tool(["tar", "-C", str(tree), "--owner=0", "--group=0", "-cf", str(scratch / "rootfs.tar"), "."])
        shutil.rmtree(tree)
        return {"debs": _digests(chosen)}

    return cached(cache / f"hardware-{key}", build) / "rootfs.tar", key


def os_tree(base: Path, tree: Path, *, version: str, keyring: Path, recipe: Recipe = REFERENCE) -> None:
    """Lay out an OS at ``tree``: its userland, our files on top."""
    run_tool(["cp", "-al", str(base / "tree"), str(tree)])
    overlay = RECIPES / "reference/rootfs"
    for layer in (overlay, RECIPES / recipe.extra / "rootfs") if recipe.extra else (overlay,):
        for source in files_below(layer):
            put(tree / source.relative_to(layer), source.read_bytes(), source.stat().st_mode & 0o755)
    release = (overlay / "etc/os-release").read_text().replace("@VERSION@", version)
    put(tree / "etc/os-release", release.encode(), 0o644)
    put(tree / "etc/shadow", (overlay / "etc/shadow").read_bytes(), 0o640)
    put(tree / "etc/rauc/keyring.pem", keyring.read_bytes(), 0o644)
    (tree / "root").chmod(0o700)
    copy_sources([*on_board_sources(), *recipe.sources], tree)
    compile_python(tree, ["usr/lib/hil"], keep_sources=True)


def squash(tree: Path, image: Path) -> None:
    """Squash a tree with mksquashfs; bit-identical for identical trees."""
    scratch = image.with_name(f"{image.name}.part")
    scratch.unlink(missing_ok=True)
    times = ("-mkfs-time", "0", "-all-time", "0")
    argv = ["mksquashfs", str(tree), str(scratch), *SQUASH_OPTIONS, *times]
    run_tool([*argv, "-quiet", "-no-progress", "-noappend"])
    scratch.rename(image)


def tiny_tree(base: Path, tree: Path, *, version: str, init: str) -> None:
    """Lay out a root with nothing but busybox and ``init`` (a shell script): for images that must not come up."""
    unpack([], tree)
    for name in ("usr/bin/busybox", "usr/lib64/ld-linux-x86-64.so.2"):
        put(tree / name, (base / "tree" / name).read_bytes(), 0o755)
    for name in ("libc.so.6", "libresolv.so.2"):
        put(tree / LIBRARIES / name, (base / "tree" / LIBRARIES / name).read_bytes(), 0o755)
    put(tree / "usr/sbin/init", init.encode(), 0o755)
    put(tree / "etc/os-release", f"ID=orbital-ref\nVERSION_ID={version}\n".encode(), 0o644)


def unpack(debs: Sequence[Path], tree: Path) -> None:
    """Unpack packages into ``tree``, which gets a merged /usr first."""
    for name in LINKS:
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (tree / name).is_symlink():
            (tree / name).symlink_to(f"usr/{name}")
    for deb in debs:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as source:
            argv = ["tar", "-x", "--keep-directory-symlink", "-C", str(tree)]
            done = subprocess.run(argv, stdin=source.stdout, capture_output=True, text=True)
        if source.returncode != 0 or done.returncode != 0:
            raise BenchError(f"cannot unpack {deb.name}: {done.stderr.strip()[-300:]}")


def unpack_wheel(wheel: Wheel, path: Path, target: Path) -> None:
    """Unpack what the recipe keeps of a wheel."""
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target, [name for name in archive.namelist() if wheel.keeps(name.rstrip("/"))])


def finish(tree: Path) -> None:
    """Prune, then add mount points and busybox's commands where no real one stands."""
    for pattern in read_list(RECIPES / "prune.txt"):
        remove_glob(tree, pattern)
    for name in MOUNT_POINTS:
        (tree / name).mkdir(exist_ok=True)
    (tree / "var/run").symlink_to("../run")  # where dbus and rauc look for the bus
    loader, libraries = tree / "lib64/ld-linux-x86-64.so.2", tree / LIBRARIES
    listing = run_tool([str(loader), "--library-path", str(libraries), str(tree / "usr/bin/busybox"), "--list"])
    for name in listing.split():
        if not any(os.path.lexists(tree / directory / name) for directory in ("usr/bin", "usr/sbin")):
            (tree / "usr/bin" / name).symlink_to("busybox")
    python = tree / "usr/bin/python3"
    if not os.path.lexists(python):
        python.symlink_to("python3.11")


def check_libraries(tree: Path) -> None:
    """Raise BenchError that names libraries which a program or an extension module does not find.

    Debian moves libraries between packages now and then; better told here than by a board that does not boot.
    """
    loader = [str(tree / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(tree / LIBRARIES), "--list"]
    programs = [p for d in ("usr/bin", "usr/sbin") for p in sorted((tree / d).iterdir()) if not p.is_symlink()]
    modules = sorted((tree / "usr/lib").glob("python3*/**/*.so"))
    missing: dict[str, list[str]] = {}
    for path in [*programs, *modules]:
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        listing = subprocess.run([*loader, str(path)], capture_output=True, text=True).stdout
        for line in listing.splitlines():
            if "not found" in line:
                missing.setdefault(line.split()[0], []).append(path.name)
    if missing:
        raise BenchError(
            f"libraries are missing from the userland: {missing}",
            remedy="remove the package that brings them from hil/images/os/skip.txt",
        )


def run_python(tree: Path, arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the tree's own Python on this host, without its site packages."""
    argv, variables = python_argv(tree, arguments, **environment)
    return subprocess.run(argv, capture_output=True, text=True, env=variables)


def python_argv(tree: Path, arguments: Sequence[str], **environment: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment with which the tree's own Python runs on this host."""
    loader = [str(tree / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(tree / LIBRARIES)]
    argv = [*loader, str(tree / "usr/bin/python3.11"), "-S", *arguments]
    return argv, {"PYTHONHOME": str(tree / "usr"), "PATH": "/usr/bin:/bin", **environment}


def compile_python(tree: Path, directories: Sequence[str], *, keep_sources: bool) -> None:
    """Compile with the tree's own Python, so that a board does not have to (its root is memory).

    Without sources the compiled file replaces the source: smaller, and nothing on a board reads them.
    """
    mode = ["--invalidation-mode", "checked-hash"] if keep_sources else ["-b", "--invalidation-mode", "unchecked-hash"]
    paths = [str(tree / name) for name in directories if (tree / name).is_dir()]
    done = run_python(tree, ["-m", "compileall", "-q", *mode, "-s", str(tree), "-p", "/", *paths])
    if keep_sources:
        if done.returncode != 0:
            raise BenchError(f"a module does not compile: {done.stdout.strip()[-600:]}{done.stderr[-300:]}")
        return
    for path in paths:
        for source in Path(path).rglob("*.py"):
            # What does not compile (templates, examples of other versions) stays as it is.
            if source.with_suffix(".pyc").exists():
                source.unlink()


def copy_sources(sources: Sequence[Path], tree: Path) -> None:
    """Copy modules of this package to where boards have them."""
    for source in sources:
        put(place_on_board(tree, source), source.read_bytes(), 0o644)


def place_on_board(tree: Path, source: Path) -> Path:
    """Return where a module of this package is in a root file system."""
    return tree / "usr/lib/hil" / source.relative_to(PACKAGE.parent)


def put(path: Path, content: bytes, mode: int) -> None:
    """Write a file anew (never through a hard link to the cached base)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def remove_glob(tree: Path, pattern: str) -> None:
    for path in tree.glob(pattern):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def fresh(directory: Path) -> Path:
    """Make an empty directory; what a killed build left there is removed."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def cached(result: Path, build: Callable[[Path], object]) -> Path:
    """Return a directory of the cache, made now if it is not there.

    ``build`` fills a scratch directory and returns its manifest; the whole is moved to its place in one step.
    """
    if not (result / "manifest.json").exists():
        scratch = fresh(result.with_name(f"{result.name}.part"))
        manifest = build(scratch)
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        shutil.rmtree(result, ignore_errors=True)
        scratch.rename(result)
    return result


def forget_old(cache: Path, *, keep: int = 4) -> None:
    """Remove all but the ``keep`` last used builds of each kind (base, hardware, os, bundles, cuda)."""
    for kind in ("base", "hardware", "os", "bundles", "cuda"):
        builds = sorted(cache.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in builds[keep:]:
            shutil.rmtree(path, ignore_errors=True)
