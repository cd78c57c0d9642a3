from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import httptools
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench import cores
from loadtests.bench.closed_loop import COUNTER, Client, Load, Measured, Requests, Tally, measure, run
from scripts.common import Failure


class Wire:
    """A transport that keeps what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.aborted = True


def load(body: str = "{}", url: str = "http://127.0.0.1:1/v1/chat/completions", **extra: Any) -> Load:
    return Load(url, body, connections=1, seconds=0.1, warmup_s=0.0, **extra)


def opened(tally: Tally) -> tuple[Client, Wire, asyncio.Event]:
    wire, lost = Wire(), asyncio.Event()
    client = Client(Requests(load()), tally, lost)
    client.connection_made(cast("asyncio.Transport", wire))
    return client, wire, lost


def with_length(status: int, body: bytes, extra: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), extra, body)


def chunked(status: int, body: bytes) -> bytes:
    pieces = [body[i : i + 3] for i in range(0, len(body), 3)]
    sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 %d X\r\ntransfer-encoding: Chunked\r\n\r\n%s0\r\n\r\n" % (status, sent)


Framing = Callable[[int, bytes], bytes]
ANSWERS = st.lists(
    st.tuples(st.sampled_from((200, 200, 429, 503)), st.binary(max_size=40), st.sampled_from((with_length, chunked))),
    min_size=1,
    max_size=5,
)


@given(ANSWERS, st.data())
def test_every_answer_is_counted_once_however_it_is_framed_and_cut(
    answers: list[tuple[int, bytes, Framing]], data: st.DataObject
) -> None:
    tally = Tally()
    tally.measuring = True
    client, wire, _ = opened(tally)
    for number, (status, body, framing) in enumerate(answers, start=1):
        wire_bytes = framing(status, body)
        cuts = data.draw(st.lists(st.integers(1, len(wire_bytes) - 1), max_size=4, unique=True).map(sorted))
        for start, end in zip([0, *cuts], [*cuts, len(wire_bytes)], strict=True):
            assert len(wire.written) == number  # the next request waits for the last byte of the answer
            client.data_received(wire_bytes[start:end])
    assert len(wire.written) == len(answers) + 1
    good = sum(status == 200 and bool(body) for status, body, _ in answers)
    assert (len(tally.latencies_s), tally.errors) == (good, len(answers) - good)
    assert tally.answered == len(answers)
    assert not wire.aborted


def test_a_connection_that_the_server_closes_is_given_up_without_an_error() -> None:
    tally = Tally()
    tally.measuring = True
    client, wire, lost = opened(tally)
    client.data_received(with_length(200, b"x", b"Connection: close\r\n"))
    assert wire.aborted
    assert len(wire.written) == 1
    client.connection_lost(None)
    assert lost.is_set()
    assert (len(tally.latencies_s), tally.errors) == (1, 0)


@pytest.mark.parametrize(
    "received", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal", b"no HTTP at all\r\n\r\n"]
)
def test_an_answer_that_breaks_off_or_makes_no_sense_is_one_error(received: bytes) -> None:
    tally = Tally()
    tally.measuring = True
    client, _, lost = opened(tally)
    if received:
        client.data_received(received)
    client.connection_lost(ConnectionResetError())
    assert (len(tally.latencies_s), tally.errors) == (0, 1)
    assert lost.is_set()


def test_the_warm_up_counts_as_answered_and_not_as_measured() -> None:
    tally = Tally()
    tally.good(9.0)
    tally.bad()
    tally.measuring = True
    for milliseconds in range(1, 101):
        tally.good(milliseconds / 1000)
    told = tally.measured(2.0)
    expected = np.percentile(np.arange(1, 101), (50, 95, 99))
    assert [told.p50_ms, told.p95_ms, told.p99_ms] == pytest.approx(expected.tolist(), abs=1e-3)
    assert (told.requests, told.errors, told.answered, told.per_second) == (100, 0, 102, 50.0)


class Parsed:
    def __init__(self, wire: bytes) -> None:
        self.body, self.headers, self.whole, self.url = b"", dict[str, str](), False, b""
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(wire)
        self.method = parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = True


@given(st.text(), st.text(), st.integers(0, 10**8 - 1), st.booleans())
def test_a_request_is_whole_and_its_number_changes_nothing_else(
    before: str, after: str, first: int, counting: bool
) -> None:
    text = f"{before}{COUNTER if counting else ''}{after}".replace("\\", "/")
    body = json.dumps({"content": text})
    requests = Requests(load(body, headers={"X-Key": "k"}), first)
    one, two = Parsed(requests.next()), Parsed(requests.next())
    for parsed in (one, two):
        assert parsed.whole
        assert (parsed.method, parsed.url) == (b"POST", b"/v1/chat/completions")
        assert parsed.headers["host"] == "127.0.0.1:1"
        assert parsed.headers["x-key"] == "k"
    if COUNTER not in text:
        assert one.body == two.body == body.encode()
        return
    number = (first + 1) % 10**8
    assert json.loads(one.body)["content"] == text.replace(COUNTER, f"{number:08d}", 1)
    assert json.loads(two.body)["content"] == text.replace(COUNTER, f"{(number + 1) % 10**8:08d}", 1)


def test_only_plain_http_is_asked() -> None:
    with pytest.raises(ValueError, match="not an http URL"):
        Requests(load(url="https://127.0.0.1/v1"))


@contextmanager
def server(status: int, body: bytes, seen: list[bytes] | None = None, keep: bool = True) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if keep else "HTTP/1.0"

        def do_POST(self) -> None:
            received = self.rfile.read(int(self.headers["Content-Length"]))
            if seen is not None:
                seen.append(received)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_port}/v1/chat/completions"
        finally:
            httpd.shutdown()
            thread.join()


@pytest.mark.parametrize("keep", [True, False])
def test_a_child_process_measures_a_server(keep: bool) -> None:
    seen: list[bytes] = []
    with server(200, b'{"ok": true}', seen, keep) as url:
        told = run(url, b'{"n": "{counter}"}', connections=3, seconds=0.3, warmup_s=0.05, core=cores_here()[0])
    assert isinstance(told, Measured)
    assert told.errors == 0
    assert 0 < told.requests <= told.answered == len(seen)  # none was left without an answer
    assert len(set(seen)) == len(seen)  # no two requests are the same
    assert 0 < told.p50_ms <= told.p95_ms <= told.p99_ms


def test_a_server_without_a_good_answer_is_a_failure() -> None:
    with server(503, b"no") as url, pytest.raises(Failure, match=r"gave no good answer in 0\.2 s \([1-9]\d* errors\)"):
        run(url, b"{}", connections=1, seconds=0.2, warmup_s=0.0)


def test_a_generator_that_fails_says_why() -> None:
    with pytest.raises(Failure, match="not an http URL"):
        run("ftp://127.0.0.1/", b"{}", connections=1, seconds=0.1, warmup_s=0.0)


async def test_what_goes_wrong_in_a_callback_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    def broken(self: Client, transport: asyncio.BaseTransport) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Client, "connection_made", broken)
    async with await asyncio.start_server(hold, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            await measure(load(url=f"http://127.0.0.1:{port}/"))


# --- cores --------------------------------------------------------------------------------------------------------


def cores_here() -> Sequence[int]:
    return sorted(os.sched_getaffinity(0))


def test_a_child_runs_where_it_is_told_and_its_parent_where_it_was() -> None:
    before = cores_here()
    with cores.only_on(before[-1]):
        told = subprocess.check_output([sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"])
    assert json.loads(told) == [before[-1]]
    assert cores_here() == before


@given(st.text(), st.integers(0, 2**22), st.integers(0, 10**9), st.integers(0, 10**9))
def test_the_fields_of_stat_are_found_whatever_the_process_is_called(
    name: str, parent: int, user: int, system: int
) -> None:
    stat = f"7 ({name}) S {parent} 1 1 0 -1 4194560 1 2 3 4 {user} {system} 11 12 20 0 1 0"
    assert cores.parent_and_ticks(stat) == (parent, user + system)


def test_cpu_time_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    for pid, parent, ticks in ((10, 1, 100), (11, 10, 20), (12, 11, 3), (13, 1, 5000)):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) S {parent} 0 0 0 0 0 0 0 0 0 {ticks} {ticks} 0 0")
    (tmp_path / "14").mkdir()  # has just ended
    per_second = os.sysconf("SC_CLK_TCK")
    assert cores.cpu_seconds(10, tmp_path) == 246 / per_second
    assert cores.cpu_seconds(99, tmp_path) == 0.0


def test_a_core_is_busy_for_anyone_but_not_while_it_waits(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(
        "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 100 20 3 5000 7000 4 5 6 0 0\ncpu11 1 1 1 1 1 1 1 1 0 0\n"
    )
    assert cores.busy_seconds(1, tmp_path) == 138 / os.sysconf("SC_CLK_TCK")


def test_one_core_is_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    with pytest.raises(Failure, match="needs two cores"):
        cores.two_cores()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 3, 4})
    assert cores.two_cores() == (3, 4)
