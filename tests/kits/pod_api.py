"""Counterpart of an engineering model that runs pods: an HTTP server on 127.0.0.1, as the public documentation says.

Its volume is a folder of this host, its pods are processes here: ``/data`` in their commands is that folder.  ``fault``
and the numbers make it refuse, fail and be slow the way a real one does.
"""

from __future__ import annotations

import contextlib
import email
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

EM = """\
schema: 1
name: em
api: pods
url: https://em.example.com
user: client1
password: env:EM_PASSWORD
image: {name: cloud-mask}
"""
"""A file of an engineering model, as an author writes one; nobody answers there."""
PASSWORD = "a pass+word"


class Fault(StrEnum):
    """How it fails, at whatever is asked after the log-in; the last three: at the log-in."""

    HANG = "hang"  # takes the request and never answers
    CLOSE = "close"
    GARBAGE = "garbage"
    FLOOD = "flood"  # an answer without end
    DRIP = "drip"  # an answer one byte at a time
    REDIRECT = "redirect"
    SHORT = "short"  # the answer ends before the length that it names
    ECHO = "echo"  # HTTP 500 that repeats the log-in
    ECHO_PADDED = "echo padded"  # the same, after blanks, with the token across the 600th byte
    TOKEN_201 = "token 201"
    TOKEN_TEXT = "token text"  # the token as it is, in no object
    RAW = "raw"  # repeats the form of the log-in where HTTP was to be


AT_LOGIN = (Fault.TOKEN_201, Fault.TOKEN_TEXT, Fault.RAW)


