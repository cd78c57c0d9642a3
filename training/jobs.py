"""One asynchronous function over many rows: hundreds in flight, resumable after a kill, under a cost ceiling.

Beside the rows in `out` lie `.spent.jsonl` (the tokens of every attempt, useless ones too), `.dead.jsonl` (rows that
failed, with reasons) and `.lock`. Tokens are kept apart because they depend on retries and on the server's cache, and a
run that was killed and resumed must end with the same rows, byte for byte, as one that was not.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from pydantic import Field

from service.domain import Frozen, Usage
from service.errors import ClinAlignError, UpstreamError, UpstreamTimeout, spec_of
from service.llm import RetryBudget
from training.errors import CeilingReached, DataError, JobsFailed
from training.journal import Journal, Progress, Row, locked

T = TypeVar("T")

_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 1.0, 60.0
_HOPELESS = 20  # rows that fail in succession: what ends a run against a server that is down


class Prices(Frozen):
    """Dollars per million tokens. Zeros: a model of one's own."""

    prompt: float = Field(0.0, ge=0)
    cached: float = Field(0.0, ge=0)
    completion: float = Field(0.0, ge=0)

    def dollars(self, usage: Usage) -> float:
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        fresh = usage.prompt_tokens - cached
        return (fresh * self.prompt + cached * self.cached + usage.completion_tokens * self.completion) / 1e6


class JobSettings(Frozen):
    """`ceiling` is in dollars over the whole file, earlier runs included; `most_failed` the share of rows that may fail."""

    in_flight: int = Field(64, ge=1)
    attempts: int = Field(5, ge=1)
    retry_ratio: float = Field(0.2, ge=0, le=1)
    timeout_s: float = Field(600.0, gt=0)
    ceiling: float | None = Field(None, ge=0)
    prices: Prices = Prices()
    most_failed: float = Field(0.02, ge=0, le=1)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of an item: the row for the file, and the tokens that it took."""

    row: Mapping[str, Any]
    usage: Usage


class BadReply(DataError):
    """A reply that cannot be used but was paid for; another attempt may do. `code` is fit for the dead-letter file."""

    def __init__(self, code: str, usage: Usage | None = None) -> None:
        super().__init__(f"The reply cannot be used: {code}.")
        self.code = code
        self.usage = usage or Usage()


@dataclass(frozen=True, slots=True)
class Pace:
    """Time and chance, which a test may hold in its hands. `uniform` gives numbers in [0, 1)."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[], float] = random.random


_REAL = Pace()


async def run_jobs(
    items: Sequence[T],
    work: Callable[[T], Awaitable[Done]],
    *,
    key: Callable[[T], str],
    out: Path,
    settings: JobSettings,
    label: str,
    progress: IO[str] | None = sys.stderr,
    pace: Pace = _REAL,
) -> list[Row]:
    """The rows in the order of `items`: those already in `out` are not asked for again, those that failed are left out.

    Retryable errors of the service and BadReply are tried again with exponential backoff, full jitter and a retry budget;
    a Retry-After holds everyone. Other errors of the service and DataError fail their row. Anything else ends the run.
    Raises DataError (a file in use or damaged, two items with one key), CeilingReached, JobsFailed; what is done is kept.
    """
    jobs = {key(item): item for item in items}
    if len(jobs) != len(items):
        raise DataError(f"{label}: {len(items) - len(jobs)} rows share their key with another one.")
    with locked(out), Journal(out) as journal, Progress(label, len(jobs), progress, pace.clock) as told:
        await _Run(jobs, work, journal, settings, told, pace).finish()
        journal.settle(jobs)
        _check_failures(journal, len(jobs), settings)
        return [journal.rows[name] for name in jobs if name in journal.rows]


