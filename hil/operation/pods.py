"""The API of an engineering model that runs pods: files up, container image, one pod at a time, files down.

Written to the public documentation of DPhi Space's EM API (github.com/DPhi-Space/public-documentation, docs/4-em-api,
2026-01); nothing of that operator was reached.  What is particular to it: HTTP 423 while anybody else uses the model;
2 GB in one call; "scheduled" does not mean that it runs; a user's new pod deletes the old one.
"""

from __future__ import annotations

import json
import math
import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from pydantic import AfterValidator, Field, StringConstraints

from hil.boards.power.kinds import resolve_secret
from hil.core.files import replacing
from hil.core.wait import SYSTEM_CLOCK
from hil.errors import BenchError, ConfigurationError, DeviceError, HilError
from hil.lab.power import Secret
from hil.operation.engineering_model import EngineeringModelKind, EngineeringModelSpec
from hil.operation.https import Body, Endpoint, Unanswered, endpoint, on_this_machine
from hil.text import one_line

BUSY = (423, 429, 502, 503, 504)
"""The model is somebody else's now, or its front door is overloaded: nothing was done, and it is asked again."""
HOPELESS = ("ImagePull", "ErrImage", "InvalidImage", "CrashLoop", "RunContainerError", "CreateContainer")
"""Beginnings of a waiting pod's ``reason`` (Kubernetes) that no waiting mends."""
OVER_POLLS = 3
"""A pod that is over this often in a row without its answer gives none; the first looks may show the pod before it."""
LOOK_S = 10.0
"""One look at a pod may take so long when the job's own time is over."""
MOST_FILES = 10_000


def _url(text: str) -> str:
    endpoint(text)
    return text


class PodsSpec(EngineeringModelSpec):
    """An engineering model that runs pods."""

    url: Annotated[str, AfterValidator(_url), Field(description="https://host[:port][/path]; http:// for 127.0.0.1")]
    user: Annotated[str, StringConstraints(pattern=r"^[^\s:]{1,64}$")]
    password: Secret
    node: Literal["FPGA", "GPU", "MPU"] = Field(default="GPU", description="where the pod runs")
    poll_s: float = Field(default=2.0, ge=0.02, le=60, description="seconds between two looks, and two tries")
    silence_s: float = Field(default=300.0, ge=1, le=3600, description="so long it may take for the first byte")


