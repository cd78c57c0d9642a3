"""What a person sees while something takes long: one live line on a terminal, plain lines elsewhere.

Imported by scripts/setup.py, so: standard library only, Python 3.6 syntax.
"""

import shutil
import sys
import time
from typing import IO, Optional

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_PLAIN_FRAMES = "|/-\\"
HEARTBEAT_S = 15.0


class Step:
    """`with Step("Starting vLLM") as step: ... step.tick("loading weights")`. Says how long it took, or that it failed."""

    def __init__(self, label: str, out: Optional[IO[str]] = None) -> None:
        self.label = label
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._detail = ""
        self._started = self._last_said = time.monotonic()
        self._frame = 0

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._started

    def tick(self, detail: str = "") -> None:
        """Call often. The detail (what is being done just now) stays until the next one."""
        self._detail = detail or self._detail
        if self._live:
            self._draw()
        elif time.monotonic() - self._last_said >= HEARTBEAT_S:
            self._last_said = time.monotonic()
            self._say("  ... {:.0f} s{}".format(self.elapsed, self._tail()))

    def __enter__(self) -> "Step":
        self._started = self._last_said = time.monotonic()
        if self._live:
            self._draw()
        else:
            self._say("{} ...".format(self.label))
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        mark = "done" if kind is None else "failed"
        if self._live:
            self._out.write("\r\033[K")
            symbol = "✓" if kind is None else "✗"
            self._say("{} {} ({:.0f} s)".format(self._encodable(symbol, "*"), self.label, self.elapsed))
        else:
            self._say("{} {} after {:.0f} s".format(self.label, mark, self.elapsed))

    def _draw(self) -> None:
        frames = self._encodable(_FRAMES, _PLAIN_FRAMES)
        self._frame = (self._frame + 1) % len(frames)
        line = "{} {} ... {:.0f} s{}".format(frames[self._frame], self.label, self.elapsed, self._tail())
        width = shutil.get_terminal_size().columns - 1
        self._out.write("\r\033[K" + line[:width])
        self._out.flush()

    def _tail(self) -> str:
        return "  " + self._detail if self._detail else ""

    def _say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()

    def _encodable(self, text: str, instead: str) -> str:
        try:
            text.encode(getattr(self._out, "encoding", None) or "ascii")
        except (UnicodeEncodeError, LookupError):
            return instead
        return text
