"""The misbehaving model server does what its behaviours say, seen through a plain client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest

from tests.faulty_upstream import (
    FaultyUpstream,
    answers,
    chunk,
    completion,
    cuts,
    events,
    hangs,
    refusing,
    resets,
    says,
    sends,
    streams,
)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_requests_are_answered_in_the_order_of_the_script_and_recorded(client: aiohttp.ClientSession) -> None:
    async with FaultyUpstream(
        answers(completion("a"), 429, {"Retry-After": "7"}), sends(b"\xff", status=500)
    ) as upstream:
        async with client.post(upstream.url + "/v1/x", json={"n": 1}, headers={"X-Mark": "here"}) as first:
            assert (first.status, first.headers["Retry-After"]) == (429, "7")
            assert await first.json() == completion("a")
        async with client.get(upstream.url + "/y") as second:
            assert (second.status, await second.read()) == (500, b"\xff")
        async with client.get(upstream.url + "/z") as third:
            assert third.status == 418
    assert [(a.method, a.path, a.body) for a in upstream.asked] == [
        ("POST", "/v1/x", {"n": 1}),
        ("GET", "/y", None),
        ("GET", "/z", None),
    ]
    assert upstream.asked[0].headers["x-mark"] == "here"


async def test_models_are_listed_without_a_script(client: aiohttp.ClientSession) -> None:
    async with FaultyUpstream(models=[{"id": "other"}]) as upstream:
        upstream.listing.append(answers({}, 503))
        async with client.get(upstream.url + "/v1/models") as first:
            assert first.status == 503
        async with client.get(upstream.url + "/v1/models") as second:
            assert (await second.json())["data"] == [{"id": "other"}]
    assert upstream.bodies == []


async def test_half_a_body_arrives_before_the_cut(client: aiohttp.ClientSession) -> None:
    async with FaultyUpstream(cuts(b'{"half": ')) as upstream, client.get(upstream.url) as response:
        assert await response.content.readexactly(9) == b'{"half": '
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


@pytest.mark.parametrize("then", ["end", "cut"])
async def test_pieces_arrive_one_by_one(client: aiohttp.ClientSession, then: str) -> None:
    pieces = [b"data: \xe2\x82", b"\xac\r", b"\n\r", b"\n"]
    seen: list[bytes] = []
    async with (
        FaultyUpstream(streams(*pieces, then="cut" if then == "cut" else "end")) as upstream,
        client.get(upstream.url) as response,
    ):
        broken = False
        try:
            async for piece in response.content.iter_any():
                seen.append(piece)  # noqa: PERF401 - what came before the cut counts
        except aiohttp.ClientPayloadError:
            broken = True
    assert (seen, broken) == (pieces, then == "cut")


async def test_it_notices_that_the_client_went_away(client: aiohttp.ClientSession) -> None:
    async with FaultyUpstream(hangs(), streams(b"data: 1\n\n", then="hangs")) as upstream:
        asking = asyncio.create_task(client.get(upstream.url).__aenter__())
        await upstream.arrived.wait()
        assert not upstream.left.is_set()
        asking.cancel()
        await upstream.left.wait()
        upstream.left.clear()
        async with client.get(upstream.url) as response:
            assert await response.content.readuntil(b"\n\n") == b"data: 1\n\n"
            assert not upstream.left.is_set()
        await upstream.left.wait()


async def test_connections_break_before_an_answer(client: aiohttp.ClientSession) -> None:
    async with FaultyUpstream(says(b""), resets(), says(b"no HTTP\r\n\r\n")) as upstream:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.post(upstream.url)
        with pytest.raises(aiohttp.ClientOSError, match="reset"):
            await client.post(upstream.url)
        with pytest.raises(aiohttp.ClientResponseError):
            await client.post(upstream.url)
    with refusing() as url, pytest.raises(aiohttp.ClientConnectorError):
        await client.post(url)


def test_a_stream_of_a_server_that_behaves() -> None:
    lines = events("a", "b", end="\r\n").split(b"\r\n\r\n")
    assert [orjson.loads(line[6:]) for line in lines[:3]] == [chunk("a"), chunk("b"), chunk(finish="stop")]
    assert lines[-2:] == [b"data: [DONE]", b""]