class Pods:
    """The adapter. Every call may be repeated: what it does twice is the same as once."""

    def __init__(self, spec: PodsSpec, folder: str, tell: Callable[[str], None]) -> None:
        self._spec, self._folder, self._tell = spec, folder, tell
        self._http = Endpoint(spec.url)
        self._token = ""
        self._secrets: set[str] = set()  # passwords and tokens that were ever sent

    # --- what an operation needs

    def uplink(self, file: Path, name: str, *, deadline_s: float) -> None:
        size = file.stat().st_size
        if size > self._spec.call_bytes:
            raise ConfigurationError(
                f"{self._spec.file}: call_bytes: {name} has {size} bytes, and one call takes {self._spec.call_bytes}",
                remedy="make the file smaller: the API takes no parts of a file",
            )
        form, what = _multipart({"dest_path": self._folder}, name, file, size), f"the uplink of {name}"
        end = time.monotonic() + deadline_s

        def body() -> Body:
            """Return the form once the model is free: it may read all of it before it says that it is not."""
            self._call("GET", "/em/files/list", end - time.monotonic(), what=what)
            return form()

        self._done("POST", "/em/files/uplink", deadline_s, what=what, body=body)

    def listing(self, *, deadline_s: float) -> dict[str, int]:
        return self._files(deadline_s) or {}

    def _files(self, deadline_s: float) -> dict[str, int] | None:
        """Return the files of the operation's folder; None where there is no such folder."""
        data = self._done("GET", "/em/files/list", deadline_s, what="the list of files").get("data")
        try:
            here = [each for each in _entries(data) if each["name"] == self._folder and each["type"] == "directory"]
            if not here:
                return None
            files = [each for each in _entries(here[0]["contents"]) if each["type"] == "file"]
            return {str(each["name"]): int(each["size"]) for each in files}
        except (LookupError, TypeError, ValueError, OverflowError) as exc:
            raise BenchError(f"{self._name}: its list of files cannot be read: {self._said(repr(data))}") from exc

    def images(self, *, deadline_s: float) -> list[str]:
        data = self._done("GET", "/em/pod/image/list", deadline_s, what="the list of images").get("data")
        if not isinstance(data, list):
            raise BenchError(f"{self._name}: its list of images cannot be read: {self._said(repr(data))}")
        names = [each.rpartition("/") for each in data[:MOST_FILES] if isinstance(each, str)]
        # It puts the user before the name of an image that the user has loaded
        return [one_line(way + slash + name.removeprefix(f"{self._spec.user}-")) for way, slash, name in names]

    def load_image(self, tar: str, *, deadline_s: float) -> None:
        fields = {"tarfile": f"{self._folder}/{tar}", "image": self._spec.image.name}
        what = f"loading the container image {self._spec.image.name}"
        self._done("POST", "/em/pod/image/load", deadline_s, what=what, fields=fields, error=DeviceError)

    def job(self, command: str, done: str, *, deadline_s: float) -> None:
        end = time.monotonic() + deadline_s
        fields = {
            "image": self._spec.image.name,
            "node": self._spec.node,
            "max_duration": str(math.ceil(deadline_s / 60)),
            "command": f"cd /data/{shlex.quote(self._folder)} && {command}",
        }
        self._done("POST", "/em/pod/run", deadline_s, what="the order for a pod", fields=fields)
        over, ran, state, why = 0, False, "unknown", "nothing was said"
        while (left_s := end - time.monotonic()) > 0:
            state, why = self._pod(max(LOOK_S, left_s))
            if done in self.listing(deadline_s=max(LOOK_S, end - time.monotonic())):
                return
            ran |= state in ("running", "terminated")
            hopeless = state == "waiting" and why.startswith(HOPELESS)
            over = over + 1 if state == "terminated" or hopeless else 0
            if over >= OVER_POLLS and hopeless:
                raise DeviceError(
                    f"{self._name}: the pod does not start: {why}",
                    remedy=f"is {self._spec.image.name} an image for this node's architecture? see image in "
                    f"{self._spec.file}",
                )
            if over >= OVER_POLLS:
                raise DeviceError(
                    f"{self._name}: the pod has ended without its answer {done}: {why}",
                    remedy="the image needs python3, numpy and onnxruntime; what a pod prints is not kept there",
                )
            SYSTEM_CLOCK.sleep(min(self._spec.poll_s, left_s))
        if not ran:
            raise BenchError(f"{self._name}: the pod did not start within {deadline_s:g} s: {why}")
        raise DeviceError(f"{self._name}: the pod did not finish within {deadline_s:g} s: it is {state}")

    def downlink(self, name: str, target: Path, *, limit: int, deadline_s: float) -> None:
        with replacing(target) as out:
            path = "/em/files/downlink?" + urlencode({"filepath": f"{self._folder}/{name}"})
            took, _ = self._call("GET", path, deadline_s, what=f"the downlink of {name}", out=out, limit=limit)
            if took > limit:
                raise DeviceError(f"{self._name}: {name} has more than {limit} bytes; the rest was not fetched")

    def clear(self, *, deadline_s: float) -> None:
        fields, what = {"filepath": self._folder}, "removing the operation's folder"
        try:
            self._done("POST", "/em/files/delete", deadline_s, what=what, fields=fields)
        except BenchError:
            if self._files(LOOK_S) is not None:  # else it was never there, or the answer to an earlier try was lost
                raise

    # --- one request

    @property
    def _name(self) -> str:
        return f"engineering model {self._spec.name}"

    def _pod(self, deadline_s: float) -> tuple[str, str]:
        """Return what the pod is (``waiting``, ``running``, ``terminated``, ``unknown``), and what is said of it."""
        data = self._done("GET", "/em/pod/status", deadline_s, what="the pod's state").get("data")
        states = data.get("state") if isinstance(data, dict) else None
        for name in ("terminated", "running", "waiting"):
            if isinstance(states, dict) and isinstance(facts := states.get(name), dict):
                words = (str(facts[key]) for key in ("reason", "message", "exitCode") if key in facts)
                return name, self._said(", ".join(words), quoted=False)
        return "unknown", self._said(repr(data))

    def _done(
        self,
        method: str,
        path: str,
        deadline_s: float,
        *,
        what: str,
        fields: Mapping[str, str] | None = None,
        body: Callable[[], Body] | None = None,
        error: type[HilError] = BenchError,
    ) -> dict[str, Any]:
        """Return the JSON object of an answer that is HTTP 200; ``error`` for HTTP 400: what was asked for failed."""
        form = urlencode(fields or {}).encode()
        if fields is not None:
            body = lambda: Body("application/x-www-form-urlencoded", len(form), iter([form]))  # noqa: E731
        _, content = self._call(method, path, deadline_s, what=what, body=body, error=error)
        return self._object(content, what)

    def _object(self, content: bytes, what: str) -> dict[str, Any]:
        answer = _json(content)
        if not isinstance(answer, dict):
            said = self._said(content.decode("utf-8", "replace"))
            raise BenchError(f"{self._name}: {what}: answered {said}, which is no JSON object", remedy="see url")
        return answer

    def _call(
        self,
        method: str,
        path: str,
        deadline_s: float,
        *,
        what: str,
        body: Callable[[], Body] | None = None,
        error: type[HilError] = BenchError,
        out: Any = None,
        limit: int = 0,
        login: bool = True,
    ) -> tuple[int, bytes]:
        """Return (bytes written to ``out``, body otherwise); waits while the model is somebody else's."""
        end = time.monotonic() + deadline_s
        told, renewed, why = False, False, ""
        while True:
            try:
                content = body() if body else None
                headers = {"Authorization": f"Bearer {self._access(end)}"} if login else {}
                if out is not None:
                    out.seek(0)
                    out.truncate()
                answer = self._http.ask(
                    method, path, headers, content,
                    silence_s=self._spec.silence_s, end=end, out=out, limit=limit,
                )  # fmt: skip
            except Unanswered as exc:
                if not why or time.monotonic() < end:  # an attempt that the deadline cut off says least
                    why = str(exc)
            else:
                if answer.status == 200:
                    return answer.written, answer.content
                if answer.status == 401 and login and not renewed:
                    self._token, renewed = "", True  # it has expired: ask for another, once
                    continue
                if answer.status in (401, 403) and not login:
                    raise ConfigurationError(
                        f"{self._spec.file}: user, password: {self._name} refused the log-in (HTTP {answer.status})",
                        remedy="set what the file names as password",
                    )
                why = f"HTTP {answer.status}"
                if login:  # what is answered to a log-in may be a token that is not known yet
                    why += f": {self._said(answer.content.decode('utf-8', 'replace'))}"
                if answer.status not in BUSY:
                    raise (error if answer.status == 400 else BenchError)(f"{self._name}: {what}: {why}")
            if time.monotonic() + self._spec.poll_s > end:
                raise BenchError(
                    f"{self._name}: {what}: no answer in {deadline_s:g} s; last: {why}",
                    remedy="HTTP 423: somebody else has the model; ask who, or give the step a longer deadline",
                )
            if not told:
                self._tell(f"{self._name}: {what} waits: {why}")
                told = True
            SYSTEM_CLOCK.sleep(self._spec.poll_s)

    def _access(self, end: float) -> str:
        """Return the token; log in where there is none."""
        if not self._token:
            password = resolve_secret(self._spec.password)
            form = urlencode({"username": self._spec.user, "password": password}).encode()
            self._secrets.add(password)
            _, content = self._call(
                "POST", "/auth/", max(0.0, end - time.monotonic()), what="the log-in", login=False,
                body=lambda: Body("application/x-www-form-urlencoded", len(form), iter([form])),
            )  # fmt: skip
            answer = _json(content)
            token = answer.get("access") if isinstance(answer, dict) else None
            if not isinstance(token, str) or not token.isascii() or not token.isprintable() or len(token) > 8192:
                raise BenchError(f"{self._name}: the log-in gave no token")
            self._token = token
            self._secrets.add(token)
        return self._token

    def _said(self, text: str, *, quoted: bool = True) -> str:
        """Return what the model said, short, without a password or a token that it may repeat."""
        for secret in sorted(filter(None, self._secrets), key=len, reverse=True):
            for form in (secret, urlencode({"": secret})[1:], json.dumps(secret)[1:-1], repr(secret)[1:-1]):
                text = text.replace(form, "***")
        return repr(one_line(text, 300)) if quoted else one_line(text, 300)


def _json(content: bytes) -> Any:
    """Return the JSON value; None where it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _entries(data: Any) -> list[Any]:
    if not isinstance(data, list) or len(data) > MOST_FILES:
        raise ValueError("no list of files")
    return data


def _multipart(fields: Mapping[str, str], name: str, file: Path, size: int) -> Callable[[], Body]:
    """Return a form with one file, read while it is sent; may be made again for another try."""
    mark = secrets.token_hex(16)
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{text}\r\n' for key, text in fields.items()
    ]
    parts.append(
        f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    head, tail = "".join(parts).encode(), f"\r\n--{mark}--\r\n".encode()

    def blocks() -> Iterator[bytes]:
        yield head
        with on_this_machine(), file.open("rb") as content:
            while block := content.read(1 << 20):
                yield block
        yield tail

    return lambda: Body(f"multipart/form-data; boundary={mark}", len(head) + size + len(tail), blocks())


PODS = EngineeringModelKind(PodsSpec, Pods)
