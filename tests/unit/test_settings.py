"""Settings come from the environment alone, and what is wrong with them is said in one line without a secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from service.errors import ConfigError
from service.settings import Settings, load_settings

SECRET = "sk-canary-7b1e"
HASH = "ab" * 32
KEYS = [{"name": "team-a", "sha256": HASH, "revision": {"mode": "off"}}]

# For every setting a value that is not its default, as it is written in the environment and as it is read.
EXAMPLES: dict[str, tuple[str, Any]] = {
    "HOST": ("127.0.0.2", "127.0.0.2"),
    "PORT": ("9000", 9000),
    "ENCODER": ("/models/encoder", "/models/encoder"),
    "WORKERS": ("2", 2),
    "DRAIN_S": ("10", 10.0),
    "DEMONSTRATION": ("true", True),
    "LOG": ("debug", "debug"),
    "UPSTREAM_URL": ("http://vllm:8000", "http://vllm:8000"),
    "UPSTREAM_REPLICAS": ("dns", "dns"),
    "UPSTREAM_CHECKPOINT": ("clinalign-4b-v3", "clinalign-4b-v3"),
    "UPSTREAM_API_KEY": (SECRET, SECRET),
    "UPSTREAM_MODEL": ("org/model", "org/model"),
    "UPSTREAM_CONNECT_S": ("1.5", 1.5),
    "UPSTREAM_MAX_CONNECTIONS": ("7", 7),
    "UPSTREAM_RETRY_RATIO": ("0.5", 0.5),
    "UPSTREAM_CACHE_SALT": ("false", False),
    "INDEX_DIR": ("/index", Path("/index")),
    "INDEX_TOP_K": ("3", 3),
    "INDEX_REMEMBERED": ("0", 0),
    "INDEX_TIMEOUT_S": ("0.5", 0.5),
    "CRITIC_TRUST_FILE": ("/trust.json", Path("/trust.json")),
    "CRITIC_ADVICE": ("never", "never"),
    "CRITIC_MIN_MASS": ("0.4", 0.4),
    "CRITIC_THRESHOLD": ("0.6", 0.6),
    "CRITIC_STRICT_THRESHOLD": ("0.2", 0.2),
    "CRITIC_CHAT_TEMPLATE_KWARGS": ("{}", {}),
    "REVISION_MODE": ("always", "always"),
    "REVISION_CANDIDATES": ('["fresh"]', ("fresh",)),
    "REVISION_MARGIN": ("0.1", 0.1),
    "REVISION_MAX_ROUNDS": ("2", 2),
    "REVISION_DEADLINE_MS": ("30000", 30000),
    "REVISION_MAX_TOKENS": ("512", 512),
    "REVISION_STRICT": ("1", True),
    "SAFETY_LOCALE": ("ko-KR", "ko-KR"),
    "SAFETY_NUMBERS_FILE": ("/numbers.yaml", Path("/numbers.yaml")),
    "SAFETY_ENFORCE_OFF": ("true", True),
    "LIMITS_BODY_BYTES": ("2048", 2048),
    "LIMITS_BODY_TIMEOUT_S": ("5", 5.0),
    "LIMITS_CONCURRENCY": ("9", 9),
    "LIMITS_VERDICTS": ("8", 8),
    "LIMITS_REQUESTS_PER_MINUTE": ("60", 60),
    "REDIS_URL": ("redis://redis:6379/1", "redis://redis:6379/1"),
    "REDIS_TIMEOUT_S": ("1", 1.0),
    "TRACES_ENDPOINT": ("http://otel:4318", "http://otel:4318"),
    "TRACES_RATIO": ("0.1", 0.1),
    "LIMITS_HEADERS_HOLD_S": ("0", 0.0),
    "LIMITS_KEEP_ALIVE_S": ("3", 3.0),
}


def fields(group: type[BaseModel] = Settings, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every setting; `keys`, which is a list, has tests of its own."""
    for name, info in group.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from fields(info.annotation, (*path, name))
        elif name != "keys":
            yield (*path, name)


def value(settings: Settings, path: tuple[str, ...]) -> Any:
    found: Any = settings
    for name in path:
        found = getattr(found, name)
    return found


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.upper().startswith("CLINALIGN_")]:
        monkeypatch.delenv(name)


def problem() -> str:
    """The one line that says what is wrong."""
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "\n" not in caught.value.message
    assert SECRET not in f"{caught.value} {caught.value.__cause__} {caught.value.message}"
    return caught.value.message


def test_every_setting_has_an_example() -> None:
    assert {"_".join(path).upper() for path in fields()} == EXAMPLES.keys()


