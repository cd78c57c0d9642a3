"""`python -m loadtests.peers install [NAME ...]`: installs the peers that the benches compare with. Again costs nothing."""

from __future__ import annotations

import argparse
import sys

from loadtests.peers.install import PEERS, install, version_of
from scripts.common import Failure, fail, shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.peers", description=__doc__)
    parser.add_argument("command", choices=("install",))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PEERS)} (default: all)")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in PEERS]:
        parser.error(f"there is no peer {unknown[0]!r}: say {', '.join(PEERS)}")
    try:
        for name in args.names or PEERS:
            folder = install(name)
            print(f"{name} {version_of(name)} is in {shown(folder)}.")
    except Failure as error:
        return fail(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
