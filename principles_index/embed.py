"""The async front of the encoder: it batches, remembers, and never blocks the event loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from principles_index.encoders import Encoder, Vectors
from service.domain import Conversation

_BATCH = 32
_QUERY_CHARS = 4_000  # far more than 256 tokens of any language; bounds the tokeniser's work


class Embedder:
    """Encodes off the event loop; texts that arrive while a batch is being encoded make up the next one.

    `first` texts, which everything else of an answer waits for, go before the others. The vectors of the last `remembered`
    of them are kept under a hash, and for their `owner` alone: nobody can time what another has asked.
    """

    def __init__(
        self, encoder: Encoder, *, remembered: int = 0, on_lookup: Callable[[bool], None] = lambda known: None
    ) -> None:
        self._encoder = encoder
        self._remembered = remembered
        self._known: OrderedDict[bytes, Vectors] = OrderedDict()
        self._on_lookup = on_lookup
        self._first: deque[tuple[str, asyncio.Future[Vectors]]] = deque()
        self._waiting: deque[tuple[str, asyncio.Future[Vectors]]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")
        self._worker: asyncio.Task[None] | None = None

    async def embed(self, text: str, *, first: bool = False, owner: str = "") -> Vectors:
        """Unit vector of shape (dimension,)."""
        if not first or not self._remembered:
            return await self._embed(text, first=first)
        key = hashlib.blake2b(f"{owner}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
        vector = self._known.get(key)
        self._on_lookup(vector is not None)
        if vector is not None:
            self._known.move_to_end(key)
            return vector
        vector = self._known[key] = await self._embed(text, first=first)
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)
        return vector

    async def _embed(self, text: str, *, first: bool) -> Vectors:
        future: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        (self._first if first else self._waiting).append((text, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while waiting := self._first or self._waiting:  # never both in one batch: the longest text sets its cost
            batch = [waiting.popleft() for _ in range(min(_BATCH, len(waiting)))]
            batch = [(text, future) for text, future in batch if not future.done()]  # whoever gave up is not served
            if not batch:
                continue
            try:
                vectors = await loop.run_in_executor(self._thread, self._encoder.encode, [text for text, _ in batch])
                if len(vectors) != len(batch):
                    raise ValueError("the encoder gave more or fewer vectors than texts")
            except Exception as error:  # noqa: BLE001 - whoever waits must be told, whatever broke
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), vector in zip(batch, vectors, strict=True):
                    if not future.done():
                        future.set_result(vector)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def query_text(conversation: Conversation) -> str:
    """What stands for a conversation: the user's turns, the last one first, since the encoder reads 256 tokens only."""
    return "\n".join(reversed(conversation.user_texts))[:_QUERY_CHARS]