@pytest.mark.parametrize("path", list(fields()), ids="_".join)
def test_every_setting_is_reached_by_its_variable(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    written, read = EXAMPLES["_".join(path).upper()]
    default = value(load_settings(), path)
    assert default != read
    monkeypatch.setenv("CLINALIGN_" + "_".join(path).upper(), written)
    settings = load_settings()
    assert value(settings, path) == read
    others = [other for other in fields() if other != path]
    assert [value(settings, other) for other in others] == [value(Settings(), other) for other in others]


def test_all_variables_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (written, _) in EXAMPLES.items():
        monkeypatch.setenv("CLINALIGN_" + name, written)
    settings = load_settings()
    assert {"_".join(path).upper(): value(settings, path) for path in fields()} == {
        name: read for name, (_, read) in EXAMPLES.items()
    }


BAD = {
    "PORT": ["http", "70000", "-1"],
    "DEMONSTRATION": ["perhaps"],
    "LOG": ["loud"],
    "UPSTREAM_CONNECT_S": ["0", "soon"],
    "UPSTREAM_RETRY_RATIO": ["1.5"],
    "INDEX_TOP_K": ["65", "many"],
    "CRITIC_THRESHOLD": ["0", "1", "nan"],
    "REVISION_MODE": ["sometimes"],
    "REVISION_CANDIDATES": ["[]", '["other"]'],
    "REVISION_DEADLINE_MS": ["99", "1e9"],
    "LIMITS_BODY_BYTES": ["1"],
    "UPSTREAM_URI": ["http://127.0.0.1"],  # no such setting: a typing error is not passed over
}


@pytest.mark.parametrize(("name", "written"), [(name, w) for name, values in BAD.items() for w in values])
def test_a_bad_value_is_told_with_its_variable_in_one_line(
    name: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINALIGN_UPSTREAM_API_KEY", SECRET)
    monkeypatch.setenv("CLINALIGN_" + name, written)
    assert f"CLINALIGN_{name}" in problem()


@pytest.mark.parametrize(
    ("name", "written"),
    [("KEYS", "a"), ("REVISION_CANDIDATES", "fresh"), ("CRITIC_CHAT_TEMPLATE_KWARGS", "{"), ("UPSTREAM", "x")],
)
def test_a_value_that_is_no_json_is_told_with_its_variable(
    name: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINALIGN_" + name, written)
    assert f"CLINALIGN_{name}" in problem()


def test_every_bad_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINALIGN_PORT", "x")
    monkeypatch.setenv("CLINALIGN_LIMITS_VERDICTS", "0")
    message = problem()
    assert "CLINALIGN_PORT: " in message
    assert "CLINALIGN_LIMITS_VERDICTS: " in message


# --- addresses and keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gateway.internal", "localhost.example", ""])
def test_an_open_address_without_keys_is_refused(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINALIGN_HOST", host)
    assert "CLINALIGN_KEYS" in problem()
    monkeypatch.setenv("CLINALIGN_KEYS", "[]")
    assert "CLINALIGN_KEYS" in problem()
    monkeypatch.setenv("CLINALIGN_KEYS", json.dumps(KEYS))
    assert load_settings().host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINALIGN_HOST", host)
    assert load_settings().keys == ()


def test_keys_are_a_json_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINALIGN_KEYS", json.dumps([*KEYS, {"name": "team-b", "sha256": "cd" * 32}]))
    first, second = load_settings().keys
    assert (first.name, first.sha256, first.revision) == ("team-a", HASH, {"mode": "off"})
    assert (second.name, second.revision) == ("team-b", {})


@pytest.mark.parametrize(
    "keys",
    [
        SECRET,  # a key where the list of their hashes belongs
        f'["{SECRET}"]',
        json.dumps({"name": "a", "sha256": HASH, "key": SECRET}),
        json.dumps([{"name": "a"}]),
        json.dumps([{"name": "a", "sha256": SECRET}]),
        json.dumps([{"name": "a", "sha256": HASH.upper()}]),
        json.dumps([{"name": "a b", "sha256": HASH}]),
        json.dumps([{"name": "", "sha256": HASH}]),
        json.dumps([{"name": "a", "sha256": HASH, "key": SECRET}]),
        json.dumps([{"name": "a", "sha256": HASH, "revision": SECRET}]),
    ],
)
def test_bad_keys_are_refused_and_never_shown(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINALIGN_KEYS", keys)
    assert "CLINALIGN_KEYS" in problem()


def test_what_is_wrong_inside_a_list_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINALIGN_KEYS", json.dumps([*KEYS, {"name": "a b", "sha256": HASH}]))
    monkeypatch.setenv("CLINALIGN_REVISION_CANDIDATES", '["edit", "other"]')
    message = problem()
    assert "CLINALIGN_KEYS[1].name: " in message
    assert "CLINALIGN_REVISION_CANDIDATES[1]: " in message


def test_the_upstream_key_is_not_in_the_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINALIGN_UPSTREAM_API_KEY", SECRET)
    settings = load_settings()
    assert settings.upstream.api_key == SECRET
    assert SECRET not in f"{settings!r} {settings} {settings.upstream!r}"


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        settings.upstream.url = "x"  # type: ignore[misc]


@pytest.mark.parametrize("url", ["", " ", ",", " , "])
def test_an_upstream_without_a_url_stops_the_start(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CLINALIGN_UPSTREAM_URL", url)
    with pytest.raises(ConfigError, match="CLINALIGN_UPSTREAM_URL: must name a model server"):
        load_settings()


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("http://a:8000/v1/", ("http://a:8000",)),
        (" http://a:8000 ,http://b:8000/v1,, http://a:8000/", ("http://a:8000", "http://b:8000")),
    ],
)
def test_replicas_are_named_once_each_without_v1(url: str, urls: tuple[str, ...]) -> None:
    assert Settings(upstream={"url": url}).upstream.urls == urls


@pytest.mark.parametrize(
    "url", ["vllm:8000", "ftp://vllm", "http://", "http://a..b", "http://vllm:99999", "http://a,vllm"]
)
def test_an_upstream_that_is_no_url_stops_the_start(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINALIGN_UPSTREAM_URL", url)
    with pytest.raises(ConfigError, match="CLINALIGN_UPSTREAM_URL: must be"):
        load_settings()
