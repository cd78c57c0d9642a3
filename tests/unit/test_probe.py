from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service import probe

GOOD = {"choices": [{"message": {"content": "Yes."}}], "revision": {"status": "draft_passed"}}


class Server(ThreadingHTTPServer):
    """Answers with `status` and `body`, and keeps what it was asked."""

    daemon_threads = False  # the end of a test waits for its handlers
    status = 200
    body = b"{}"
    asked: tuple[str, str, str | None, bytes] | None = None
    held: threading.Event | None = None  # no answer before it is set

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what some tests are about; the standard one would write to stderr, which others read."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked = (self.command, self.path, self.headers.get("Authorization"), sent)
        if self.server.held:
            self.server.held.wait(30)
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        if made.held:
            made.held.set()
        made.shutdown()
        thread.join()


def test_200_is_well_and_says_nothing(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main([f"{server.url}/healthz?a=b"]) == 0
    assert server.asked is not None
    assert server.asked[:2] == ("GET", "/healthz?a=b")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("status", [204, 302, 404, 503])
def test_any_other_status_is_one_line(server: Server, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    server.status, server.body = status, b""
    assert probe.main([server.url]) == 1
    assert capsys.readouterr() == ("", f"{server.url} answered {status}\n")


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        assert probe.main([url]) == 1
    assert capsys.readouterr().err == f"{url} cannot be asked: Connection refused\n"


def test_silence_ends_in_time(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.held = threading.Event()
    assert probe.main([server.url, "--timeout", "0.2"]) == 1
    assert capsys.readouterr().err == f"{server.url} gave no answer in 0.2 s\n"


def test_what_is_no_http_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def garbage() -> None:
            with listening.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"garbage\r\n\r\n")

        thread = threading.Thread(target=garbage)
        thread.start()
        assert probe.main([f"http://127.0.0.1:{port}/"]) == 1
        thread.join()
    assert capsys.readouterr().err == f"http://127.0.0.1:{port}/ cannot be asked: BadStatusLine\n"


@pytest.mark.parametrize("url", ["", "gateway:8080", "https://gateway", "http://", "http://h:port/", "http://[::1"])
def test_urls_that_are_none(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main([url]) == 1
    assert capsys.readouterr().err == f"{url} is not an http URL\n"


def test_an_answer_is_asked_for_with_the_key(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.body = json.dumps(GOOD).encode()
    (tmp_path / "key").write_text("secret\n")
    assert probe.main([f"{server.url}/", "--answer", "--key-file", str(tmp_path / "key")]) == 0
    assert server.asked is not None
    method, path, key, body = server.asked
    assert (method, path, key) == ("POST", "/v1/chat/completions", "Bearer secret")
    assert json.loads(body)["messages"] == [{"role": "user", "content": probe.QUESTION}]
    assert capsys.readouterr() == ("draft_passed\n", "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        json.dumps({**GOOD, "choices": []}).encode(),
        json.dumps({**GOOD, "choices": [{"message": {"content": " "}}]}).encode(),
        json.dumps({**GOOD, "revision": {}}).encode(),
        json.dumps({**GOOD, "revision": {"status": None}}).encode(),
    ],
)
def test_an_answer_without_text_or_outcome_is_none(
    server: Server, body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    server.body = body
    assert probe.main([server.url, "--answer"]) == 1
    assert "answered without" in capsys.readouterr().err


def test_a_refusal_is_told_by_its_code_and_never_by_its_text(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status, server.body = 401, b'{"error": {"code": "invalid_api_key", "message": "private"}}'
    assert probe.main([server.url, "--answer"]) == 1
    assert capsys.readouterr().err == f"{server.url}/v1/chat/completions answered 401 invalid_api_key\n"


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"\xff", "schlüssel".encode()])
def test_a_key_file_without_a_key(
    server: Server, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    assert probe.main([server.url, "--answer", "--key-file", str(file)]) == 1
    assert str(file) in capsys.readouterr().err
    assert server.asked is None


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "x"])
def test_a_timeout_is_a_number_of_seconds(seconds: str) -> None:
    with pytest.raises(SystemExit):
        probe.main(["http://127.0.0.1", "--timeout", seconds])


def test_it_imports_the_standard_library_alone() -> None:
    code = "import sys, service.probe; print(*{n.split('.')[0] for n in sys.modules} - set(sys.stdlib_module_names))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert set(done.stdout.split()) - {"__main__"} == {"service"}
