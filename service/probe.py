"""`python -m service.probe URL`: whether a gateway lives, for a container's health check and for `helm test`.

    python -m service.probe http://127.0.0.1:8080/healthz                  0 when it answers 200
    python -m service.probe http://gateway:8080 --answer --key-file F      0 when it answers a question, checked

Otherwise it says why in one line and ends with 1. It imports the standard library alone, so that it starts at once beside
a busy gateway, and prints neither questions nor answers.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

QUESTION = "Is it safe to drink a glass of water before going to bed?"
_MOST_BYTES = 4 << 20


class Failed(Exception):
    """The message is one line for people."""


def probe(url: str, timeout_s: float) -> None:
    """Returns when a GET of the URL answers 200. Raises Failed."""
    with _within(timeout_s, url):
        status, _ = _ask("GET", url)
    if status != 200:
        raise Failed(f"{url} answered {status}")


def ask(url: str, timeout_s: float, key: str | None = None) -> str:
    """How the answer to a short question was checked (`revision.status`). `url` is without `/v1`. Raises Failed."""
    url = f"{url.rstrip('/')}/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 64}
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    with _within(timeout_s, url):
        status, raw = _ask("POST", url, json.dumps(body).encode(), headers)
    try:
        told = json.loads(raw)
    except ValueError:
        told = None
    if status != 200:
        raise Failed(f"{url} answered {status} {_at(told, 'error', 'code') or ''}".rstrip())
    text, checked = _at(told, "choices", 0, "message", "content"), _at(told, "revision", "status")
    if not isinstance(text, str) or not text.strip():
        raise Failed(f"{url} answered without a text")
    if not isinstance(checked, str) or not checked:
        raise Failed(f"{url} answered without revision.status: it is not a ClinAlign gateway, or its mode is off")
    return checked


def _ask(method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    try:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise Failed(f"{url} is not an http URL")
        connection = http.client.HTTPConnection(parts.hostname, parts.port)
    except ValueError:
        raise Failed(f"{url} is not an http URL") from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read(_MOST_BYTES)
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Failed(f"{url} cannot be asked: {getattr(error, 'strerror', None) or type(error).__name__}") from None
    finally:
        connection.close()


@contextmanager
def _within(seconds: float, url: str) -> Iterator[None]:
    """Raises Failed after so long. A socket's own timeout starts anew with every byte, and none covers a name's look-up."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except TimeoutError:
        raise Failed(f"{url} gave no answer in {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _at(told: Any, *path: str | int) -> Any:
    """What lies there, or None."""
    for step in path:
        try:
            told = told[step]
        except (KeyError, IndexError, TypeError):
            return None
    return told


def _key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise Failed(f"{file} cannot be read") from None
    if not key.isascii() or not key.isprintable() or not key:
        raise Failed(f"{file} holds no API key")
    return key


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise ValueError
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m service.probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="http only; with --answer the gateway's, without /v1")
    parser.add_argument("--answer", action="store_true", help="ask a question at /v1/chat/completions")
    parser.add_argument("--key-file", type=Path, help="a file that holds the API key, for --answer")
    parser.add_argument("--timeout", type=_seconds, metavar="S", help="seconds in all (default: 3, or 60 for --answer)")
    args = parser.parse_args(arguments)
    try:
        if args.answer:
            sys.stdout.write(f"{ask(args.url, args.timeout or 60.0, _key(args.key_file))}\n")
        else:
            probe(args.url, args.timeout or 3.0)
    except Failed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
