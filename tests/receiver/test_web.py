"""HTTP connections are bounded in time and number, however slowly or oddly somebody speaks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.web import Site, answer, body_of


async def echo(request: Request) -> Response:
    return answer({"bytes": len(await body_of(request, 100))})


def a_site(connection_s: float) -> Site:
    return Site(Starlette(routes=[Route("/", echo, methods=["POST"])]), connection_s)


async def test_a_request_that_never_ends_is_ended(tmp_path: Path) -> None:
    site = a_site(connection_s=0.2)
    server = await asyncio.get_running_loop().create_unix_server(site.protocol, tmp_path / "socket")
    async with server:
        for beginning in (b"", b"POST / HT", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\nslow"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
            writer.write(beginning)
            async with asyncio.timeout(10):
                assert await reader.read() == b""
            writer.close()


async def test_what_is_not_http_is_answered_and_closed(tmp_path: Path) -> None:
    site = a_site(connection_s=5)
    server = await asyncio.get_running_loop().create_unix_server(site.protocol, tmp_path / "socket")
    async with server:
        reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        writer.write(b"\x16\x03\x01\x00\xff" * 10 + b"\r\n\r\n")
        async with asyncio.timeout(4):
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
