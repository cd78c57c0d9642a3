"""Builds what the commands need, in one place: index, encoder, red flags, the scorer and the reward."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from principles_index.embed import Embedder
from principles_index.encoders import Encoder, load_encoder
from principles_index.index import PrincipleIndex
from service import language
from service.errors import UpstreamError
from service.llm import UpstreamLLM
from service.prompts import Prompts
from service.rules import RULES
from service.safety import RedFlags
from service.settings import Critic as CriticSettings
from service.settings import Upstream
from service.stages.critique import Critic, gives_logprobs
from service.stages.retrieve import Retriever
from training.data import read_key
from training.errors import DataError, JudgeUnavailable
from training.profile import JudgeSettings, Profile
from training.reward import PROMPTS, Judge, JudgeLike, Reward, Scorer

_EMBED_S = 300.0  # a batch of training waits for its vectors; only a dead encoder takes so long


@dataclass(frozen=True, slots=True)
class Tools:
    """What is loaded once a process. It opens no connection and belongs to no event loop."""

    index: PrincipleIndex
    encoder: Encoder
    flags: RedFlags

    @classmethod
    def load(cls, index: Path, encoder: str) -> Tools:
        """Raises StartupError for an index or encoder that cannot be used, DataError for a rule that does not exist."""
        loaded = load_encoder(encoder)
        found = PrincipleIndex.load(index, encoder_fingerprint=loaded.fingerprint)
        for principle in found.library.principles:
            if principle.rule is not None and principle.rule not in RULES:
                raise DataError(f"principle {principle.id!r} names the rule {principle.rule!r}, which does not exist")
        language.preload()
        return cls(found, loaded, RedFlags.load())

    def retriever(self) -> Retriever:
        """Must be called inside a running event loop, as must all below."""
        return Retriever(self.index.library, self.index, Embedder(self.encoder), _EMBED_S)

    def scorer(self, judge: JudgeLike | None = None) -> Scorer:
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rules")
        return Scorer(self.retriever(), self.flags, worker, judge)

    async def reward(self, profile: Profile) -> Reward:
        """The profile's reward, its judge asked once whether it can judge. Raises JudgeUnavailable."""
        settings = profile.reward
        judge = await self.judge(settings.judge) if settings.judge else None
        return Reward(self.scorer(judge), settings, profile.grpo.most_tokens)

    async def judge(self, settings: JudgeSettings) -> Judge:
        """Raises JudgeUnavailable where the server does not answer or gives no log-probabilities."""
        key = read_key(settings.api_key_file)
        upstream = Upstream(url=settings.url, model=settings.model, api_key=key, max_connections=settings.in_flight)
        llm = UpstreamLLM(upstream)
        worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rules")
        critic = Critic(
            llm=llm,
            prompts=Prompts.load(),
            settings=CriticSettings(
                min_mass=settings.min_mass,
                threshold=settings.threshold,
                chat_template_kwargs=settings.chat_template_kwargs,
            ),
            trust=None,
            principles_version=self.index.library.version,
            slots=asyncio.Semaphore(settings.in_flight),
            worker=worker,
        )
        try:
            model = await llm.model()
            able = await gives_logprobs(model, critic)
        except UpstreamError as error:
            await llm.close()
            raise JudgeUnavailable(f"the judge at {settings.url} cannot be asked: {error.message}") from error
        if not able:
            await llm.close()
            raise JudgeUnavailable(
                f"the judge at {settings.url} gives no log-probabilities, so it cannot judge in one token"
            )
        return Judge(critic, model, Prompts.load(PROMPTS))
