"""How long vLLM would take: its scheduler (V1, continuous batching) and prefix cache as arithmetic, without I/O or clock.

A step runs at most `max_num_batched_tokens` tokens: first one of every decoding request, then prompts in the order of
their arrival, in chunks. It lasts

    base_s + per_prefill_token_s × prompt tokens computed + per_prefill_pair_s × pairs of these and what they attend to
           + per_sequence_s × decoding requests
           + per_context_token_s × context tokens of all requests in the step (their keys and values are read)

with coefficients from a profile (`loadtests/profiles`, measured by `loadtests.bench.fit`). The pairs matter on a CPU,
where eight verdicts of 64 tokens on a cached prefix of 1,024 take half as long again without being more tokens.

Prefix cache as in vLLM V1: full blocks under chained hashes, seeded with the request's salt; a block can be shared from
the step that computes it, generated ones too; blocks of ended requests stay until their room is needed, the least
recently used and of one request the last first. Simpler than vLLM: a request is admitted when the blocks of its whole
output are free, which the simulator knows beforehand. So nothing is ever preempted.
"""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

Token = Hashable

PROFILES = Path(__file__).parent / "profiles"
COEFFICIENTS = (
    "request_s",
    "base_s",
    "per_prefill_token_s",
    "per_prefill_pair_s",
    "per_sequence_s",
    "per_context_token_s",
)


@dataclass(frozen=True, slots=True)
class Profile:
    """A model on a machine. Times in seconds. Outside the engine a request passes `request_s`, and of the one process that
    reads and writes HTTP it takes `frontend_s`, for which others wait.

    `opening_tokens` is what the chat template puts before a conversation that has no system turn.
    """

    model: str
    base_s: float
    per_prefill_token_s: float
    per_sequence_s: float
    per_context_token_s: float
    per_prefill_pair_s: float = 0.0
    request_s: float = 0.0
    frontend_s: float = 0.0
    block_size: int = 16
    kv_blocks: int = 4096
    max_num_batched_tokens: int = 2048
    max_num_seqs: int = 256
    max_model_len: int = 8192
    opening_tokens: int = 0

    @classmethod
    def of(cls, written: dict[str, Any]) -> Profile:
        """From a profile's JSON, whose other fields say where it comes from. Raises KeyError, TypeError, ValueError."""
        known = {f.name: written[f.name] for f in fields(cls) if f.name in written}
        missing = {f.name for f in fields(cls) if f.default is MISSING} - known.keys()
        if missing:
            raise KeyError(f"the profile lacks {', '.join(sorted(missing))}")
        profile = cls(**known)
        if (
            min(profile.block_size, profile.max_num_batched_tokens, profile.max_num_seqs) < 1
            or min(*profile.coefficients, profile.frontend_s) < 0
        ):
            raise ValueError("a profile's sizes must be positive, its times not negative")
        if profile.kv_blocks * profile.block_size < profile.max_model_len:
            raise ValueError("the KV blocks of a profile must hold its longest request")
        return profile

    @classmethod
    def load(cls, name: str) -> Profile:
        """A profile of that name in `loadtests/profiles`, or a file. Raises OSError, KeyError, TypeError, ValueError."""
        file = PROFILES / f"{name}.json"
        return cls.of(json.loads((file if file.is_file() else Path(name)).read_text("utf-8")))

    @property
    def coefficients(self) -> tuple[float, ...]:
        """In the order of `Work`."""
        return tuple(getattr(self, name) for name in COEFFICIENTS)


class Work(NamedTuple):
    """What the time of a step, or of many, is made of; each has its coefficient in `COEFFICIENTS`."""

    requests: int = 0
    steps: int = 0
    prefill_tokens: int = 0
    prefill_pairs: int = 0
    decoding: int = 0
    context_tokens: int = 0

    def seconds(self, profile: Profile) -> float:
        return sum(n * each for n, each in zip(self, profile.coefficients, strict=True))

    def plus(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(self, other, strict=True)))


