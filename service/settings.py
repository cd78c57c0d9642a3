"""All settings, and the only file that reads the environment.

Every field is set by `CLINALIGN_<GROUP>_<FIELD>` (`CLINALIGN_UPSTREAM_URL`), or `CLINALIGN_<FIELD>` for those that
stand alone. `docs/reference/settings.md` is generated from the descriptions below.
"""

from __future__ import annotations

import ipaddress
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from service.errors import ConfigError

Mode = Literal["auto", "off", "critique", "always"]
Candidate = Literal["edit", "fresh"]
Advice = Literal["asked", "always", "never"]


class Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Upstream(Group):
    url: str = Field(
        "http://127.0.0.1:8000",
        description="Base URL of vLLM or another OpenAI-compatible server, without `/v1`. Replicas of one server, separated by commas, share the load by conversation: each finds its prefix in one cache.",
    )
    replicas: Literal["listed", "dns"] = Field(
        "listed",
        description="`listed`: the URLs are the replicas. `dns`: each address that the URL's host name resolves to is one, looked up every five seconds, as behind a headless Service of Kubernetes.",
    )
    api_key: str | None = Field(None, repr=False, description="Key sent upstream as a bearer token.")
    model: str | None = Field(None, description="Model served. Default: the first that the upstream lists.")
    checkpoint: str | None = Field(
        None,
        description="Name of the checkpoint's version, shown in `system_fingerprint` and metrics. Default: the last part of the path or id that the server loaded it from.",
    )
    connect_s: float = Field(
        3.0, gt=0, description="Seconds to wait for a connection. Short: a dead upstream must show at once."
    )
    max_connections: int = Field(
        512, ge=1, description="Connections in the pool. One answer uses up to a dozen at a time."
    )
    retry_ratio: float = Field(
        0.1, ge=0, le=1, description="Retries allowed per request sent, so that retries never amplify an outage."
    )
    cache_salt: bool = Field(
        True, description="Send vLLM a salt per API key, so that one tenant cannot time another's prefix cache."
    )

    @field_validator("url")
    @classmethod
    def _somewhere(cls, url: str) -> str:
        if not url.replace(",", " ").strip():
            raise ValueError("must name a model server")
        if not all(map(_is_base_url, filter(None, (part.strip() for part in url.split(","))))):
            raise ValueError("must be http://HOST[:PORT] or https://HOST[:PORT]")  # not quoted: it may hold a password
        return url

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if self.replicas == "dns" and len(self.urls) > 1:
            raise ValueError("URL must be a single one, whose host name resolves to all replicas, with replicas `dns`")
        return self

    @cached_property
    def urls(self) -> tuple[str, ...]:
        """The replicas' base URLs without `/v1`."""
        parts = (part.strip().rstrip("/").removesuffix("/v1") for part in self.url.split(","))
        return tuple(dict.fromkeys(part for part in parts if part))


class Index(Group):
    dir: Path = Field(Path(".cache/index"), description="Folder made by `python -m principles_index build`.")
    top_k: int = Field(
        8, ge=0, le=64, description="Principles retrieved for a conversation, always-on ones not counted."
    )
    timeout_s: float = Field(
        2.0, gt=0, description="Seconds for embedding and search; after that the core principles serve."
    )
    remembered: int = Field(
        4096,
        ge=0,
        description="Conversations whose vectors are kept, by hash and per API key, at 1.6 kB each. 0: none.",
    )


class Critic(Group):
    trust_file: Path | None = Field(
        None, description="Trust record from a judge-agreement report. Without one the model only advises."
    )
    advice: Advice = Field(
        "asked",
        description="When the model is asked for verdicts that only advise. `asked`: where they are shown, that is with mode `critique`, trace `full` and `/v1/critique`. `always`: for every answer. `never`: they cost nothing.",
    )
    min_mass: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Least probability on the labels; less is `unknown`: the model wanted to say something else.",
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, description="P(met) from which a model verdict is `met`, unless the trust record sets one."
    )
    strict_threshold: float = Field(
        0.3, gt=0, lt=1, description="P(met) below which a deciding verdict on a blocking principle blocks."
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=lambda: {"enable_thinking": False},
        description="Sent with verdict calls to vLLM, so that a reasoning model answers at once. `{}` for upstreams that refuse it.",
    )


class Revision(Group):
    mode: Mode = Field("auto", description="Mode for requests that name none.")
    candidates: tuple[Candidate, ...] = Field(
        ("edit", "fresh"), min_length=1, description="Candidates decoded side by side; `live` writes the first alone."
    )
    margin: float = Field(
        0.0, ge=0, le=1, description="A candidate must score higher than the draft by more than this."
    )
    max_rounds: int = Field(1, ge=1, le=3, description="Rounds for requests that name none.")
    deadline_ms: int = Field(
        55_000, ge=100, le=600_000, description="Deadline of a whole answer. Below common proxy limits of 60 s."
    )
    max_tokens: int = Field(
        1024,
        ge=1,
        description="Longest text for requests that set no max_tokens. vLLM's own default is the rest of the context, which would leave no room to check it.",
    )
    strict: bool = Field(False, description="503 rather than a marked draft when an answer could not be verified.")


class Safety(Group):
    locale: str = Field(
        "en",
        description="Locale of fixed texts where the user's language is not told; with a country (`ko-KR`) its numbers are given.",
    )
    numbers_file: Path | None = Field(
        None, description="YAML of emergency numbers, in the form of service/red_flags/numbers.yaml, to use instead."
    )
    enforce_off: bool = Field(
        False, description="Put the fixed text in front of red-flagged answers with mode `off` too."
    )


