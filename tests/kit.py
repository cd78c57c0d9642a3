"""Builds a Kit around a fake model, with the real principles, rules, flags and prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from principles_index.build import build
from principles_index.embed import Embedder
from principles_index.index import PrincipleIndex
from principles_index.schema import Library, load_library
from service.domain import Conversation
from service.pipeline import Ask, Kit, Options
from service.prompts import Prompts
from service.safe_texts import SafeTexts
from service.safety import RedFlags
from service.settings import Advice, Revision
from service.settings import Critic as CriticSettings
from service.stages.critique import Critic
from service.stages.retrieve import Retriever
from service.trust import TrustRecord
from tests.fakes import MODEL, FakeEncoder, FakeLLM

WORKER = ThreadPoolExecutor(max_workers=1)


@cache
def library() -> Library:
    return load_library()


@cache
def index() -> PrincipleIndex:
    folder = Path(mkdtemp()) / "index"
    build(library(), FakeEncoder(), "fake", folder)
    return PrincipleIndex.load(folder, encoder_fingerprint="fake")


@cache
def flags() -> RedFlags:
    return RedFlags.load()


def ask(text: str, options: Options | None = None) -> Ask:
    return Ask(Conversation.of(("user", text)), MODEL, options or Options())


def kit_of(
    llm: FakeLLM,
    *,
    decides: bool = False,
    broken_index: bool = False,
    safe_texts: Mapping[str, Mapping[str, str]] | None = None,
    advice: Advice = "asked",
) -> Kit:
    prompts = Prompts.load()
    trust = TrustRecord(
        model=MODEL.root,
        prompt_version=prompts.version,
        principles_version=library().version,
        critic="decide",
        threshold=0.5,
        evidence={},
    )
    retriever = Retriever(library(), index(), Embedder(FakeEncoder()), 5.0)
    return Kit(
        llm=llm,
        retriever=replace(retriever, index=None) if broken_index else retriever,
        critic=Critic(
            llm,
            prompts,
            CriticSettings(advice=advice),
            trust if decides else None,
            library().version,
            asyncio.Semaphore(64),
            WORKER,
        ),
        flags=flags(),
        safe_texts=SafeTexts.load() if safe_texts is None else SafeTexts(safe_texts),
        revision=Revision(),
    )
