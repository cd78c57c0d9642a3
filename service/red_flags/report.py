"""What the red-flag layer finds in a file of written messages: `python -m service.red_flags.report FILE [--misses]`.

FILE is JSONL, one message a line: `{"text", "lang", "expect": "emergency" | "overdose" | "self_harm" | null, "voice"}`. A
positive counts as found only when its own kind is among the flags; a control (`null`) is a false alarm with any flag.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from service.safety import KINDS, RedFlags

_Z = 1.959964  # 95 %


@dataclass(frozen=True, slots=True)
class Judged:
    """One message and the kinds that were raised for it. `expect` is None for a control."""

    text: str
    lang: str
    expect: str | None
    voice: str
    raised: tuple[str, ...]

    @property
    def flagged(self) -> bool:
        """Found, for a positive; a false alarm, for a control."""
        return bool(self.raised) if self.expect is None else self.expect in self.raised


@dataclass(frozen=True, slots=True)
class Share:
    hits: int
    total: int

    @classmethod
    def of(cls, rows: Iterable[Judged]) -> Share:
        flagged = [row.flagged for row in rows]
        return cls(sum(flagged), len(flagged))

    @property
    def value(self) -> float | None:
        return self.hits / self.total if self.total else None

    def wilson(self) -> tuple[float, float]:
        """The Wilson score interval at 95 %, as shares; (0, 1) of nothing."""
        if not self.total:
            return 0.0, 1.0
        p, n = self.hits / self.total, self.total
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.wilson()
        return f"{self.hits}/{self.total} ({low:.0%}–{high:.0%})"


def judge(file: Path, flags: RedFlags) -> list[Judged]:
    """Each message of the file on its own, in the file's order. Raises OSError, and ValueError or KeyError for a bad line."""
    judged = []
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        raised = tuple(dict.fromkeys(flag.kind for flag in flags.detect([row["text"]])))
        judged.append(Judged(row["text"], row["lang"], row["expect"], row["voice"], raised))
    return judged


def table(rows: Sequence[Judged]) -> str:
    """A Markdown table: recall per kind and false alarms, for all, each language and each voice, with 95 % intervals."""
    columns: dict[str, set[str | None]] = {kind: {kind} for kind in KINDS}
    columns |= {"all three": set(KINDS), "control": {None}}
    lines = [f"| | {' | '.join(columns)} |".replace("control", "false alarms"), "|---" * (len(columns) + 1) + "|"]
    parts = [("all", rows)]
    parts += [(lang, [r for r in rows if r.lang == lang]) for lang in dict.fromkeys(r.lang for r in rows)]
    parts += [
        (voice, [r for r in rows if r.voice == voice]) for voice in dict.fromkeys(r.voice for r in rows if r.expect)
    ]
    for name, part in parts:
        shares = (Share.of(row for row in part if row.expect in kinds) for kinds in columns.values())
        lines.append(f"| {name} | {' | '.join(str(share) if share.total else '–' for share in shares)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m service.red_flags.report", description="Judge a file of messages.")
    parser.add_argument("file", type=Path, help="JSONL of text, lang, expect and voice")
    parser.add_argument("--misses", action="store_true", help="also list the messages that were judged wrong")
    options = parser.parse_args()
    rows = judge(options.file, RedFlags.load())
    sys.stdout.write(table(rows) + "\n")
    for row in rows if options.misses else ():
        if row.flagged == (row.expect is None):
            raised = ", ".join(row.raised) or "nothing"
            sys.stdout.write(f"\n{row.lang} {row.voice}: {row.expect or 'control'}, raised {raised}: {row.text}")


if __name__ == "__main__":
    main()
