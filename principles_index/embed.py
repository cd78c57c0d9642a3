"""Text to vectors: the sentence-transformers encoder, and an async front that batches and never blocks the event loop."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from service.domain import Conversation
from service.errors import ConfigError

Vectors = npt.NDArray[np.float32]

_BATCH = 32
_QUERY_CHARS = 4_000  # far more than 256 tokens of any language; bounds the tokeniser's work


class Encoder(Protocol):
    @property
    def fingerprint(self) -> str:
        """Changes whenever the vectors would."""
        ...

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), dimension), float32."""
        ...


class SentenceEncoder:
    """A sentence-transformers model on the CPU. `name` is a folder or a hub id; remote code is never trusted."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        try:
            self._model = SentenceTransformer(
                name, device="cpu", trust_remote_code=False, local_files_only=Path(name).is_dir()
            )
        except Exception as error:
            raise ConfigError(
                f"the encoder {name!r} cannot be loaded: give CLINALIGN_ENCODER a folder that holds one"
            ) from error
        self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(str(self._model.max_seq_length).encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = self._model.encode(
            list(texts), batch_size=_BATCH, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
        return np.ascontiguousarray(vectors, dtype=np.float32)


class Embedder:
    """Encodes off the event loop; texts that arrive while a batch is being encoded make up the next one.

    `first` texts, which everything else of an answer waits for, go before the others.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._first: deque[tuple[str, asyncio.Future[Vectors]]] = deque()
        self._waiting: deque[tuple[str, asyncio.Future[Vectors]]] = deque()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")
        self._worker: asyncio.Task[None] | None = None

    async def embed(self, text: str, *, first: bool = False) -> Vectors:
        """Unit vector of shape (dimension,)."""
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
