"""The files of a run of `training.jobs`, safe against kills, and the line that says how far it is."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import orjson
from tqdm import tqdm

from service.domain import Frozen, Usage
from training.data import read_rows, write_json_lines
from training.errors import DataError

Entry = TypeVar("Entry", bound=Frozen)
Row = dict[str, Any]

_REDRAWN_EVERY_S, _LINE_EVERY_S = 0.2, 15.0
_LINE = "{desc}: {n_fmt}/{total_fmt} ({percentage:.0f} %), {rate_fmt}, {remaining} left{postfix}"


class _Kept(Frozen):
    key: str
    row: Row


class _Paid(Frozen):
    key: str
    usage: Usage


class Journal:
    """The files of a run. A line is written whole and at once, so that a killed process leaves at most one torn line."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.spent_file, self.dead_file = beside(out, ".spent.jsonl"), beside(out, ".dead.jsonl")
        self.rows: dict[str, Row] = {}
        self.dead: dict[str, str] = {}
        self.paid: set[str] = set()
        self.usage = Usage()

    def __enter__(self) -> Journal:
        for kept in _whole_rows(self.out, _Kept):
            self.rows.setdefault(kept.key, kept.row)
        for paid in _whole_rows(self.spent_file, _Paid):
            self._count(paid.key, paid.usage)
        self.dead_file.unlink(missing_ok=True)
        self._out, self._spent = self.out.open("ab"), self.spent_file.open("ab")
        return self

    def __exit__(self, *exc: object) -> None:
        self._out.close()
        self._spent.close()

    def pay(self, key: str, usage: Usage) -> None:
        _append(self._spent, {"key": key, "usage": usage})
        self._count(key, usage)

    def keep(self, key: str, row: Mapping[str, Any]) -> None:
        line = _append(self._out, {"key": key, "row": row})
        self.rows[key] = orjson.loads(line)["row"]  # as the next run will read it

    def bury(self, key: str, reason: str, attempts: int) -> None:
        with self.dead_file.open("ab") as stream:
            _append(stream, {"key": key, "reason": reason, "attempts": attempts})
        self.dead[key] = reason

    def settle(self, order: Iterable[str]) -> None:
        """Rewrites the rows in this order. Rows of other items were paid for: they are kept, behind."""
        names = dict.fromkeys([*order, *self.rows])
        write_json_lines(self.out, ({"key": name, "row": self.rows[name]} for name in names if name in self.rows))

    def _count(self, key: str, usage: Usage) -> None:
        self.paid.add(key)
        self.usage += usage


class Progress:
    """One line that keeps changing on a terminal; elsewhere a line now and then. Both say how it ended."""

    def __init__(self, label: str, total: int, stream: IO[str] | None, clock: Callable[[], float]) -> None:
        self._label, self._total, self._stream, self._clock = label, total, stream, clock
        self._terminal = stream is not None and stream.isatty()
        self._began = self._told = clock()
        self._first: int | None = None
        self._count, self._note = 0, ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._first is not None:
            self._write("\n")

    def show(self, count: int, note: str) -> None:
        """`count` rows are over and done with. What was so from the start is not part of the rate."""
        self._first = count if self._first is None else self._first
        self._count, self._note = count, note
        if self._clock() - self._told >= (_REDRAWN_EVERY_S if self._terminal else _LINE_EVERY_S):
            self._write("" if self._terminal else "\n")

    def _write(self, end: str) -> None:
        if self._stream is None:
            return
        self._told = self._clock()
        meter = tqdm.format_meter(
            self._count, self._total, self._told - self._began, initial=self._first or 0, prefix=self._label,
            unit="row", postfix=self._note, bar_format=None if self._terminal else _LINE,
            ncols=shutil.get_terminal_size().columns - 1 if self._terminal else None,
        )  # fmt: skip
        self._stream.write((f"\r{meter}\x1b[K" if self._terminal else meter) + end)
        self._stream.flush()


def beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.name + suffix)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    out.parent.mkdir(parents=True, exist_ok=True)
    with beside(out, ".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"Another run is writing {out}: wait for it to end, or stop it.") from None
        yield


def _whole_rows(file: Path, kind: type[Entry]) -> list[Entry]:
    """The whole lines of a journal; what a killed process left of one is cut off. Raises DataError."""
    if not file.exists():
        return []
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with file.open("r+b") as stream:
            stream.truncate(whole)
    return read_rows(file, kind)


def _append(stream: IO[bytes], entry: Mapping[str, Any]) -> bytes:
    line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
    stream.write(line)
    stream.flush()
    return line
