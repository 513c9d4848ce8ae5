"""The objects' desk as a hostile or clumsy vehicle meets it; the honest one is in tests/agent/test_objectlink.py."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from ecu.clock import SECOND_NS
from receiver.client import OperatorClient
from receiver.objects import EXPIRY_LOOK_NS, Unfit, checked_range
from receiver.service import Receiver
from telemetry.links.tls import pinned_context
from telemetry.objects.wire import MAX_SLICE_BYTES, ByteRange, Have
from tests.agent.objects import link_of, named, send_all
from tests.receiver.fleet import VEHICLE, Vehicle, a_receiver, a_vehicle, todays_clock, until
from tests.receiver.test_api import ask
from tests.receiver.test_service import a_child
from tests.verbs import run_verb

PICTURE = os.urandom(5000)
NAME = named(PICTURE)
PATH = f"/v1/objects/{NAME}"
WHOLE = {"content-range": "bytes 0-4999/5000"}


async def put(
    receiver: Receiver, vehicle: Vehicle, headers: Mapping[str, str], body: bytes = PICTURE, path: str = PATH
) -> tuple[int, Any, dict[str, str]]:
    return await asyncio.to_thread(ask, receiver, "PUT", path, body, vehicle.context(), headers)


NONSENSE: list[tuple[dict[str, str], bytes, int]] = [
    ({}, PICTURE, 400),
    ({"content-range": ""}, PICTURE, 400),
    ({"content-range": "bytes */5000"}, PICTURE, 400),
    ({"content-range": "bytes 4999-0/5000"}, PICTURE, 400),
    ({"content-range": "bytes 0-5000/5000"}, PICTURE, 400),
    ({"content-range": "bytes -5-4999/5000"}, PICTURE, 400),
    ({"content-range": "bytes 0-4999/-5000"}, PICTURE, 400),
    ({"content-range": "bytes 0-4999/five thousand"}, PICTURE, 400),
    ({"content-range": "bytes 0-4999/5000,bytes 0-1/2"}, PICTURE, 400),
    ({"content-range": f"bytes 0-4999/{10**30}"}, PICTURE, 400),
    ({"content-range": "bytes 0-4998/5000"}, PICTURE, 400),
    ({"content-range": "bytes 0-4999/5000"}, PICTURE[:-1], 400),
    ({"content-range": "bytes 0-4999/5000"}, PICTURE + b"x", 400),
    ({"content-range": "bytes 0-4999/5000"}, b"", 400),
    ({"content-range": f"bytes 0-4999/{10**12}"}, PICTURE, 413),
    ({"content-range": f"bytes 0-{MAX_SLICE_BYTES}/{MAX_SLICE_BYTES + 1}"}, bytes(MAX_SLICE_BYTES + 1), 413),
]


async def test_a_request_that_makes_no_sense_is_said_to_and_leaves_nothing(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, refusals_at_once=1000) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        for headers, body, status in NONSENSE:
            told, answer, _ = await put(receiver, vehicle, headers, body)
            assert (told, bool(answer["error"])) == (status, True), headers
        for path in (
            "/v1/objects/",
            "/v1/objects/..",
            f"/v1/objects/{'A' * 64}",
            "/v1/objects/%2e%2e%2fx",
            f"{PATH}/x",
        ):
            told, _, _ = await put(receiver, vehicle, WHOLE, path=path)
            assert told in (400, 404), path
        for method in ("GET", "POST", "DELETE", "PATCH"):
            told, _, _ = await asyncio.to_thread(ask, receiver, method, PATH, None, vehicle.context())
            assert told == 405
        assert receiver.counters.objects_refused >= len(NONSENSE)
        assert await receiver.operator.objects() == []
        assert [path for path in (tmp_path / "receiver" / "objects").rglob("*") if path.is_file()] == []
        assert (await put(receiver, vehicle, WHOLE))[0] == 200, "and the right one is taken"


RAW: list[bytes] = [
    b"content-length: 99999999999999\r\ncontent-range: bytes 0-4999/5000\r\n\r\n",
    b"content-length: -1\r\ncontent-range: bytes 0-4999/5000\r\n\r\n",
    b"content-length: many\r\ncontent-range: bytes 0-4999/5000\r\n\r\n",
    b"content-length: 5000\r\ncontent-length: 5\r\ncontent-range: bytes 0-4999/5000\r\n\r\n",
    b"transfer-encoding: chunked\r\ncontent-range: bytes 0-4999/5000\r\n\r\nffffffffffffffff\r\n" + b"y" * 6000,
    b"transfer-encoding: chunked\r\ncontent-range: bytes 0-9/10\r\n\r\n14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n",
    b"content-length: 5\r\ncontent-range: bytes 0-4/\xff\r\n\r\nabcde",
    b"content-range: bytes 0-4999/5000\r\n\r\n",
]


async def test_lengths_that_lie_are_answered_or_cut_and_take_no_memory(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, refusals_at_once=1000) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        for tail in RAW:
            status = await _status_of(vehicle, f"PUT {PATH} HTTP/1.1\r\nhost: x\r\n".encode() + tail)
            assert 400 <= status < 500, tail
        assert (await put(receiver, vehicle, WHOLE))[0] == 200


async def test_whatever_is_asked_the_answer_is_never_that_the_receiver_broke(tmp_path: Path) -> None:
    rng = Random(7)
    ranges = ["bytes {}-{}/{}", "bytes={}-{}/{}", "{}-{}/{}", "bytes {}-{}", "bytes\t{}-{}/{}"]
    numbers = ["0", "1", "4999", "5000", "-1", "", "9" * 18, "1e9", "x", "\u00b2", "0x10", " 1"]
    async with a_receiver(tmp_path, refusals_at_once=100_000) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        line = http.client.HTTPSConnection(
            "localhost", receiver.address.https_port, timeout=10, context=vehicle.context()
        )

        def rage() -> dict[int, int]:
            seen: dict[int, int] = {}
            for _ in range(400):
                text = rng.choice(ranges).format(*(rng.choice(numbers) for _ in range(3)))
                name = rng.choice([NAME, NAME.upper(), NAME[:-1], "x", NAME + "0", "%00"])
                body = rng.choice([b"", b"x", PICTURE, PICTURE[:1]])
                line.request(rng.choice(["PUT", "HEAD"]), f"/v1/objects/{name}", body, {"content-range": text})
                response = line.getresponse()
                response.read()
                seen[response.status] = seen.get(response.status, 0) + 1
            return seen

        seen = await asyncio.to_thread(rage)
        line.close()
        assert set(seen) <= {200, 202, 400, 404, 409, 413, 422}
        assert seen[400] > 100
        other = await a_vehicle(receiver, tmp_path, name="veh-002")
        assert (await put(receiver, other, WHOLE))[0] == 200


async def test_who_is_refused_too_often_waits_and_others_dont(tmp_path: Path) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock, refusals_at_once=3, refusals_per_minute=6) as receiver:
        vehicle, other = [await a_vehicle(receiver, tmp_path, name=name) for name in (VEHICLE, "veh-002")]
        statuses = [(await put(receiver, vehicle, {}))[0] for _ in range(4)]
        assert statuses == [400, 400, 400, 429]
        status, _, headers = await put(receiver, vehicle, WHOLE)
        assert (status, headers["retry-after"]) == (429, "11")
        assert receiver.counters.objects_throttled == 2
        assert (await put(receiver, other, WHOLE))[0] == 200
        clock.advance(clock.boot_ns() + 11 * SECOND_NS)
        assert (await put(receiver, vehicle, WHOLE))[0] == 200


async def test_without_a_certificate_or_with_anothers_there_is_nothing_to_see(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        assert (await put(receiver, vehicle, WHOLE))[0] == 200
        nobody = pinned_context(receiver.authority.pem)
        for method, body in (("HEAD", None), ("PUT", PICTURE)):
            status, _, headers = await asyncio.to_thread(ask, receiver, method, PATH, body, nobody, WHOLE)
            assert status == 403
            assert "x-outrider-have" not in headers
        other = await a_vehicle(receiver, tmp_path, name="veh-002")
        status, _, headers = await asyncio.to_thread(ask, receiver, "HEAD", PATH, None, other.context())
        assert (status, headers["x-outrider-state"], headers["x-outrider-have"]) == (200, "partial", "0")
    async with a_receiver(tmp_path / "theirs") as theirs:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await put(theirs, vehicle, WHOLE)


async def test_a_slice_that_is_cut_at_any_byte_leaves_what_was_there(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        link = link_of(vehicle)
        assert await asyncio.to_thread(link.send, NAME, ByteRange(0, 1000, 5000), PICTURE[:1000]) == Have(1000, False)
        head = f"PUT {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 4000\r\ncontent-range: bytes 1000-4999/5000\r\n\r\n"
        whole = head.encode() + PICTURE[1000:]
        for cut in (0, 1, 20, len(head) - 1, len(head), len(head) + 1, len(head) + 2000, len(whole) - 1):
            reader, writer = await _dial(vehicle)
            writer.write(whole[:cut])
            await writer.drain()
            writer.transport.abort()
            del reader
            assert await asyncio.to_thread(link.look, NAME) == Have(1000, stored=False), cut
        # Mutation: a cut that is counted as a refusal makes a vehicle on a bad road wait.
        await until(lambda: receiver.counters.object_slices_cut == 4)
        assert receiver.counters.objects_refused == 0
        assert (await asyncio.to_thread(send_all, link, PICTURE)).stored
        link.close()


@pytest.mark.parametrize("left", [NAME, f"{NAME}.part"], ids=["named", "all there"])
async def test_what_a_kill_left_whole_and_without_a_row_is_stored_at_the_next_question(
    tmp_path: Path, left: str
) -> None:
    # Mutation: HEAD that only looks; then nobody could ever send the bytes that the receiver has already.
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        folder = tmp_path / "receiver" / "objects" / VEHICLE
        folder.mkdir(parents=True)
        (folder / left).write_bytes(PICTURE)
        assert await receiver.operator.objects() == []
        link = link_of(vehicle)
        assert await asyncio.to_thread(link.look, NAME) == Have(5000, stored=True)
        (line,) = await receiver.operator.objects()
        assert Path(line.path).read_bytes() == PICTURE
        assert [path.name for path in folder.iterdir()] == [NAME]
        link.close()


async def test_two_connections_that_bring_the_same_object_make_one(tmp_path: Path) -> None:
    # Mutation: without its turn a vehicle's slices meet in one file.
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        data = os.urandom(60_000)
        links = [link_of(vehicle) for _ in range(4)]
        done = await asyncio.gather(*(asyncio.to_thread(send_all, link, data, None, 2000) for link in links))
        assert all(have.stored for have in done)
        (line,) = await receiver.operator.objects()
        assert Path(line.path).read_bytes() == data
        assert receiver.counters.objects_stored == 1
        for link in links:
            link.close()


async def test_what_nobody_goes_on_with_is_thrown_away_and_what_somebody_does_isnt(tmp_path: Path) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock, object_partial_hours=1) as receiver:
        link = link_of(await a_vehicle(receiver, tmp_path), clock=clock)
        for name, data in (("0" * 64, b"idle"), (NAME, PICTURE[:1000])):
            await asyncio.to_thread(link.send, name, ByteRange(0, len(data), 5000), data)
        parts = tmp_path / "receiver" / "objects" / VEHICLE
        for minute in range(6):
            clock.advance(clock.boot_ns() + EXPIRY_LOOK_NS + 1)
            start = 1000 + minute * 10
            await asyncio.to_thread(link.send, NAME, ByteRange(start, start + 10, 5000), PICTURE[start : start + 10])
        clock.advance(clock.boot_ns() + EXPIRY_LOOK_NS + 1)
        await until(lambda: receiver.counters.object_partials_expired == 1)
        assert [path.name for path in parts.iterdir()] == [f"{NAME}.part"]
        assert (await asyncio.to_thread(send_all, link, PICTURE)).stored
        link.close()


async def test_too_many_objects_begun_cost_the_idlest(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        link = link_of(await a_vehicle(receiver, tmp_path))
        names = [f"{number:064x}" for number in range(20)]
        for name in names:
            await asyncio.to_thread(link.send, name, ByteRange(0, 10, 5000), PICTURE[:10])
        haves = [(await asyncio.to_thread(link.look, name)).bytes for name in names]
        assert haves == [0] * 4 + [10] * 16
        link.close()


async def test_the_operators_verb_lists_what_is_stored(tmp_path: Path) -> None:
    async with a_child(tmp_path) as child:
        vehicle = await child.vehicle(tmp_path)
        link = link_of(vehicle)
        await asyncio.to_thread(send_all, link, PICTURE)
        link.close()
        code, out, _ = await run_verb("objects", "--state", child.state)
        assert (code, "5,000" in out, "1 stored" in out) == (0, True, True)
        for whose, count in ((VEHICLE, 1), ("veh-404", 0)):
            code, out, _ = await run_verb("objects", "--vehicle", whose, "--state", child.state, "--json")
            assert (code, out.count("sha256")) == (0, count)
        code, _, err = await run_verb("objects", "--vehicle", "../x", "--state", child.state)
        assert (code, "no vehicle id" in err) == (2, True)
        (line,) = await asyncio.to_thread(OperatorClient(child.state).objects)
        assert (line.vehicle, line.sha256, line.bytes) == (VEHICLE, NAME, 5000)
        assert Path(line.path).read_bytes() == PICTURE


@given(st.text(max_size=60), st.none() | st.text(max_size=20))
def test_no_headers_announce_more_than_is_taken(content_range: str, content_length: str | None) -> None:
    headers = {"content-range": content_range} | ({"content-length": content_length} if content_length else {})
    with contextlib.suppress(Unfit):
        part = checked_range(headers, 10_000)
        assert part.size <= min(MAX_SLICE_BYTES, part.total)
        assert part.total <= 10_000


@given(st.integers(0, 20_000), st.integers(1, 20_000), st.integers(0, 20_000))
def test_a_range_within_the_bounds_is_taken_and_no_other(start: int, size: int, behind: int) -> None:
    part = ByteRange(start, start + size, start + size + behind)
    headers = Headers({"content-range": str(part), "content-length": str(size)})
    if part.total <= 10_000:
        assert checked_range(headers, 10_000) == part
    else:
        with pytest.raises(Unfit):
            checked_range(headers, 10_000)


async def _dial(vehicle: Vehicle) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("localhost", vehicle.paired.https_port, ssl=vehicle.context())


async def _status_of(vehicle: Vehicle, request: bytes) -> int:
    reader, writer = await _dial(vehicle)
    writer.write(request)
    async with asyncio.timeout(10):
        first = await reader.readline()
    writer.transport.abort()
    return int(first.split()[1])