class _Run(Generic[T]):
    """One pass over the rows that `journal` lacks."""

    def __init__(
        self,
        jobs: Mapping[str, T],
        work: Callable[[T], Awaitable[Done]],
        journal: Journal,
        settings: JobSettings,
        progress: Progress,
        pace: Pace,
    ) -> None:
        self._jobs, self._work, self._journal = jobs, work, journal
        self._settings, self._progress, self._pace = settings, progress, pace
        # One retry for each row in flight to begin with: a server that restarts fails them all at once.
        self._budget = RetryBudget(settings.retry_ratio, burst=max(10.0, settings.in_flight))
        self._held_until = float("-inf")
        self._done = len(jobs.keys() & journal.rows.keys())
        self._streak = 0
        self._server_at_fault = False

    async def finish(self) -> None:
        waiting = iter([name for name in self._jobs if name not in self._journal.rows])
        name = next(waiting, None)
        flying: set[asyncio.Task[None]] = set()
        self._show()
        try:
            while name is not None or flying:
                while name is not None and len(flying) < self._settings.in_flight and self._affords(len(flying)):
                    flying.add(asyncio.create_task(self._row(name, self._jobs[name])))
                    name = next(waiting, None)
                if not flying:
                    raise CeilingReached(self._at_the_ceiling())
                landed, _ = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                for task in landed:
                    task.result()
                flying -= landed
                if self._hopeless and (name is not None or flying):
                    raise JobsFailed(
                        f"{self._streak} rows in succession failed ({_reasons(self._journal)}), so the rest was not tried. "
                        f"Mend the cause and run the same command again. The rows' reasons are in {self._journal.dead_file}."
                    )
        finally:
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)

    async def _row(self, name: str, item: T) -> None:
        self._budget.earn()
        for attempt in range(1, self._settings.attempts + 1):
            await self._turn(retries=attempt - 1)
            try:
                done = await self._ask(item)
            except (ClinAlignError, DataError) as error:
                if isinstance(error, BadReply):
                    self._journal.pay(name, error.usage)
                if attempt == self._settings.attempts or not self._again(error):
                    self._bury(name, error, attempt)
                    return
            else:
                self._journal.pay(name, done.usage)
                self._journal.keep(name, done.row)
                self._done += 1
                self._streak = 0
                self._show()
                return

    async def _ask(self, item: T) -> Done:
        limit = asyncio.timeout(self._settings.timeout_s)
        try:
            async with limit:
                return await self._work(item)
        except TimeoutError:
            if not limit.expired():
                raise
            raise UpstreamTimeout("The row took too long.") from None

    async def _turn(self, *, retries: int) -> None:
        """Waits out the backoff of a retry and whatever time the server asked for."""
        if retries:
            longest = min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** (retries - 1))
            await self._pace.sleep(self._pace.uniform() * longest)
        while (left := self._held_until - self._pace.clock()) > 0:
            await self._pace.sleep(left + self._pace.uniform())  # not all at the same moment

    def _again(self, error: Exception) -> bool:
        """Whether the row may be tried again. A retry that the server invited is outside the budget."""
        if isinstance(error, ClinAlignError):
            if not spec_of(error).retryable:
                return False
            if error.retry_after is not None:
                self._held_until = max(self._held_until, self._pace.clock() + error.retry_after)
                return True
        elif not isinstance(error, BadReply):
            return False
        return self._budget.spend()

    def _bury(self, name: str, error: Exception, attempts: int) -> None:
        self._journal.bury(name, _reason(error), attempts)
        self._streak += 1
        self._server_at_fault = isinstance(error, UpstreamError) and spec_of(error).retryable
        self._show()

    @property
    def _hopeless(self) -> bool:
        """Rows that cannot be done, tried again by a later run, may well fail in succession: they alone are no sign."""
        doomed = len(self._journal.dead) > self._settings.most_failed * len(self._jobs)
        return self._streak >= _HOPELESS and (doomed or self._server_at_fault)

    @property
    def _spent(self) -> float:
        return self._settings.prices.dollars(self._journal.usage)

    def _affords(self, flying: int) -> bool:
        """Until one row has told what a row costs, one is asked alone."""
        if self._settings.ceiling is None or self._settings.prices == Prices():
            return True
        if not self._journal.paid:
            return flying == 0 and self._settings.ceiling > 0
        mean = self._spent / len(self._journal.paid)
        return self._spent + (flying + 1) * mean <= self._settings.ceiling

    def _at_the_ceiling(self) -> str:
        failed = len(self._journal.dead)
        return (
            f"${self._spent:.2f} of at most ${self._settings.ceiling:.2f} are spent: {self._done} rows are done, {failed} "
            f"failed, {len(self._jobs) - self._done - failed} are left. With a higher ceiling the same command goes on."
        )

    def _show(self) -> None:
        failed = len(self._journal.dead)
        cost = "" if self._settings.prices == Prices() else f"${self._spent:.2f}, "
        self._progress.show(self._done + failed, f"{cost}{failed} failed")


def _reason(error: Exception) -> str:
    """A code, never a text."""
    if isinstance(error, ClinAlignError):
        return spec_of(error).code
    return error.code if isinstance(error, BadReply) else type(error).__name__


def _reasons(journal: Journal) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in Counter(journal.dead.values()).most_common())


def _check_failures(journal: Journal, total: int, settings: JobSettings) -> None:
    failed = len(journal.dead)
    if failed > settings.most_failed * total:
        raise JobsFailed(
            f"{failed} of {total} rows failed ({_reasons(journal)}), more than the {settings.most_failed:.0%} allowed. "
            f"The others are kept and the same command tries these again. Each row's reason is in {journal.dead_file}."
        )