class ApiKey(Group):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] = Field(
        description="Shown in metrics and logs."
    )
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="SHA-256 of the key, in hex."
    )
    revision: dict[str, Any] = Field(
        default_factory=dict, description="Defaults of the `revision` object for this key."
    )
    requests_per_minute: int | None = Field(
        None, ge=1, description="Limit of this key, instead of `CLINALIGN_LIMITS_REQUESTS_PER_MINUTE`."
    )


class Limits(Group):
    body_bytes: int = Field(1 << 20, ge=1024, description="Largest request body.")
    body_timeout_s: float = Field(10.0, gt=0, description="Seconds for a whole request body to arrive; 408 after that.")
    concurrency: int = Field(
        256, ge=1, description="Answers in the making at once in one process; 503 `overloaded` beyond."
    )
    verdicts: int = Field(256, ge=1, description="Verdict calls in flight at once in one process.")
    requests_per_minute: int | None = Field(
        None,
        ge=1,
        description="Answers and critiques that a key may ask for in any minute (each input of a batch counts); 429 beyond. Default: no limit. Held in each process, unless `CLINALIGN_REDIS_URL` lets all share it.",
    )
    headers_hold_s: float = Field(
        5.0, ge=0, description="Longest wait for the outcome before a stream's headers go out."
    )
    keep_alive_s: float = Field(10.0, gt=0, description="Seconds between keep-alive comments of a waiting stream.")


class Traces(Group):
    endpoint: Annotated[str, StringConstraints(pattern=r"^https?://[^/]")] | None = Field(
        None,
        description="Base URL of an OpenTelemetry collector that takes OTLP over HTTP (`http://otel-collector:4318`). Without one nothing is traced. Needs the packages of the extra `traces`.",
    )
    ratio: float = Field(
        1.0, ge=0, le=1, description="Share of requests traced, of those whose caller's `traceparent` does not decide."
    )


class Redis(Group):
    url: str | None = Field(
        None,
        repr=False,
        pattern=r"^(rediss?|unix)://",
        description="Redis that holds the limits of keys for all gateways: `redis://`, `rediss://` (TLS) or `unix://`.",
    )
    timeout_s: float = Field(
        0.25,
        gt=0,
        le=60,
        description="Seconds to wait for it. While it does not answer, each process holds the limits by itself.",
    )


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_prefix="CLINALIGN_", env_nested_delimiter="_", env_nested_max_split=1
    )

    host: str = Field("127.0.0.1", description="Address to listen on. Anything but loopback needs an API key.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    encoder: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="Sentence-transformers model: a folder or a hub id. A folder that holds `onnx/model.onnx` (`python -m principles_index export` makes one) is served by ONNX Runtime: the same vectors in half the time and a fifth of the memory.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that share the port. Each takes a core under load, and 0.4 GB of memory with an encoder on ONNX Runtime.",
    )
    drain_s: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="Seconds between SIGTERM and the end of new connections. `/readyz` fails at once, so that balancers stop sending meanwhile; what still comes is served.",
    )
    demonstration: bool = Field(False, description="A demonstration model answers: every answer says so.")
    keys: tuple[ApiKey, ...] = Field((), description='JSON list of API keys: `[{"name": "team-a", "sha256": "…"}]`.')
    upstream: Upstream = Upstream()
    index: Index = Index()
    critic: Critic = Critic()
    revision: Revision = Revision()
    safety: Safety = Safety()
    limits: Limits = Limits()
    traces: Traces = Traces()
    redis: Redis = Redis()
    log: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level logged. No level logs health text."
    )

    @model_validator(mode="after")
    def _open_only_on_loopback(self) -> Self:
        if not self.keys and not _is_loopback(self.host):
            raise ValueError(
                "set CLINALIGN_KEYS to listen on anything but loopback: without keys anyone could use the gateway"
            )
        return self


_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client takes it from the environment alone


def add_up_metrics_in(folder: str) -> None:
    """Has processes started from here on keep their metrics in files of `folder`, so that each can tell those of all."""
    os.environ[_METRICS_FOLDER] = folder


def metrics_folder() -> str | None:
    """Where several workers keep their metrics; None in a process that serves alone."""
    return os.environ.get(_METRICS_FOLDER)


def _is_base_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        (parts.hostname or "").encode("idna")
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # of the port, or of a name that is none
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment. Raises ConfigError with one line that names each bad variable."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = "; ".join(_explain(problem) for problem in error.errors(include_input=False, include_url=False))
        raise ConfigError(f"bad settings: {problems}") from None
    except SettingsError:  # its message names the group, and not which of the group's variables is meant
        raise ConfigError(f"bad settings: {'; '.join(f'{name}: must be JSON' for name in _not_json())}") from None


def _explain(problem: Any) -> str:
    """`CLINALIGN_REVISION_MODE: ...`, or `CLINALIGN_KEYS[0].name: ...` for what lies inside a variable's JSON."""
    path = problem["loc"]
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not path:
        return message
    own = 2 if path[0] in groups() else 1
    inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path[own:])
    return f"CLINALIGN_{'_'.join(map(str, path[:own])).upper()}{inside}: {message}"


def groups() -> dict[str, type[Group]]:
    """The groups of settings by name; the other fields stand alone."""
    found = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, Group)}


def _not_json() -> list[str]:
    """The variables of lists, dictionaries and whole groups that hold no JSON."""
    names = [name for name, field in Settings.model_fields.items() if get_origin(field.annotation) in (tuple, dict)]
    for name, group in groups().items():
        names.append(name)
        inner = group.model_fields.items()
        names += [f"{name}_{sub}" for sub, field in inner if get_origin(field.annotation) in (tuple, dict)]
    wanted = {f"CLINALIGN_{name}".upper() for name in names}
    return [name.upper() for name, value in os.environ.items() if name.upper() in wanted and not _is_json(value)]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