class Request:
    """A prompt, and the output that the model will give to it: at least one token."""

    __slots__ = ("cached", "computed", "emitted", "hashes", "output", "private", "promised", "prompt", "shared")

    def __init__(self, prompt: Sequence[Token], output: int, hashes: Sequence[int]) -> None:
        self.prompt, self.output = len(prompt), output
        self.hashes = hashes  # of the full blocks of prompt and output
        self.computed = 0  # tokens whose keys and values are there
        self.cached = 0  # of them, found in the cache at admission
        self.emitted = 0
        self.shared: list[int] = []  # hashes of the blocks held under their hash, in order
        self.private = 0  # blocks held that are not full, or are another's double
        self.promised = 0  # blocks that it will still take


@dataclass(slots=True)
class BlockPool:
    """KV blocks: in use, cached without a user, or blank. Free blocks that are promised are nobody else's."""

    size: int
    users: dict[int, int] = field(default_factory=dict)
    unused: OrderedDict[int, None] = field(default_factory=OrderedDict)  # cached, the first to be evicted first
    promised: int = 0
    blank: int = -1

    def __post_init__(self) -> None:
        self.blank = self.size

    @property
    def free(self) -> int:
        return self.blank + len(self.unused) - self.promised

    def found(self, hashes: Sequence[int], most: int) -> list[int]:
        """The leading blocks that are cached, `most` at most."""
        for n, each in enumerate(hashes[:most]):
            if each not in self.users and each not in self.unused:
                return list(hashes[:n])
        return list(hashes[:most])

    def use(self, block: int) -> None:
        """One more user of a cached block."""
        self.users[block] = self.users.get(block, 0) + 1
        self.unused.pop(block, None)

    def take(self) -> None:
        """A blank block for whoever was promised one; the least recently used cached one is emptied for it."""
        self.promised -= 1
        if self.blank:
            self.blank -= 1
        else:
            self.unused.popitem(last=False)

    def name(self, block: int) -> bool:
        """Files a full block in use under its hash. False when that hash is taken: the block stays a nameless double."""
        if block in self.users or block in self.unused:
            return False
        self.users[block] = 1
        return True

    def release(self, request: Request) -> None:
        for block in reversed(request.shared):
            self.users[block] -= 1
            if not self.users[block]:
                del self.users[block]
                self.unused[block] = None
        self.blank += request.private
        self.promised -= request.promised

    def forget(self) -> None:
        """Empties the cache; blocks in use keep their names, as nobody can be told apart from a new user."""
        self.blank += len(self.unused)
        self.unused.clear()


@dataclass(frozen=True, slots=True)
class Step:
    """One step: how long it takes, who has a new token at its end, and who of them has the last one."""

    seconds: float
    work: Work
    emitted: tuple[Request, ...]
    finished: tuple[Request, ...]


@dataclass(slots=True)
class Counters:
    """Sums since the start, under vLLM's names."""

    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    steps: int = 0
    seconds: float = 0.0


