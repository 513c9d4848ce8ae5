"""What becomes of a connection whose peer says what paho stumbles over: its owner is told, or nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.links.pahoclient import PahoConnection, TlsDialer, without_properties
from tests.contracts.scriptedbroker import (
    CONNECT,
    HOST,
    SUBSCRIBE,
    Answer,
    a_scripted_broker,
    connack,
    publish,
    suback,
    welcome,
)

USER_PROPERTY = b"\x26"
WITH_A_BOM = USER_PROPERTY + b"\x00\x01k" + b"\x00\x03" + "\ufeff".encode()
NO_SUCH_PROPERTY = b"\x7e\x00"


class Heard:
    """pahoclient.Events, as futures and a queue."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.up: asyncio.Future[int] = loop.create_future()
        self.listening: asyncio.Future[list[int]] = loop.create_future()
        self.over: asyncio.Future[str] = loop.create_future()
        self.messages: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.losses = 0

    def connected(self, code: int, words: str, receive_maximum: int) -> None:
        self.up.set_result(code)

    def subscribed(self, codes: list[int]) -> None:
        self.listening.set_result(codes)

    def acknowledged(self, packet_id: int, code: int, words: str) -> None: ...

    def arrived(self, topic: str, payload: bytes) -> None:
        self.messages.put_nowait((topic, payload))

    def lost(self, words: str) -> None:
        self.losses += 1
        if not self.over.done():
            self.over.set_result(words)


@contextlib.asynccontextmanager
async def a_line(folder: Path, answer: Answer) -> AsyncIterator[tuple[PahoConnection, Heard]]:
    async with a_scripted_broker(folder, answer) as broker:
        heard = Heard()
        line = PahoConnection("veh-001", TlsDialer(broker.context("veh-001"), 5.0, lambda _: None), 16, heard)
        await asyncio.to_thread(line.open, HOST, broker.port, 30)
        try:
            async with asyncio.timeout(10):
                yield line, heard
        finally:
            await asyncio.to_thread(line.end)


@pytest.mark.parametrize("properties", [WITH_A_BOM, NO_SUCH_PROPERTY], ids=["U+FEFF", "unknown"])
async def test_mqtt_properties_of_a_message_that_nobody_reads_decide_nothing(tmp_path: Path, properties: bytes) -> None:
    def answer(kind: int, body: bytes) -> bytes | None:
        if kind == SUBSCRIBE:
            return suback(body) + publish("a/b", b"one", properties) + publish("a/b", b"two")
        return welcome(kind, body)

    async with a_line(tmp_path, answer) as (line, heard):
        await heard.up
        line.subscribe("a/#")
        assert await heard.messages.get() == ("a/b", b"one")
        assert await heard.messages.get() == ("a/b", b"two")
        assert not heard.over.done()


def nonsense_at_the_greeting(kind: int, body: bytes) -> bytes | None:
    return connack(NO_SUCH_PROPERTY) if kind == CONNECT else None


def nonsense_for_a_suback(kind: int, body: bytes) -> bytes | None:
    return bytes([0x90, 1, 0]) if kind == SUBSCRIBE else welcome(kind, body)


def a_topic_that_is_cut_off(kind: int, body: bytes) -> bytes | None:
    return suback(body) + bytes([0x30, 3, 0, 9, 0]) if kind == SUBSCRIBE else welcome(kind, body)


@pytest.mark.parametrize("answer", [nonsense_at_the_greeting, nonsense_for_a_suback, a_topic_that_is_cut_off])
async def test_mqtt_however_the_network_thread_ends_its_owner_is_told_once(tmp_path: Path, answer: Answer) -> None:
    async with a_line(tmp_path, answer) as (line, heard):
        line.subscribe("a/#")
        assert await heard.over
    await asyncio.sleep(0)
    assert heard.losses == 1


@given(
    topic=st.text(max_size=20),
    qos=st.sampled_from([0, 1]),
    properties=st.binary(max_size=300),
    payload=st.binary(max_size=300),
)
def test_mqtt_a_message_without_its_properties_is_otherwise_the_same(
    topic: str, qos: int, properties: bytes, payload: bytes
) -> None:
    name = topic.encode()
    head = len(name).to_bytes(2, "big") + name + (b"\x12\x34" if qos else b"")
    length = len(properties)
    coded = bytes([length]) if length < 128 else bytes([length % 128 | 0x80, length // 128])
    assert without_properties(head + coded + properties + payload, qos) == head + b"\0" + payload


@given(packet=st.binary(max_size=40), qos=st.sampled_from([0, 1]))
def test_mqtt_whatever_a_peer_sends_nothing_is_read_beyond_its_end(packet: bytes, qos: int) -> None:
    left = without_properties(packet, qos)
    assert len(left) <= len(packet)
    assert left == packet or without_properties(left, qos) == left
