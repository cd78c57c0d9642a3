"""What clients send: OpenAI's chat-completions request with the `revision` object, and the critique request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from service.domain import Conversation, Message, Role
from service.errors import (
    InvalidValue,
    MissingField,
    RequestError,
    UnsupportedContent,
    UnsupportedParameter,
    UnsupportedValue,
)
from service.settings import Mode

Id = Annotated[str, Field(min_length=1, max_length=60)]

# Fields that may be sent since they change nothing here; and sampling fields that pass to draft and candidates.
IGNORED = ("store", "service_tier", "prompt_cache_key", "safety_identifier", "user", "metadata")
SAMPLING = (
    "temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "response_format", "logprobs",
    "top_logprobs",
)  # fmt: skip
TOOLS = ("tools", "tool_choice", "parallel_tool_calls")
# Never passed on, not even with mode `off`: they choose a template, run code or reach into the server.
DANGEROUS = frozenset({
    "chat_template", "chat_template_kwargs", "documents", "mm_processor_kwargs", "logits_processors", "vllm_xargs",
    "kv_transfer_params", "cache_salt", "priority", "request_id", "media_io_kwargs", "continue_final_message",
    "add_generation_prompt", "add_special_tokens", "echo", "extra_body",
})  # fmt: skip


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PrincipleChoice(Strict):
    top_k: int = Field(8, ge=0, le=64)
    include: list[Id] = Field(default_factory=list, max_length=64)
    exclude: list[Id] = Field(default_factory=list, max_length=119)


class RevisionBody(Strict):
    """The `revision` object. A field left out has the default of the API key, then of the deployment."""

    mode: Mode | None = None
    max_rounds: int | None = Field(None, ge=1, le=3)
    principles: list[Id] | PrincipleChoice | None = None
    deadline_ms: int | None = Field(None, ge=100, le=600_000)
    locale: str | None = Field(None, pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z]{4})?([-_][A-Za-z]{2})?$")
    progress: bool | None = None
    strict: bool | None = None
    trace: Literal["none", "summary", "full"] | None = None
    stream: Literal["final", "live"] | None = None

    @field_validator("principles")
    @classmethod
    def _some(cls, value: Any) -> Any:
        if isinstance(value, list) and not 1 <= len(value) <= 64:
            raise ValueError("must name 1 to 64 principles")
        return value


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: bool = False


class ResponseFormat(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    type: Literal["text", "json_object", "json_schema"]


class ChatBody(Strict):
    """The fields honoured; whatever else arrives is refused by name (see `unknown`)."""

    model: str | None = Field(None, max_length=256)
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=-(1 << 63), lt=1 << 63)
    stop: str | list[str] | None = None
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[dict[str, Any]] | None = Field(None, max_length=128)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    n: Literal[1] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    revision: RevisionBody | None = None

    @field_validator("stop")
    @classmethod
    def _few(cls, value: Any) -> Any:
        if isinstance(value, list) and len(value) > 4:
            raise ValueError("must hold at most 4 strings")
        return value


class CritiqueInput(Strict):
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=256)
    answer: str | None = Field(None, max_length=200_000)


class CritiqueBody(Strict):
    messages: list[dict[str, Any]] | None = Field(None, min_length=1, max_length=256)
    answer: str | None = Field(None, max_length=200_000)
    inputs: list[CritiqueInput] | None = Field(None, min_length=1, max_length=64)
    principles: list[Id] | PrincipleChoice | None = None
    explain: bool = False
    model: str | None = Field(None, max_length=256)


class SearchBody(Strict):
    messages: list[dict[str, Any]] | None = Field(None, min_length=1, max_length=256)
    query: str | None = Field(None, min_length=1, max_length=20_000)
    top_k: int = Field(8, ge=1, le=64)


Body = TypeVar("Body", bound=BaseModel)


def validated(model: type[Body], payload: Mapping[str, Any]) -> Body:
    """The payload as a model. Raises the contract's error with the exact `param`."""
    _refuse_unknown(model, payload)
    known = {name: value for name, value in payload.items() if name in model.model_fields}
    try:
        return model.model_validate(known)
    except ValidationError as error:
        raise _translated(_deepest(error.errors(include_input=False, include_url=False))) from None