class PodApi:
    """The model; a context manager.  ``seen`` are its requests, e.g. ``POST /em/files/uplink``."""

    def __init__(self, volume: Path, *, images: tuple[str, ...] = ("alpine",)) -> None:
        self.volume = volume
        self.images = list(images)
        self.call_bytes = 2_000_000_000
        self.locked = 0  # so many requests are answered with HTTP 423
        self.slow_s = 0.0  # before each answer
        self.token_uses = 10_000  # then the token has expired
        self.slow_start = 0  # a pod is "waiting" for so many looks
        self.fault: Fault | None = None
        self.faults = 10_000  # so often
        self.drops_orders = False  # a pod is "scheduled", and nothing comes of it
        self.stale: list[dict[str, Any]] = []  # states of another pod, shown before those of this one
        self.corrupt = "no file"  # names with this end are kept with a bit flipped
        self.seen: list[str] = []
        self.pods = 0
        self._token, self._used = "", 0
        self._pod: subprocess.Popen[bytes] | None = None
        self._pending: tuple[str, int] | None = None
        self._waits = ""
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def token(self) -> str:
        return self._token

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._end_pod()

    # --- the verbs

    def answer(self, method: str, path: str, form: dict[str, Any]) -> tuple[int, Any]:
        if (method, path) == ("POST", "/auth/"):
            if (form.get("username"), form.get("password")) != ("client1", PASSWORD):
                return 401, {"detail": "No active account found with the given credentials"}
            self._token, self._used = os.urandom(8).hex(), 0
            if self.fault is Fault.TOKEN_TEXT:
                return 200, self._token
            return 201 if self.fault is Fault.TOKEN_201 else 200, {"access": self._token, "refresh": "x"}
        verb = getattr(self, "_" + path.removeprefix("/em/").replace("/", "_"), None)
        return verb(form) if verb else (404, {"detail": "Not found."})

    def _path(self, text: str) -> Path | None:
        path = (self.volume / text.lstrip("/")).resolve()
        return path if path.is_relative_to(self.volume.resolve()) else None

    def _files_uplink(self, form: dict[str, Any]) -> tuple[int, Any]:
        files: list[tuple[str, bytes]] = form["files"]
        if not files:
            return 400, {"error": "NO_FILES", "message": "No files were provided for uplink!"}
        total = sum(len(content) for _, content in files)
        if total > self.call_bytes:
            return 400, {"error": "MAX_UPLINK_SIZE_EXCEEDED", "message": "Total upload size exceeds 2 GB"}
        folder = self._path(form.get("dest_path", ""))
        if folder is None:
            return 403, {"error": "FORBIDDEN"}
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files:
            kept = bytes([content[0] ^ 1]) + content[1:] if content and name.endswith(self.corrupt) else content
            (folder / Path(name).name).write_bytes(kept)
        return 200, {
            "message": "Successfully uplinked files",
            "data": {"file_count": len(files), "total_size_kb": total},
        }

    def _files_list(self, _form: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"message": "Successfully listed files", "data": _listed(self.volume)}

    def _files_downlink(self, form: dict[str, Any]) -> tuple[int, Any]:
        path = self._path(form["filepath"])
        if path is None:
            return 403, {"error": "FORBIDDEN"}
        return (200, path.read_bytes()) if path.is_file() else (404, {"error": "NOT_FOUND"})

    def _files_delete(self, form: dict[str, Any]) -> tuple[int, Any]:
        path = self._path(form["filepath"])
        if path is None or not path.exists():
            return 400, {"error": "DELETE_FAILED"}
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return 200, {"message": "File deleted successfully"}

    def _pod_image_list(self, _form: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"message": "Successfully loaded list of docker images", "data": self.images}

    def _pod_image_load(self, form: dict[str, Any]) -> tuple[int, Any]:
        path = self._path(form["tarfile"])
        if path is None or not path.is_file():
            log = [f"sh: line 1: {form['tarfile']}: No such file or directory\n"]
            return 400, {"error": "IMAGE_LOAD_FAILED", "message": "tarfile failed to load", "log_tail": log}
        self.images.append(f"client1-{form['image']}")
        return 200, {"message": "Tar file loaded successfully"}

    def _pod_run(self, form: dict[str, Any]) -> tuple[int, Any]:
        """A new pod deletes the one before; that the image is not there is only said by the status."""
        if not form.get("image") or form.get("node") not in ("FPGA", "GPU", "MPU") or int(form["max_duration"]) < 1:
            return 400, {"error": "INVALID"}
        self._end_pod()
        if self.drops_orders:
            return 200, {"message": "Docker run scheduled successfully"}
        self.pods += 1
        known = any(name.removeprefix("client1-") == form["image"] for name in self.images)
        self._waits = "" if known else "ImagePullBackOff"
        if known:
            self._pending = (form["command"], self.slow_start)
        return 200, {"message": "Docker run scheduled successfully"}

    def _pod_status(self, _form: dict[str, Any]) -> tuple[int, Any]:
        state: dict[str, Any]
        if self.stale:
            state = self.stale.pop(0)
        elif self._waits:
            state = {"waiting": {"reason": self._waits, "message": "Back-off pulling image: not found"}}
        elif self._pending:
            command, left = self._pending
            self._pending = (command, left - 1)
            state = {"waiting": {"reason": "ContainerCreating"}}
            if left <= 0:
                self._start(command)
        elif self._pod is None:
            state = {}
        elif self._pod.poll() is None:
            state = {"running": {"startedAt": "2026-11-20T12:31:12Z"}}
        else:
            state = {"terminated": {"exitCode": self._pod.returncode, "reason": "Completed"}}
        return 200, {"message": "Successfully fetched DPhi Pod status", "data": {"state": state}}

    def _start(self, command: str) -> None:
        self._pending = None
        here = command.replace("/data", str(self.volume)).replace("python3 ", f"{sys.executable} -P ")
        quiet = subprocess.DEVNULL
        self._pod = subprocess.Popen(["/bin/sh", "-c", here], stdout=quiet, stderr=quiet, start_new_session=True)

    def _end_pod(self) -> None:
        self._pending, pod = None, self._pod
        if pod is not None and pod.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pod.pid, signal.SIGKILL)
            pod.wait(5)
        self._pod = None

    # --- one request

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        with self._lock:
            self.seen.append(f"{request.command} {parts.path}")
            body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
            self._closing.wait(self.slow_s)
            if self.fault is Fault.RAW:
                request.wfile.write(body)
                request.close_connection = True
                return None
            if parts.path != "/auth/":
                self._used += 1
                if request.headers["Authorization"] != f"Bearer {self._token}" or self._used > self.token_uses:
                    return _send(request, 401, {"detail": "Given token not valid for any token type"})
                if self.locked:
                    self.locked -= 1
                    return _send(request, 423, {"error": "LOCKED", "message": "CG2 is busy"})
                if self.fault is not None and self.fault not in AT_LOGIN and self.faults > 0:
                    self.faults -= 1
                    return self._fail(request, self.fault)
            form = {key: values[0] for key, values in parse_qs(parts.query).items()}
            form |= _form(request.headers.get("Content-Type", ""), body)
            _send(request, *self.answer(request.command, parts.path, form))

    def _fail(self, request: BaseHTTPRequestHandler, fault: Fault) -> None:
        with contextlib.suppress(OSError):
            match fault:
                case Fault.HANG:
                    self._closing.wait(5)
                case Fault.GARBAGE:
                    _send(request, 200, b"<html>a portal</html>")
                case Fault.ECHO:
                    _send(request, 500, {"message": f"failed for {PASSWORD} with {request.headers['Authorization']}"})
                case Fault.ECHO_PADDED:
                    word = request.headers["Authorization"]
                    _send(request, 500, b" " * (600 - len("Bearer ") - 8) + word.encode())
                case Fault.SHORT:
                    request.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"data": []')
                case Fault.REDIRECT:
                    request.wfile.write(
                        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
                    )
                case Fault.FLOOD | Fault.DRIP:
                    request.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
                    end = time.monotonic() + 5
                    while time.monotonic() < end and not self._closing.is_set():
                        request.wfile.write(b" " if fault is Fault.DRIP else b" " * 65536)
                        time.sleep(0.1 if fault is Fault.DRIP else 0)
        request.close_connection = True


def _handler(api: PodApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            api.serve(self)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None: ...

    return Handler


def _send(request: BaseHTTPRequestHandler, status: int, document: Any) -> None:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    with contextlib.suppress(OSError):
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)


def _form(kind: str, body: bytes) -> dict[str, Any]:
    if not kind.startswith("multipart/form-data"):
        return {key: values[0] for key, values in parse_qs(body.decode()).items()}
    message = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    form: dict[str, Any] = {"files": []}
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(payload, bytes):
            continue
        if name == "files":
            form["files"].append((part.get_filename() or "", payload))
        else:
            form[name] = payload.decode()
    return form


def _listed(folder: Path) -> list[dict[str, Any]]:
    """Sizes are texts and hashes whole numbers with a sign, as there."""
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            rows.append({"type": "directory", "name": path.name, "size": "4096", "contents": _listed(path)})
        else:
            digest = int.from_bytes(hashlib.sha256(path.read_bytes()).digest()[:8], "big", signed=True)
            rows.append({"type": "file", "name": path.name, "size": str(path.stat().st_size), "hash": digest})
    return rows
