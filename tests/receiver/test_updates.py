"""What the receiver serves of a published repository, asked as no proper vehicle would ask."""

from __future__ import annotations

import asyncio
import http.client
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.disk import RealDisk, replace_file
from ecu.errors import UsageFault
from ota.layout import UPDATES_PATH
from receiver.service import Receiver
from receiver.updates import part_of
from tests.receiver.fleet import VEHICLE, a_receiver, a_vehicle

Ask = Callable[..., tuple[int, dict[str, str], bytes]]
FILE = f"files/{'a' * 64}"
NOTHING: Mapping[str, str] = MappingProxyType({})
CONTENT = os.urandom(300_000)


@asynccontextmanager
async def a_shelf(folder: Path) -> AsyncIterator[tuple[Receiver, Ask, Path]]:
    """A receiver with something on its shelf, whoever asks it as its vehicle, and the shelf's folder."""
    repo = folder / "repo"
    for name, data in {
        f"image/{FILE}": CONTENT,
        "image/metadata/1.root.json": b"{}",
        "image/metadata/timestamp.json": b"t" * 1000,
        "director/metadata/1.root.json": b"{}",
        f"director/vehicles/{VEHICLE}/timestamp.json": b"mine",
        "director/vehicles/veh-002/timestamp.json": b"theirs",
        "drafts/model.json": b"draft",
        "secret.json": b"secret",
    }.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_bytes(data)
    async with a_receiver(folder, updates=str(repo)) as receiver:
        vehicle = await a_vehicle(receiver, folder)
        port, context = receiver.address.https_port, vehicle.context()

        def ask(
            path: str, headers: Mapping[str, str] = NOTHING, method: str = "GET"
        ) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPSConnection(vehicle.paired.host, port, timeout=10, context=context)
            try:
                connection.request(method, f"{UPDATES_PATH}/{path}", headers=dict(headers))
                response = connection.getresponse()
                return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            finally:
                connection.close()

        yield receiver, ask, repo


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "secret.json", "../secret.json", "files/../../secret.json", "..%2fsecret.json", f"{FILE}%00",
        "image/../../secret.json", "image/metadata/1.root.json", "director/vehicles/veh-002/timestamp.json",
        "director/../vehicles/veh-002/timestamp.json", "director/%2e%2e/timestamp.json", "drafts/model.json",
        "files/" + "A" * 64, f"{FILE}/", f"{FILE}%2f..", "targets/model/" + "a" * 64 + "...json",
        "image/1.root.json.tmp", "image/1.root.jsonx", "director", "files", "%ff%fe", "image/2.root.json",
        "targets/model/" + "a" * 64 + "./../../../../secret.json",
    ],
)  # fmt: skip
async def test_nothing_but_what_is_published_is_served(tmp_path: Path, path: str) -> None:
    async with a_shelf(tmp_path) as (receiver, ask, _):
        status, _, body = await asyncio.to_thread(ask, path)
        assert status == 404
        assert b"secret" not in body
        assert receiver.counters.updates_served == 0


async def test_each_is_served_its_own_and_what_is_everybodys(tmp_path: Path) -> None:
    async with a_shelf(tmp_path) as (receiver, ask, _):
        for path, content in (("director/timestamp.json", b"mine"), ("image/1.root.json", b"{}"), (FILE, CONTENT)):
            status, headers, body = await asyncio.to_thread(ask, path)
            assert (status, body) == (200, content)
            assert headers["content-length"] == str(len(content))
        assert receiver.counters.updates_served == 3
        status, headers, body = await asyncio.to_thread(ask, FILE, {}, "HEAD")
        assert (status, headers["content-length"], body) == (200, "300000", b"")
        assert (await asyncio.to_thread(ask, FILE, {}, "DELETE"))[0] == 405


async def test_a_part_is_told_with_its_place_and_what_is_beyond_the_end_is_none(tmp_path: Path) -> None:
    async with a_shelf(tmp_path) as (_, ask, _):
        for asked, first, end in (("0-9", 0, 10), ("299999-", 299_999, 300_000), ("65530-200000", 65_530, 200_001)):
            status, headers, body = await asyncio.to_thread(ask, FILE, {"range": f"bytes={asked}"})
            assert (status, body) == (206, CONTENT[first:end])
            assert headers["content-range"] == f"bytes {first}-{end - 1}/300000"
        assert (await asyncio.to_thread(ask, FILE, {"range": "bytes=300000-300001"}))[0] == 416
        for odd in ("bytes=5-1", "bytes=-5", "bytes=0-1,5-9", "pages=0-1", "bytes=" + "9" * 5000 + "-", "x" * 9000):
            status, _, body = await asyncio.to_thread(ask, FILE, {"range": odd})
            assert (status, body) == (200, CONTENT)


@given(size=st.integers(0, 50), first=st.integers(0, 60), last=st.none() | st.integers(0, 60))
def test_a_part_lies_within_the_file_and_begins_where_it_was_asked_to(size: int, first: int, last: int | None) -> None:
    part = part_of(f"bytes={first}-{'' if last is None else last}", size)
    if last is not None and last < first:
        assert part == (0, size, False)
    elif first >= size:
        assert part is None
    else:
        assert part == (first, size if last is None else min(size, last + 1), True)


async def test_a_timestamp_that_is_published_anew_meanwhile_is_served_whole(tmp_path: Path) -> None:
    """Half of one would be an attack for the vehicle that asked."""
    async with a_shelf(tmp_path) as (_, ask, repo):
        disk, done, path = RealDisk(repo), threading.Event(), "image/metadata/timestamp.json"

        def publish() -> None:
            number = 0
            while not done.is_set():
                number += 1
                replace_file(disk, path, b"t" * (1000 + number % 7))

        publishing = asyncio.create_task(asyncio.to_thread(publish))
        try:
            for _ in range(150):
                status, headers, body = await asyncio.to_thread(ask, "image/timestamp.json", {"range": "bytes=0-99999"})
                assert status == 206
                assert len(body) == int(headers["content-range"].rpartition("/")[2])
        finally:
            done.set()
            await publishing


async def test_what_the_receiver_cant_read_is_said_and_is_no_missing_file(tmp_path: Path) -> None:
    """404 would mean that nothing is published."""
    async with a_shelf(tmp_path) as (receiver, ask, repo):
        path = repo / "image/metadata/timestamp.json"
        path.unlink()
        # Nobody can open a link to itself, root included.
        path.symlink_to(path)
        status, _, body = await asyncio.to_thread(ask, "image/timestamp.json")
        assert status == 503
        assert b"can't read" in body
        assert receiver.counters.updates_unreadable == 1


async def test_an_operator_is_told_of_roots_that_are_damaged(tmp_path: Path) -> None:
    async with a_shelf(tmp_path) as (receiver, _, repo):
        (repo / "image/metadata/1.root.json").write_bytes(b"\xff")
        with pytest.raises(UsageFault, match="its roots are damaged"):
            await receiver.operator.enrol("veh-009")
