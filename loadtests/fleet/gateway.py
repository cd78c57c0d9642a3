"""One worker process of the gateway: the pipeline's calls in the pipeline's order, over simulated replicas.

As in `service`: retrieval runs beside the draft; the replica is chosen when an answer begins and serves all its calls;
verdicts go out at once, a process's slots permitting; candidates are written side by side; those without a flaw are
judged; a full worker sheds; at the deadline a draft goes out unverified; a replica that is gone is passed over for the
next. Own work takes a core of which a process has one.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from loadtests.fleet.experts import engine
from loadtests.fleet.texts import Lengths, Talk, Text, Words
from loadtests.stub_replica import Replica
from loadtests.stub_timing import Profile
from service.replicas import Replicas
from service.settings import Candidate as Kind

Routing = Literal["affinity", "round_robin"]
Outcome = Literal["unrevised", "revised", "unverified", "timed_out", "failed", "shed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What an answer takes. Lengths are medians in tokens; `spread` is the standard deviation of their logarithm, 0: exact.

    A share `revised` makes `rounds` rounds of all `candidates`, of which a share `can_win` has no flaw and is judged;
    `verdicts` is how many the model gives on a text: none where it only advises and nobody sees it.
    `later_turns` is the share of questions that continue an answered conversation.
    """

    question_tokens: int = 60
    answer_tokens: int = 300
    candidate_tokens: int = 0  # 0: as the answer's
    spread: float = 0.35
    verdicts: int = 8
    revised: float = 0.3
    candidates: tuple[Kind, ...] = ("edit", "fresh")
    rounds: int = 1
    repairs: int = 3
    can_win: float = 0.9
    later_turns: float = 0.3
    tenants: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """`first_s` is a core's time for the question and the first text's rules and embedding, `candidate_s` for those of a
    candidate; the rest is as in the service's settings, each for one of `workers` processes."""

    workers: int = 1
    first_s: float = 0.035
    candidate_s: float = 0.0225
    concurrency: int = 256
    verdicts: int = 256
    deadline_s: float = 55.0
    routing: Routing = "affinity"


class Server:
    """A replica, and the calls that it was sent and has not answered."""

    def __init__(self, profile: Profile) -> None:
        self.replica = Replica(profile)
        self.replica.engine = engine(profile)
        self.calls = self.in_flight = 0
        self.gone = False  # from then on it refuses connections; it must have nothing in flight

    async def chat(self, prompt: Text, output: Text, salt: str) -> None:
        """Returns with the whole answer. Raises ConnectionRefusedError once it is gone."""
        if self.gone:
            raise ConnectionRefusedError
        arrived = asyncio.get_running_loop().time()
        self.calls += 1
        self.in_flight += 1
        try:
            async with self.replica.generate(prompt, output, salt=salt, streamed=False, arrived=arrived) as generation:
                await generation.more()
        finally:
            self.in_flight -= 1

    @property
    def queued(self) -> int:
        """Calls that the frontend has not yet let through."""
        return self.in_flight - len(self.replica.live)


@dataclass(slots=True)
class Work:
    """One answer in the making. `chance` is its own, so that the same question meets the same fate in any fleet."""

    talk: Talk
    chance: random.Random
    order: Sequence[str] | None  # None: each call to the next replica in turn
    principles: Sequence[int]
    best: Text | None = None
    revised: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def clock(self, stage: str) -> Iterator[None]:
        """A stage that the deadline cuts short is not counted."""
        start = asyncio.get_running_loop().time()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + asyncio.get_running_loop().time() - start


class Worker:
    """One process: `answer` conversations."""

    def __init__(
        self, settings: Gateway, answers: Answers, servers: Mapping[str, Server], words: Words, lengths: Lengths
    ) -> None:
        self._settings, self._answers, self._servers = settings, answers, servers
        self._words, self._lengths = words, lengths
        self._replicas = Replicas(tuple(servers), asyncio.get_running_loop().time)
        self._turns = itertools.cycle(servers)
        self._slots = asyncio.Semaphore(settings.verdicts)
        self._core = asyncio.Lock()
        self.core_s = 0.0
        self.in_flight = 0

    def follow(self, urls: Sequence[str]) -> None:
        """These are the replicas from now on; each must be among the servers."""
        self._replicas.update(urls)
        self._turns = itertools.cycle(urls)

    async def answer(self, talk: Talk, chance: random.Random) -> tuple[Outcome, Work]:
        order = self._replicas.for_conversation(talk.key) if self._settings.routing == "affinity" else None
        first = chance.randrange(len(self._words.questions))
        work = Work(talk, chance, order, range(first, first + self._answers.verdicts))
        if self.in_flight >= self._settings.concurrency:
            return "shed", work
        self.in_flight += 1
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                await self._pipeline(work)
        except TimeoutError:
            return ("timed_out" if work.best is None else "unverified"), work
        except ConnectionError:
            return ("failed" if work.best is None else "unverified"), work
        finally:
            self.in_flight -= 1
        return ("revised" if work.revised else "unrevised"), work

    async def _pipeline(self, work: Work) -> None:
        answers = self._answers
        with work.clock("draft"):
            work.best = await self._write(work, work.talk.prompt, answers.answer_tokens)
        with work.clock("critique"):
            await self._judge(work, work.best, self._settings.first_s)
        if work.chance.random() >= answers.revised:
            return
        for _ in range(answers.rounds):
            with work.clock("revise"):
                candidates = await asyncio.gather(*(self._candidate(work, kind) for kind in answers.candidates))
            left = [text for text in candidates if work.chance.random() < answers.can_win]
            with work.clock("recritique"):
                await asyncio.gather(*(self._judge(work, text, self._settings.candidate_s) for text in left))
            work.revised = True
            if not left:
                return  # nothing better was found, so another round would begin with the same text
            work.best = left[0]

    async def _candidate(self, work: Work, kind: Kind) -> Text:
        assert work.best is not None
        repairs = work.principles[: self._answers.repairs] or range(self._answers.repairs)
        prompt = self._words.candidate(kind, work.talk, work.best, repairs)
        return await self._write(work, prompt, self._answers.candidate_tokens or self._answers.answer_tokens)

    async def _write(self, work: Work, prompt: Text, length: int) -> Text:
        """A new text of about that many tokens, the one that ends it included."""
        text = self._lengths.text(length, work.chance)
        await self._chat(work, prompt, (*text[:-1], "<|im_end|>"))
        return text[:-1]

    async def _judge(self, work: Work, text: Text, own_s: float) -> None:
        await self._own_work(own_s)
        await asyncio.gather(*(self._verdict(work, text, principle) for principle in work.principles))

    async def _verdict(self, work: Work, text: Text, principle: int) -> None:
        async with self._slots:
            await self._chat(work, self._words.verdict(work.talk, text, principle), ("yes",))

    async def _chat(self, work: Work, prompt: Text, output: Text) -> None:
        """The call's answer from the first replica that is there. Raises ConnectionError when none is."""
        order = (next(self._turns),) if work.order is None else work.order
        for url in self._replicas.reachable(order):
            try:
                with self._replicas.call(url):
                    return await self._servers[url].chat(prompt, output, work.talk.salt)
            except ConnectionError:
                self._replicas.failed(url)
        raise ConnectionError

    async def _own_work(self, seconds: float) -> None:
        """Work of the process itself, one thing after the other."""
        if seconds:
            async with self._core:
                await asyncio.sleep(seconds)
                self.core_s += seconds
