"""Messages arrive whole, in order, of known kinds, with their descriptors; and a dead peer is noticed."""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.channel import (
    MAX_DESCRIPTORS,
    MAX_MESSAGE_BYTES,
    Advance,
    BadMessage,
    Channel,
    ChannelClosed,
    Done,
    Message,
    pair,
)


class Frame(Message, frozen=True, tag="frame"):
    pixels: bytes


class Secret(Message, frozen=True, tag="secret"):
    text: str


Known = Advance | Done | Frame
Ends = tuple[Channel[Known], Channel[Known]]


@pytest.fixture
def ends() -> Iterator[Ends]:
    a, b = pair()
    with a, b:
        yield Channel(a, Known), Channel(b, Known)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


messages = st.one_of(
    st.builds(Advance, t_ns=st.integers(0, 2**63 - 1)),
    st.builds(Done, t_ns=st.integers(0, 2**63 - 1)),
    st.builds(Frame, pixels=st.binary(max_size=3000)),
)


@given(st.lists(messages, max_size=10))
def test_messages_arrive_whole_and_in_order(sent: list[Known]) -> None:
    a, b = pair()
    with a, b:
        near, far = Channel[Known](a, Known), Channel[Known](b, Known)
        for message in sent:
            near.send(message)
        assert [far.receive() for _ in sent] == [(message, []) for message in sent]


def test_the_largest_message_fits_and_a_larger_one_is_a_bug_of_the_sender(ends: Ends) -> None:
    overhead = 22
    largest = Frame(bytes(MAX_MESSAGE_BYTES - overhead))
    ends[0].send(largest)
    assert ends[1].receive()[0] == largest
    with pytest.raises(ValueError, match="won't fit"):
        ends[0].send(Frame(bytes(MAX_MESSAGE_BYTES)))
    with pytest.raises(ValueError, match="won't fit"):
        ends[0].send(Done(1), [0] * (MAX_DESCRIPTORS + 1))


def test_descriptors_travel_with_their_message(ends: Ends) -> None:
    files = [os.memfd_create(f"f{i}") for i in range(MAX_DESCRIPTORS)]
    for i, fd in enumerate(files):
        os.write(fd, b"%d" % i)
    ends[0].send(Done(1), files)
    ends[0].send(Done(2))
    message, received = ends[1].receive()
    assert message == Done(1)
    assert [os.pread(fd, 10, 0) for fd in received] == [b"0", b"1", b"2", b"3"]
    assert not any(os.get_inheritable(fd) for fd in received)
    assert ends[1].receive() == (Done(2), [])
    for fd in [*files, *received]:
        os.close(fd)


def test_an_unknown_kind_is_a_bad_message_and_the_next_one_arrives(ends: Ends) -> None:
    stranger: Channel[Secret] = Channel(socket.socket(fileno=os.dup(ends[0].fileno())), Secret)
    stranger.send(Secret("x"))
    stranger.close()
    ends[0].send(Done(1))
    with pytest.raises(BadMessage, match="secret"):
        ends[1].receive()
    assert ends[1].receive()[0] == Done(1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xc1", "malformed"),
        (b"\x81", "truncated"),
        (bytes(100), "object"),
        (b"\x82\xa1m\xa1\xff\xa4t_ns\x01", "utf-8"),
        (b"x" * (MAX_MESSAGE_BYTES + 1), "longer"),
    ],
)
def test_garbage_is_a_bad_message_and_leaks_no_descriptor(data: bytes, why: str) -> None:
    a, b = pair()
    with a, b, open("/dev/null", "rb") as file:
        before = open_descriptors()
        a.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()] * 3))])
        with pytest.raises(BadMessage, match=why):
            Channel[Known](b, Known).receive()
        assert open_descriptors() == before


