"""Stage 2: the user's conversation as it came, to the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain import Completion, Conversation
from service.llm import LLM, ModelInfo


async def draft(conversation: Conversation, model: ModelInfo, params: Mapping[str, Any], llm: LLM) -> Completion:
    """One chat call. No hidden system prompt. Raises UpstreamError, ContextLengthExceeded."""
    return await llm.chat(model, conversation.wire, params)
