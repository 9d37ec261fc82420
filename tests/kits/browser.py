"""Pages in a real browser: one Chromium without a display, in a network namespace of its own.

    unshare --net python -m tests.kits.browser SITE PAGE... --big PAGE --dashboard OUT [--axe FILE] [--pictures DIR]

Prints JSON.  For each page of the site: its text, what was said on the console, pictures that are broken, links and
ids, milliseconds to the first paint, how much wider than a phone, a tablet and a desk it is, and what axe-core calls
serious or critical, in light and dark.  ``dashboard``: the same of the dashboard of the reports folder OUT.
``--pictures``: a screenshot of each at 1280 and 390 pixels, light and dark.  ``--big``: one more page, too large for
axe and pictures.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from hil.monitor import dashboard as live
from hil.monitor.live_run import Follower

DESK, TABLET, PHONE = 1280, 1000, 390
DEADLINE_S = 60.0
MOST_PIXELS = 6000
SETTLED_S = 2.0
"""The dashboard has shown what there is after so long."""
_QUIETLY = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
_FACTS = """({
  text: document.body.innerText,
  broken: [...document.images].filter(image => !image.naturalWidth).map(image => image.src.slice(0, 80)),
  links: [...document.links].map(link => link.href),
  ids: [...document.querySelectorAll("[id]")].map(element => element.id),
})"""
_PAINT_MS = """new Promise(painted => new PerformanceObserver(list => painted(list.getEntries()[0].startTime))
  .observe({type: "paint", buffered: true}))"""
_WIDTH = """(() => {
  const root = document.scrollingElement;
  const beyond = element => element.getBoundingClientRect().right > root.clientWidth + 1;
  const wide = [...document.querySelectorAll("body *")].filter(beyond);
  const seen = wide.filter(element => !element.closest(".scroll, .chart, .card, .test, nav, svg *"));
  return {by: root.scrollWidth - root.clientWidth,
          wide: seen.slice(0, 20).map(element => element.tagName + "." + element.getAttribute("class"))};
})()"""
_OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
_AXE = """axe.run(document, {resultTypes: ["violations"], %s}).then(found => found.violations
  .filter(each => ["serious", "critical"].includes(each.impact))
  .map(each => each.id + ": " + each.nodes.slice(0, 5).map(node => node.html.slice(0, 160)).join(" | ")))"""


class Browser:
    """Chromium, driven over its DevTools pipe: JSON ended by NUL, on its descriptors 3 and 4."""

    def __init__(self, profile: Path) -> None:
        mine, theirs = os.pipe(), os.pipe()
        reads, writes = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (mine[0], theirs[1]))
        script = f'exec 3<&{reads} 4>&{writes}; exec chromium "$@"'
        argv = ["bash", "-c", script, "chromium", *_QUIETLY, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            argv, pass_fds=(reads, writes), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for end in (mine[0], theirs[1], reads, writes):
            os.close(end)
        self._to, self._from, self._rest = mine[1], theirs[0], b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        self.call("Browser.close")
        self._process.wait(DEADLINE_S)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command; what happened meanwhile is in ``events``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        data = json.dumps({**message, **({"sessionId": session} if session else {})}).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])

    def wait_for(self, method: str, session: str) -> None:
        """Wait for an event of a tab."""
        while not any(each.get("method") == method and each.get("sessionId") == session for each in self.events):
            self._next()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            assert select.select([self._from], [], [], DEADLINE_S)[0], "the browser says nothing"
            said = os.read(self._from, 1 << 20)
            assert said, "the browser has ended"
            self._rest += said
        first, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(first)
        if "method" in message:
            self.events.append(message)
        return message


class Tab:
    """One page, opened at the width of a desk in light colours."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")
        self.look(DESK, dark=False)
        self._call("Page.navigate", url=url)
        browser.wait_for("Page.loadEventFired", self._session)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def look(self, width: int, *, dark: bool) -> None:
        """Take another width and colour scheme."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, script: str) -> Any:
        """Return what a script gives, also when it takes its time."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """Return a PNG of the page from its top, at most ``MOST_PIXELS`` high."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], MOST_PIXELS), "scale": 1}
        taken = self._call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(taken["data"])

    @property
    def console(self) -> list[str]:
        """What was said on the console, thrown, or could not be loaded."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        mine = [each for each in self._browser.events if each.get("sessionId") == self._session]
        return [json.dumps(each["params"])[:500] for each in mine if each["method"] in kinds]

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)


def looked_at(browser: Browser, url: str, axe: str, *, settled_s: float = 0.0, pictures: Path | None = None) -> Any:
    """Return what a browser makes of a page."""
    tab = Tab(browser, url)
    time.sleep(settled_s)
    found: dict[str, Any] = {"paint_ms": tab.value(_PAINT_MS), **tab.value(_FACTS)}
    if axe:
        tab.value(axe)
        tab.value(_OPEN)
        for dark in (False, True):
            tab.look(DESK, dark=dark)
            only = 'runOnly: ["color-contrast"]' if dark else ""  # nothing else is another one in the dark
            found["axe dark" if dark else "axe light"] = tab.value(_AXE % only)
    found["wider"] = {}
    for width in (DESK, TABLET, PHONE):
        tab.look(width, dark=False)
        found["wider"][width] = tab.value(_WIDTH)
    for width in (DESK, PHONE) if pictures else ():
        for dark in (False, True):
            tab.look(width, dark=dark)
            name = "-".join(filter(None, url.split("://")[1].split("/")[1:])) or "dashboard"
            assert pictures is not None
            (pictures / f"{name}-{width}-{'dark' if dark else 'light'}.png").write_bytes(tab.picture())
    found["console"] = tab.console
    tab.close()
    return found


class _Site(SimpleHTTPRequestHandler):
    """Serves a folder, and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback; yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Site, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def look(site: Path, pages: Sequence[str], big: str, out: Path, axe: str, pictures: Path | None) -> Mapping[str, Any]:
    """Return what a browser makes of the pages of a site, and of the dashboard of a reports folder."""
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(Path(profile))
        with served(site) as base:
            found = {page: looked_at(browser, base + page, axe, pictures=pictures) for page in pages}
            found[big] = looked_at(browser, base + big, "")
        with Follower(out) as follower, live.serving(follower, host="127.0.0.1", port=0) as port:
            url = f"http://127.0.0.1:{port}/"
            dashboard = looked_at(browser, url, axe, settled_s=SETTLED_S, pictures=pictures)
        browser.close()
    return {"base": base, "pages": found, "dashboard": dashboard}


def main() -> int:
    """Look at the pages that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("site", type=Path)
    parser.add_argument("pages", nargs="+")
    parser.add_argument("--big", required=True)
    parser.add_argument("--dashboard", type=Path, required=True)
    parser.add_argument("--axe", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    axe = args.axe.read_text("utf-8") if args.axe else ""
    print(json.dumps(look(args.site, args.pages, args.big, args.dashboard, axe, args.pictures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
