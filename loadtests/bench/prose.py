"""Critique and revision as LLM judges do it: the critique is JSON with a reason and a verdict on each requirement.

A fair baseline: the draft's conversation is continued by the critique and that by the revision, so that every call finds
all of the former one's tokens in the prefix cache, and one revision is written whatever the critique says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageParam

Talk = list[ChatCompletionMessageParam]

LONGEST_CRITIQUE = 4096  # tokens; the schema bounds it long before
_JUDGE = (
    "Judge your last answer against each of these requirements. For each give a short reason and then a verdict: met, "
    "unmet or not_applicable.\n\n"
)
_REVISE = "Now write a complete new answer to my question that meets what is unmet. Write the answer only."


def user(text: str) -> ChatCompletionMessageParam:
    return {"role": "user", "content": text}


def critique(api: openai.OpenAI, model: str, talk: Talk, requirements: Sequence[str]) -> Talk:
    """`talk` ends in the draft; the result goes on with the critique and asks for the revision."""
    names = [f"requirement_{i}" for i in range(1, len(requirements) + 1)]
    listed = "\n".join(f"{name}: {text}" for name, text in zip(names, requirements, strict=True))
    judged: Talk = [*talk, user(_JUDGE + listed)]
    answer = api.chat.completions.create(
        model=model,
        messages=judged,
        temperature=0,
        max_tokens=LONGEST_CRITIQUE,
        response_format={"type": "json_schema", "json_schema": {"name": "critique", "schema": _schema(names)}},
    )
    return [*judged, {"role": "assistant", "content": answer.choices[0].message.content or ""}, user(_REVISE)]


def _schema(names: Sequence[str]) -> dict[str, Any]:
    row = {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "minLength": 40, "maxLength": 200},
            "verdict": {"enum": ["met", "unmet", "not_applicable"]},
        },
        "required": ["reason", "verdict"],
        "additionalProperties": False,
    }
    properties = dict.fromkeys(names, row)
    return {"type": "object", "properties": properties, "required": list(names), "additionalProperties": False}