class Engine:
    """One vLLM engine. `add` requests, `step` until it returns None; `abort` frees a request at once."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.pool = BlockPool(profile.kv_blocks)
        self.counters = Counters()
        self.waiting: deque[Request] = deque()
        self._prefilling: list[Request] = []
        self._decoding: list[Request] = []

    @property
    def running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    def add(self, prompt: Sequence[Token], output: Sequence[Token], salt: str = "") -> Request:
        """Queues a request. Raises ValueError where it can never be served: no token, or more than there are blocks."""
        if not prompt or not output:
            raise ValueError("prompt and output must have a token each")
        computed = [*prompt, *output[:-1]]  # the last token is emitted, never computed
        if self._blocks(len(computed)) > self.pool.size:
            raise ValueError("the request needs more KV blocks than there are")
        request = Request(prompt, len(output), block_hashes(computed, self.profile.block_size, salt))
        self.waiting.append(request)
        return request

    def abort(self, request: Request) -> None:
        """Frees what the request holds. Does nothing for one that has ended."""
        for queue in (self.waiting, self._prefilling, self._decoding):
            if request in queue:
                queue.remove(request)
                self.pool.release(request)
                return

    def step(self) -> Step | None:
        """Schedules and runs one step; None when there is nothing to do."""
        budget = self.profile.max_num_batched_tokens
        scheduled = self._decoding[:budget]
        for request in scheduled:
            self._compute(request, 1)
        decoding = len(scheduled)
        left, pairs, begun = budget - decoding, 0, 0
        while left and (begun < len(self._prefilling) or self._admit()):
            request = self._prefilling[begun]
            chunk = min(request.prompt - request.computed, left)
            pairs += chunk * request.computed + chunk * (chunk + 1) // 2  # each attends to itself and all before it
            self._compute(request, chunk)
            scheduled.append(request)
            left, begun = left - chunk, begun + 1
        if not scheduled:
            return None
        context = sum(request.computed for request in scheduled)
        work = Work(0, 1, budget - decoding - left, pairs, decoding, context)
        return self._end(work, [request for request in scheduled if request.computed >= request.prompt])

    def _admit(self) -> bool:
        """Lets in the first who waits, with its cached blocks and the promise of all others; False while these are not free."""
        if not self.waiting or self.running >= self.profile.max_num_seqs:
            return False
        request, size = self.waiting[0], self.profile.block_size
        found = self.pool.found(request.hashes, (request.prompt - 1) // size)  # the last token is always computed
        needed = self._blocks(request.prompt + request.output - 1) - len(found)
        if self.pool.free - sum(block in self.pool.unused for block in found) < needed:
            return False
        for block in found:
            self.pool.use(block)
        request.shared, request.promised = found, needed
        request.cached = request.computed = len(found) * size
        self.pool.promised += needed
        self.counters.prefix_cache_queries += request.prompt
        self.counters.prefix_cache_hits += request.cached
        self.counters.prompt_tokens += request.prompt
        self._prefilling.append(self.waiting.popleft())
        return True

    def _compute(self, request: Request, tokens: int) -> None:
        """The request's next tokens get their keys and values; blocks that become full can be shared from now on."""
        size = self.profile.block_size
        before, request.computed = request.computed, request.computed + tokens
        for _ in range(self._blocks(before), self._blocks(request.computed)):
            self.pool.take()
            request.promised -= 1
            request.private += 1
        for i in range(before // size, request.computed // size):
            if self.pool.name(request.hashes[i]):
                request.shared.append(request.hashes[i])
                request.private -= 1

    def _end(self, work: Work, emitting: list[Request]) -> Step:
        for request in emitting:
            request.emitted += 1
        finished = [request for request in emitting if request.emitted == request.output]
        for request in finished:
            self.pool.release(request)
        going_on = [request for request in self._prefilling if request.computed >= request.prompt]
        if going_on:
            self._prefilling = [request for request in self._prefilling if request.computed < request.prompt]
            self._decoding += going_on
        if finished:
            self._decoding = [request for request in self._decoding if request.emitted < request.output]
        seconds = work.seconds(self.profile)
        self.counters.generation_tokens += len(emitting)
        self.counters.steps += 1
        self.counters.seconds += seconds
        return Step(seconds, work, tuple(emitting), tuple(finished))

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.profile.block_size)


def block_hashes(tokens: Sequence[Token], size: int, salt: str = "") -> list[int]:
    """One hash for each full block; each is chained to all before it, the first to the salt. Equal in one process only."""
    hashes: list[int] = []
    last = hash(salt)
    for start in range(0, len(tokens) - size + 1, size):
        last = hash((last, *tokens[start : start + size]))
        hashes.append(last)
    return hashes