def test_more_descriptors_than_allowed_are_a_bad_message_and_none_stays_open() -> None:
    a, b = pair()
    with a, b, open("/dev/null", "rb") as file:
        before = open_descriptors()
        many = array.array("i", [file.fileno()] * (MAX_DESCRIPTORS + 3))
        a.sendmsg([b"\x82\xa1m\xa4done\xa4t_ns\x01"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
        with pytest.raises(BadMessage, match="descriptors"):
            Channel[Known](b, Known).receive()
        assert open_descriptors() == before


def test_a_gone_peer_is_noticed_by_sender_and_receiver(ends: Ends) -> None:
    ends[0].close()
    with pytest.raises(ChannelClosed):
        ends[1].receive()
    with pytest.raises(ChannelClosed):
        ends[1].send(Done(1))
    with pytest.raises(ChannelClosed):
        ends[0].receive()


def test_a_message_sent_before_the_end_still_arrives(ends: Ends) -> None:
    ends[0].send(Done(1))
    ends[0].close()
    assert ends[1].receive()[0] == Done(1)
    with pytest.raises(ChannelClosed):
        ends[1].receive()


def test_a_slow_reader_blocks_nobody_on_a_non_blocking_end() -> None:
    a, b = pair()
    with a, b:
        a.setblocking(False)
        near, far = Channel[Known](a, Known), Channel[Known](b, Known)
        sent = 0
        with suppress(BlockingIOError):
            while sent < 1_000_000:
                near.send(Done(sent))
                sent += 1
        assert sent < 1_000_000
        b.setblocking(False)
        received: list[Known] = []
        with suppress(BlockingIOError):
            while True:
                received.append(far.receive()[0])
        assert received == [Done(i) for i in range(sent)]


async def attached(end: Channel[Known], batch: int = 64) -> tuple[list[Known], asyncio.Event]:
    received: list[Known] = []
    closed = asyncio.Event()
    end.attach(received.append, closed.set, batch)
    return received, closed


async def test_in_a_loop_everything_sent_before_the_end_is_delivered_then_the_end(ends: Ends) -> None:
    received, closed = await attached(ends[1], batch=3)
    for i in range(20):
        ends[0].send(Done(i))
    ends[0].close()
    await asyncio.wait_for(closed.wait(), 10)
    assert received == [Done(i) for i in range(20)]
    assert ends[1].fileno() < 0


async def test_in_a_loop_descriptors_nobody_asked_for_are_closed(ends: Ends) -> None:
    _, closed = await attached(ends[1])
    before = open_descriptors()
    ends[0].send(Done(1), [ends[0].fileno()])
    ends[0].close()
    await asyncio.wait_for(closed.wait(), 10)
    assert open_descriptors() == before - 2


async def test_in_a_loop_one_busy_channel_leaves_turns_to_others(ends: Ends) -> None:
    turns = []
    received, _ = await attached(ends[1], batch=4)
    for i in range(12):
        ends[0].send(Done(i))
    async with asyncio.timeout(10):
        while len(received) < 12:
            await asyncio.sleep(0)
            turns.append(len(received))
    assert max(b - a for a, b in zip([0, *turns], turns, strict=False)) <= 4
    ends[1].close()


async def test_in_a_loop_a_bad_message_ends_the_channel_and_is_told(ends: Ends) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    received, closed = await attached(ends[1])
    ends[0].send(Done(1))
    os.write(ends[0].fileno(), b"garbage")
    ends[0].send(Done(2))
    await asyncio.wait_for(closed.wait(), 10)
    await asyncio.sleep(0)
    assert received == [Done(1)]
    assert [type(error) for error in told] == [BadMessage]
    assert ends[1].fileno() < 0


async def test_whoever_asks_for_bad_messages_is_told_before_the_end_and_the_loop_isnt(ends: Ends) -> None:
    heard: list[str] = []
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    over = asyncio.Event()

    def closed() -> None:
        heard.append("closed")
        over.set()

    Channel[Known](ends[1]._socket, Known).attach(
        lambda _: heard.append("message"), closed, on_bad=lambda bad: heard.append(type(bad).__name__)
    )
    os.write(ends[0].fileno(), b"garbage")
    async with asyncio.timeout(10):
        await over.wait()
    await asyncio.sleep(0)
    assert (heard, told) == (["BadMessage", "closed"], [])


async def test_closing_from_within_a_delivery_stops_it(ends: Ends) -> None:
    received: list[Known] = []

    def once(message: Known) -> None:
        received.append(message)
        ends[1].close()

    for i in range(3):
        ends[0].send(Done(i))
    ends[1].attach(once, lambda: None)
    for _ in range(5):
        await asyncio.sleep(0)
    assert received == [Done(0)]
    ends[1].close()


def test_the_lockstep_handshake_grants_and_answers_in_turn(ends: Ends) -> None:
    agent, worker = ends
    for t_ns in (10, 20, 30):
        agent.send(Advance(t_ns))
        granted, _ = worker.receive()
        assert isinstance(granted, Advance)
        worker.send(Frame(b"x"))
        worker.send(Done(granted.t_ns))
        assert [agent.receive()[0] for _ in range(2)] == [Frame(b"x"), Done(t_ns)]
