"""Runs a command that ends when its parent does: `python tether.py PARENT_PID COMMAND ...`.

Children live in process groups of their own, so a parent killed with -9 would leave a model server behind, which holds
gigabytes. Linux can send a signal on the parent's death; elsewhere the command simply runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
