"""The local API over its real socket: status, events, and who may not disturb the agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.api import EVENTS_KEPT, MAX_SUBSCRIBERS, LocalApi
from agent.apiclient import AgentNotRunning, NotDone, ask_purge, ask_status
from ecu.errors import EnvironmentFault, OutriderError, UsageFault


@contextlib.asynccontextmanager
async def an_api(path: Path) -> AsyncIterator[LocalApi]:
    api = LocalApi(path, lambda: {"answer": 42})
    await api.start()
    try:
        yield api
    finally:
        await api.stop()


async def exchange(path: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request)
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await reader.read()
    await hang_up(writer)
    return answer


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_status_is_what_the_agent_says_now(tmp_path: Path) -> None:
    async with an_api(tmp_path / "a.sock"):
        assert await asyncio.to_thread(ask_status, tmp_path / "a.sock") == {"answer": 42}


def test_nobody_there_is_told_with_the_command_that_helps(tmp_path: Path) -> None:
    with pytest.raises(AgentNotRunning, match="outrider agent run"):
        ask_status(tmp_path / "a.sock")


async def test_the_socket_is_the_owners_alone_and_goes_with_the_agent(tmp_path: Path) -> None:
    async with an_api(tmp_path / "a.sock"):
        assert (tmp_path / "a.sock").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "a.sock").exists()


async def test_a_second_agent_on_the_same_state_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async with an_api(tmp_path / "a.sock"):
        with pytest.raises(EnvironmentFault, match="Another agent is running"):
            await LocalApi(tmp_path / "a.sock", dict).start()
        assert await asyncio.to_thread(ask_status, tmp_path / "a.sock") == {"answer": 42}


async def test_a_dead_agents_socket_is_taken_over(tmp_path: Path) -> None:
    server = await asyncio.start_unix_server(lambda reader, writer: None, tmp_path / "a.sock")
    server.close()
    await server.wait_closed()
    (tmp_path / "a.sock").touch()
    async with an_api(tmp_path / "a.sock"):
        assert await asyncio.to_thread(ask_status, tmp_path / "a.sock") == {"answer": 42}


async def test_a_path_too_long_for_a_socket_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="107"):
        await LocalApi(tmp_path / ("x" * 120), dict).start()


@pytest.mark.parametrize("request_line", [b"GET /nothing HTTP/1.1", b"POST /status HTTP/1.1", b"\xff\xfe\x00", b"GET"])
async def test_what_is_not_known_is_answered_and_harms_nobody(tmp_path: Path, request_line: bytes) -> None:
    async with an_api(tmp_path / "a.sock"):
        assert b"404" in await exchange(tmp_path / "a.sock", request_line + b"\r\n\r\n")
        assert await asyncio.to_thread(ask_status, tmp_path / "a.sock") == {"answer": 42}


async def test_an_endless_request_is_cut_off(tmp_path: Path) -> None:
    async with an_api(tmp_path / "a.sock"):
        assert await exchange(tmp_path / "a.sock", b"GET /" + b"a" * 100_000) == b""


async def test_a_slow_reader_loses_old_events_and_never_delays_the_agent(tmp_path: Path) -> None:
    async with an_api(tmp_path / "a.sock") as api:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "a.sock")
        writer.write(b"GET /events HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        total = EVENTS_KEPT * 4
        for number in range(total):
            api.publish("tick", number)
        heard = [int(await _data(reader)) for _ in range(EVENTS_KEPT)]
        await hang_up(writer)
    assert api.events_dropped == total - EVENTS_KEPT
    assert heard == list(range(total - EVENTS_KEPT, total))


async def _data(reader: asyncio.StreamReader) -> bytes:
    while not (line := await reader.readline()).startswith(b"data: "):
        assert line
    return line[6:]


async def test_a_subscriber_that_hangs_up_makes_room_for_another(tmp_path: Path) -> None:
    async with an_api(tmp_path / "a.sock"):
        for _ in range(3 * MAX_SUBSCRIBERS):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "a.sock")
            writer.write(b"GET /events HTTP/1.1\r\n\r\n")
            assert b"200" in await reader.readuntil(b"\r\n\r\n")
            await hang_up(writer)


async def test_subscribers_beyond_the_limit_are_told_so(tmp_path: Path) -> None:
    async with an_api(tmp_path / "a.sock"):
        writers = []
        for _ in range(MAX_SUBSCRIBERS):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "a.sock")
            writer.write(b"GET /events HTTP/1.1\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writers.append(writer)
        assert b"503" in await exchange(tmp_path / "a.sock", b"GET /events HTTP/1.1\r\n\r\n")
        for writer in writers:
            await hang_up(writer)


@contextlib.asynccontextmanager
async def a_purging_api(path: Path, asked: list[list[str]]) -> AsyncIterator[None]:
    async def purge(names: list[str]) -> object:
        if names == ["nothing"]:
            raise UsageFault("'nothing' is no purpose.")
        if names == ["all"]:
            raise OutriderError("Not everything could be erased.")
        asked.append(names)
        return {"records": 3}

    api = LocalApi(path, dict, purge)
    await api.start()
    try:
        yield
    finally:
        await api.stop()


async def test_a_purge_is_asked_for_with_its_purposes_and_answered_when_it_is_done(tmp_path: Path) -> None:
    asked: list[list[str]] = []
    async with a_purging_api(tmp_path / "a.sock", asked):
        assert await asyncio.to_thread(ask_purge, tmp_path / "a.sock", ["safety", "driving"]) == {"records": 3}
        for names, words in ((["nothing"], "is no purpose"), (["all"], "could be erased")):
            with pytest.raises(NotDone, match=words):
                await asyncio.to_thread(ask_purge, tmp_path / "a.sock", names)
    assert asked == [["driving", "safety"]]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"purposes": "all"}', b'{"purposes": [], "x": 1}', b"\xff"])
async def test_what_is_no_purge_is_refused_and_erases_nothing(tmp_path: Path, body: bytes) -> None:
    asked: list[list[str]] = []
    async with a_purging_api(tmp_path / "a.sock", asked):
        head = b"POST /purge HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        assert b"400 Bad Request" in await exchange(tmp_path / "a.sock", head + body)
        assert b"400 Bad Request" in await exchange(tmp_path / "a.sock", b"POST /purge HTTP/1.1\r\n\r\n")
    assert asked == []


async def test_an_agent_that_purges_nothing_knows_no_such_request(tmp_path: Path) -> None:
    async with an_api(tmp_path / "a.sock"):
        assert b"404" in await exchange(tmp_path / "a.sock", b"POST /purge HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
