"""Pages in a real browser: Chromium without a display, in a network namespace of its own.

    unshare --net python -m tests.kits.browser SITE PAGE... --dashboard OUT

Prints JSON: for each page at phone width its text, how wide it is, pictures that are broken, and what was said on the
console; and the text of the dashboard of the reports folder OUT.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from hil.monitor import dashboard as live
from hil.monitor.live_run import Follower

WIDTH = 390
CHECK = "/check.html"
LATE, LATE_S = "/late.js", 2.0
_QUIETLY = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr")
WRAPPER = """<!doctype html><meta charset="utf-8"><pre id="found"></pre><script>
const pages = %s, found = {};
async function look(page) {
  const frame = document.createElement("iframe");
  frame.style = "width: %dpx; height: 800px; border: 0";
  frame.src = page;
  document.body.append(frame);
  await new Promise(done => { frame.onload = done; });
  await new Promise(done => setTimeout(done, 100));
  const root = frame.contentDocument.scrollingElement;
  const beyond = element => element.getBoundingClientRect().right > root.clientWidth + 1;
  const outside = [...frame.contentDocument.querySelectorAll("body *")].filter(beyond);
  const wide = outside.filter(element => !element.closest(".scroll, .chart, .card, .test, nav, svg *"));
  found[page] = {
    wider_by: root.scrollWidth - root.clientWidth,
    wide: wide.slice(0, 20).map(element => element.tagName + "." + element.getAttribute("class")),
    text: frame.contentDocument.body.innerText,
    broken: [...frame.contentDocument.images].filter(image => !image.naturalWidth).map(image => image.src.slice(0, 80)),
  };
  frame.remove();
}
(async () => {
  for (const page of pages) await look(page);
  document.getElementById("found").textContent = JSON.stringify(found);
})();
</script>"""


class _Site(SimpleHTTPRequestHandler):
    """Serves a folder, and the page that looks at its pages."""

    wrapper = ""

    def do_GET(self) -> None:
        if self.path != CHECK:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.wrapper.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def chromium(url: str, *options: str) -> tuple[str, list[str]]:
    """Open a page; its DOM at the end, and what was said on the console."""
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            ["chromium", *_QUIETLY, f"--user-data-dir={profile}", *options, "--dump-dom", url],
            capture_output=True,
            text=True,
            timeout=120,
        )
    return done.stdout, re.findall(r":CONSOLE[^\]]*\] (.*)", done.stderr)


def looked_at(site: Path, pages: Sequence[str]) -> dict[str, Any]:
    """Return what a browser of phone width makes of the pages of a site."""
    handler = type("Site", (_Site,), {"wrapper": WRAPPER % (json.dumps(pages), WIDTH)})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        dom, console = chromium(f"http://127.0.0.1:{server.server_port}{CHECK}", "--virtual-time-budget=30000")
        server.shutdown()
    text = re.search(r'<pre id="found">(.*?)</pre>', dom, re.S)
    return {"pages": json.loads(html.unescape(text[1])) if text and text[1] else {}, "console": console}


def dashboard(out: Path) -> dict[str, Any]:
    """Return the text of the dashboard of a reports folder, some seconds after it was opened.

    The browser tells what a page has become when it is loaded: a script that comes late holds that up.
    """
    page = (Path(live.__file__).parent / "pages/dashboard.html").read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder, Follower(out) as follower:
        held = Path(folder) / "page.html"
        held.write_text(page.replace("</body>", f'<script src="{LATE}"></script></body>'), "utf-8")
        live.FILES["/"] = (str(held), "text/html")
        setattr(live._Handler, "do_GET", _late(live._Handler.do_GET))  # noqa: B010
        with live.serving(follower, host="127.0.0.1", port=0) as port:
            dom, console = chromium(f"http://127.0.0.1:{port}/")
    return {"text": html.unescape(re.sub(r"<[^>]+>", "\n", dom)), "console": console}


def _late(get: Callable[[live._Handler], None]) -> Callable[[live._Handler], None]:
    def answer(handler: live._Handler) -> None:
        if handler.path == LATE:
            time.sleep(LATE_S)
            handler._answer(HTTPStatus.OK, b";", "text/javascript")
        else:
            get(handler)

    return answer


def main() -> int:
    """Look at the pages that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("site", type=Path)
    parser.add_argument("pages", nargs="+")
    parser.add_argument("--dashboard", type=Path, required=True)
    args = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print(json.dumps({**looked_at(args.site, args.pages), "dashboard": dashboard(args.dashboard)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
