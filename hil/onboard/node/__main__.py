"""``python3 -m hil.onboard.node``: run the node service until SIGTERM."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from hil.onboard.node.answers import PORT
from hil.onboard.node.app import Node, Settings
from hil.onboard.node.facts import Places


def main() -> None:
    """Parse the command line, serve, wait."""
    parser = argparse.ArgumentParser(prog="hil.onboard.node", description="node service of the reference OS")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (all)")
    parser.add_argument("--port", type=int, default=PORT, help=f"TCP port ({PORT})")
    parser.add_argument("--data", type=Path, default=Path("/data/hil"), help="state directory (/data/hil)")
    parser.add_argument("--facts", type=Path, help="directory with all fact files in it, instead of /run and /etc")
    args = parser.parse_args()
    places = Places.under(args.facts) if args.facts else Places()
    # Nothing needs a farewell: what was acknowledged is on disk. The default action ends the process at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    node = Node(Settings(host=args.host, port=args.port, data=args.data, places=places))
    node.start()
    print(f"node service of {node.facts.name} on port {node.port}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