def _refuse_unknown(model: type[BaseModel], payload: Mapping[str, Any]) -> None:
    if "n" in payload and isinstance(payload["n"], int) and not isinstance(payload["n"], bool) and payload["n"] > 1:
        raise UnsupportedValue("One answer a request: n must be 1.", param="n")
    for name, value in payload.items():
        if name not in model.model_fields and value not in (None, [], {}):
            raise UnsupportedParameter(f"{name[:64]!r} is not supported: it would change the answer.", param=name[:64])


def _deepest(problems: Sequence[Any]) -> Any:
    """A union reports one problem a branch; the branch that was meant got furthest."""
    first = problems[0]["loc"][0]
    return max((p for p in problems if p["loc"][0] == first), key=lambda p: len(param_of(p["loc"])))


def _translated(problem: Any) -> RequestError:
    param = param_of(problem["loc"])
    if problem["type"] == "missing":
        return MissingField(f"{param} is missing.", param=param)
    if problem["type"] == "extra_forbidden":
        return UnsupportedParameter(f"{param} is not supported.", param=param)
    return InvalidValue(f"{param}: {problem['msg'].removeprefix('Value error, ')}.", param=param)


def param_of(loc: tuple[str | int, ...]) -> str:
    """`("messages", 0, "content")` as OpenAI writes it: `messages[0].content`. Names of union branches are left out."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif path and (part[:1].isupper() or "[" in part or part in ("str", "int", "float", "bool")):
            continue  # pydantic's name of a union branch
        else:
            path += f".{part}" if path else part
    return path


ROLES = ("system", "developer", "user", "assistant", "tool")


def conversation_of(messages: list[dict[str, Any]], *, at: str = "messages") -> Conversation:
    return Conversation(tuple(_message(m, f"{at}[{i}]") for i, m in enumerate(messages)))


def _message(raw: dict[str, Any], at: str) -> Message:
    role = raw.get("role")
    if role not in ROLES:
        raise InvalidValue(f"{at}.role must be one of {', '.join(ROLES)}.", param=f"{at}.role")
    allowed = {"role", "content", "name", *(("tool_calls", "refusal") if role == "assistant" else ())}
    allowed |= {"tool_call_id"} if role == "tool" else set()
    for name, value in raw.items():
        if name not in allowed and value not in (None, [], {}):
            raise UnsupportedParameter(f"{at}.{name[:64]} is not supported.", param=f"{at}.{name[:64]}")
    content = raw.get("content")
    calls = raw.get("tool_calls")
    if calls is not None and not (isinstance(calls, list) and all(isinstance(c, dict) for c in calls)):
        raise InvalidValue(f"{at}.tool_calls must be a list of objects.", param=f"{at}.tool_calls")
    if role == "tool" and not isinstance(raw.get("tool_call_id"), str):
        raise MissingField(f"{at}.tool_call_id is missing.", param=f"{at}.tool_call_id")
    if content is None and not calls:
        raise InvalidValue(f"{at}.content must be text.", param=f"{at}.content")
    text = _text(content, f"{at}.content")
    upstream_role: Role = "system" if role == "developer" else role
    wire: dict[str, Any] = {"role": upstream_role, "content": text if content is not None else None}
    wire |= {name: raw[name] for name in ("name", "tool_calls", "tool_call_id") if raw.get(name)}
    if not isinstance(raw.get("name", ""), str | None):
        raise InvalidValue(f"{at}.name must be a string.", param=f"{at}.name")
    return Message(role, text, wire)


def _text(content: Any, at: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise InvalidValue(f"{at} must be a string or a list of text parts.", param=at)
    parts = []
    for i, part in enumerate(content):
        if not isinstance(part, dict):
            raise InvalidValue(f"{at}[{i}] must be an object.", param=f"{at}[{i}]")
        if part.get("type") != "text":
            raise UnsupportedContent(f"{at}[{i}]: only text parts are supported.", param=f"{at}[{i}].type")
        if not isinstance(part.get("text"), str):
            raise InvalidValue(f"{at}[{i}].text must be a string.", param=f"{at}[{i}].text")
        parts.append(part["text"])
    return "\n".join(parts)
