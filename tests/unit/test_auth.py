from __future__ import annotations

import hashlib
import hmac
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service import auth
from service.auth import ANONYMOUS, Keys
from service.errors import InvalidAPIKey, error_headers, spec_of
from service.settings import ApiKey


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


KEYS = Keys(
    [
        ApiKey(name="team-a", sha256=sha256("sk-a")),
        ApiKey(name="team-b", sha256=sha256("sk-b")),
        ApiKey(name="team-c", sha256=sha256("schlüssel")),
    ]
)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Bearer sk-a", "team-a"),
        ("Bearer sk-b", "team-b"),
        ("bearer sk-a", "team-a"),
        ("BEARER sk-a", "team-a"),
        ("Bearer  sk-a ", "team-a"),
    ],
)
def test_a_right_key_is_its_tenants(header: str, name: str) -> None:
    assert KEYS.tenant(header).name == name


WRONG = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "sk-a",
    "Basic sk-a",
    "Bearersk-a",
    "Bearer sk-c",
    "Bearer SK-A",
    "Bearer sk-a sk-b",
    "Bearer sk-a, Bearer sk-b",
    "Bearer sk-a\0",
    "Bearer " + sha256("sk-a"),  # who has read the configuration has no key
    "Bearer schlüssel",  # not ASCII, though its hash is known
    "Bearer schl\u00c3\u00bcssel",  # its bytes, as a server reads headers
    "Bearer \ud800",
    "Bearer \udcff",
    "Bearer " + "a" * 100_000,
]


@pytest.mark.parametrize("header", WRONG, ids=range(len(WRONG)))
def test_any_other_key_is_refused_without_a_word_about_it(header: str | None) -> None:
    with pytest.raises(InvalidAPIKey) as caught:
        KEYS.tenant(header)
    assert caught.value.message == "Give a valid API key as `Authorization: Bearer KEY`."
    assert (spec_of(caught.value).status, spec_of(caught.value).code) == (401, "invalid_api_key")
    assert error_headers(caught.value) == {"WWW-Authenticate": "Bearer"}


@given(st.text(st.characters()))
@example("\ud800")
def test_any_text_in_place_of_a_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidAPIKey):
        KEYS.tenant(f"Bearer {key}")


@pytest.mark.parametrize("header", ["Bearer sk-a", "Bearer sk-c", "Basic sk-a", "Bearer ü", None])
def test_hashes_are_compared_in_constant_time_and_all_of_them(
    header: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare_digest(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(auth, "hmac", SimpleNamespace(compare_digest=compare_digest))
    offered = sha256((header or "").partition(" ")[2]).encode()
    try:
        KEYS.tenant(header)
    except InvalidAPIKey:
        assert header != "Bearer sk-a"
    assert [pair[0] for pair in compared] == [offered] * 3
    assert [pair[1] for pair in compared] == [sha256(key).encode() for key in ("sk-a", "sk-b", "schlüssel")]


def test_without_a_comparison_that_says_so_no_key_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "hmac", SimpleNamespace(compare_digest=lambda a, b: False))
    with pytest.raises(InvalidAPIKey):
        KEYS.tenant("Bearer sk-a")


@pytest.mark.parametrize("header", [None, "", "Bearer sk-a", "nonsense \ud800"])
def test_without_any_keys_everybody_is_anonymous(header: str | None) -> None:
    assert Keys([]).tenant(header) is ANONYMOUS


def test_with_keys_nobody_is() -> None:
    assert all(KEYS.tenant(f"Bearer {key}") is not ANONYMOUS for key in ("sk-a", "sk-b"))
