"""Reading frames as the kernel hands them over: stamps, drops, errors, interfaces that go down."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
import struct
from collections.abc import Iterator
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.clock import MILLISECOND_NS, SECOND_NS, SteppingClock, SystemClock
from ecu.errors import UsageFault
from telemetry.signals.canlayout import CAN_MTU, CANFD_MTU
from telemetry.signals.datagrams import SO_RXQ_OVFL, SO_TIMESTAMPNS, DatagramReader, Datagrams, ancillary
from telemetry.signals.farend import SourceLost
from telemetry.signals.frames import ERROR, EXTENDED, REMOTE, Frames, no_frames
from telemetry.signals.framesource import BatchLimits, FrameStatus
from telemetry.signals.socketcan import SocketCan, boot_times, can_bus, drops_between, listen_closely, sorted_out

NOTHING = FrameStatus(connected=True, reason="")


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a UDP socket, which has the stamps and counts that a CAN socket has."""
    with contextlib.ExitStack() as stack:
        far, near = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2))
        near.setblocking(False)
        near.bind(("127.0.0.1", 0))
        far.connect(near.getsockname())
        yield far, near


def can_frame(can_id: int, data: bytes) -> bytes:
    return struct.pack("=IB3x8s", can_id, len(data), data)


def canfd_frame(can_id: int, data: bytes) -> bytes:
    return struct.pack("=IBB2x64s", can_id, len(data), 0, data)


def test_all_that_waits_is_taken_at_once_with_the_kernels_stamps(wire: tuple[socket.socket, socket.socket]) -> None:
    far, near = wire
    listen_closely(near)
    before_ns = SystemClock().wall_ns()
    for number in range(10):
        far.send(can_frame(number, bytes([number])))
    reader = DatagramReader(most=8, room=CANFD_MTU)
    first, second, third = (reader.receive(near.fileno()) for _ in range(3))
    after_ns = SystemClock().wall_ns()
    assert first is not None
    assert (len(first), third) == (8, None)
    assert first.length.tolist() == [CAN_MTU] * 8
    assert ((before_ns - SECOND_NS < first.wall_ns) & (first.wall_ns < after_ns + SECOND_NS)).all()
    assert second is not None
    assert second.data[:2, 0].tolist() == [8, 9]


def test_what_the_kernel_had_no_room_for_is_counted(wire: tuple[socket.socket, socket.socket]) -> None:
    far, near = wire
    listen_closely(near)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for number in range(200):
        far.send(can_frame(number, b""))
    reader = DatagramReader(most=256, room=CANFD_MTU)
    kept = reader.receive(near.fileno())
    assert kept is not None
    far.send(can_frame(1, b""))  # the count comes with the next one that has room
    after = reader.receive(near.fileno())
    assert after is not None
    assert after.dropped == 200 - len(kept) > 0


def test_a_socket_that_says_nothing_beside_leaves_it_open(wire: tuple[socket.socket, socket.socket]) -> None:
    far, near = wire
    far.send(b"x" * 100)
    got = DatagramReader(most=4, room=CANFD_MTU).receive(near.fileno())
    assert got is not None
    assert (got.wall_ns.tolist(), got.dropped, got.length.tolist()) == ([-1], None, [100])


def test_an_error_of_the_socket_is_raised() -> None:
    with pytest.raises(OSError, match="file descriptor") as error:
        DatagramReader(most=1, room=8).receive(-1)
    assert error.value.errno == errno.EBADF


def cmsg(level: int, kind: int, content: bytes) -> bytes:
    return struct.pack("@Nii", 16 + len(content), level, kind) + content.ljust(-(-len(content) // 8) * 8, b"\0")


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.none() | st.integers(0, 2**60), st.none() | st.integers(0, 2**32 - 1), st.booleans()), min_size=1
    )
)
def test_each_datagram_has_its_own_control_messages(drawn: list[tuple[int | None, int | None, bool]]) -> None:
    rows, wanted, dropped = [], [], None
    for stamp, drops, other in drawn:
        parts = [cmsg(41, 7, b"abc")] if other else []
        if stamp is not None:
            parts.append(cmsg(socket.SOL_SOCKET, SO_TIMESTAMPNS, struct.pack("@ll", *divmod(stamp, SECOND_NS))))
        if drops is not None:
            parts.append(cmsg(socket.SOL_SOCKET, SO_RXQ_OVFL, struct.pack("=I", drops)))
            dropped = drops
        rows.append(b"".join(parts))
        wanted.append(-1 if stamp is None else stamp)
    control = np.frombuffer(b"".join(row.ljust(96, b"\xff") for row in rows), np.uint8).reshape(-1, 96)
    wall_ns, count = ancillary(control, np.array([len(row) for row in rows], np.int64))
    assert (wall_ns.tolist(), count) == (wanted, dropped)


@given(st.binary(min_size=96, max_size=96), st.integers(0, 96))
def test_any_control_bytes_are_read_without_harm(control: bytes, length: int) -> None:
    wall_ns, dropped = ancillary(np.frombuffer(control, np.uint8).reshape(1, 96), np.array([length], np.int64))
    assert wall_ns.shape == (1,)
    assert dropped is None or 0 <= dropped < 2**32


def test_stamps_become_boot_time_by_both_clocks_now() -> None:
    stamps = np.array([10_000, 10_400, -1], np.int64)
    assert boot_times(stamps, wall_ns=10_500, boot_ns=700, earliest_ns=0).tolist() == [200, 600, 700]


@given(
    st.lists(st.integers(-1, 2**62), min_size=1), st.integers(0, 2**62), st.integers(0, 2**61), st.integers(0, 2**62)
)
def test_no_jump_of_the_wall_clock_moves_a_frame_out_of_its_bounds(
    stamps: list[int], wall_ns: int, boot_ns: int, earliest_ns: int
) -> None:
    times = boot_times(np.array(stamps, np.int64), wall_ns, boot_ns, earliest_ns).tolist()
    assert times == sorted(times)
    assert all(min(earliest_ns, boot_ns) <= t_ns <= boot_ns for t_ns in times)


def datagrams(*rows: bytes) -> Datagrams:
    data = np.frombuffer(b"".join(row.ljust(CANFD_MTU, b"\xee")[:CANFD_MTU] for row in rows), np.uint8)
    lengths = np.array([len(row) for row in rows], np.uint32)
    return Datagrams(data.reshape(-1, CANFD_MTU).copy(), lengths, np.full(len(rows), -1, np.int64), None)


def sort(*rows: bytes) -> tuple[Frames, FrameStatus]:
    return sorted_out(datagrams(*rows), np.arange(len(rows), dtype=np.int64), 3, NOTHING)


def test_data_is_told_from_errors_and_requests() -> None:
    frames, status = sort(
        can_frame(0x123, b"\x01\x02"),
        can_frame(ERROR | 0x40, bytes(8)),  # bus off
        can_frame(ERROR | 0x4, b"\0\x01" + bytes(6)),  # the controller's own buffer was full
        can_frame(0x124 | REMOTE, b""),
        can_frame(0x1ABCDEF | EXTENDED, b""),
        b"no frame",
    )
    assert frames.can_id.tolist() == [0x123, 0x1ABCDEF | EXTENDED]
    assert frames.bus.tolist() == [3, 3]
    assert frames.data.tolist() == [[1, 2, 0, 0, 0, 0, 0, 0], [0] * 8]
    counts = status.received, status.errors, status.bus_offs, status.remote
    assert counts == (2, 2, 1, 1)


def test_a_batch_is_as_wide_as_its_widest_frame_and_shows_nothing_of_what_was_there_before() -> None:
    frames, _ = sort(can_frame(1, b"\x07"), canfd_frame(2, bytes(range(48))), can_frame(3, b""))
    assert frames.width == 64
    assert frames.length.tolist() == [1, 48, 0]
    assert frames.data[0].tolist() == [7] + [0] * 63
    assert frames.data[1].tolist() == [*range(48)] + [0] * 16
    assert sort(can_frame(1, b""))[0].width == 8


def test_a_length_beyond_the_room_is_all_of_it() -> None:
    classic = struct.pack("=IB3x8s", 1, 64, b"abcdefgh")
    frames, _ = sort(classic, struct.pack("=IBB2x64s", 2, 200, 0, b"z" * 64))
    assert frames.length.tolist() == [8, 64]
    assert frames.data[0].tobytes().rstrip(b"\0") == b"abcdefgh"


def test_only_other_frames_give_none() -> None:
    frames, status = sort(can_frame(REMOTE | 1, b""))
    assert (len(frames), status.remote) == (len(no_frames()), 1)


@pytest.mark.parametrize("name", ["", "a" * 16, "../can0", "can\n0"])
def test_what_can_be_no_interface_is_refused(name: str) -> None:
    with pytest.raises(UsageFault, match="name of a CAN interface"):
        can_bus(name)


def test_an_interface_that_isnt_there_is_a_lost_source() -> None:
    with pytest.raises(SourceLost, match=r"can_raw|ip -details link"):
        can_bus("nocan77")()


class Down:
    """A bus whose interface is down for the first `times`: it opens, and the first read has an error."""

    def __init__(self, times: int, absent: int = 0) -> None:
        self.times = times
        self.absent = absent
        self.opened = 0
        self.near: socket.socket | None = None
        self.far: socket.socket | None = None

    def __call__(self) -> socket.socket:
        self.opened += 1
        if self.absent:
            self.absent -= 1
            raise SourceLost("CAN interface can0: no such device.")
        near = self.near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        near.setblocking(False)
        near.bind(("127.0.0.1", 0))
        if self.times:
            self.times -= 1
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
                closed.bind(("127.0.0.1", 0))
                near.connect(closed.getsockname())
            near.send(b"")  # answered by an error, which makes the socket readable
        else:
            if self.far is not None:
                self.far.close()
            self.far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.far.connect(near.getsockname())
        return near


@pytest.mark.parametrize(("times", "absent"), [(0, 3), (3, 0)], ids=["absent", "down"])
async def test_an_interface_that_comes_up_later_is_read_then(times: int, absent: int) -> None:
    clock, bus = SteppingClock(boot_ns=SECOND_NS), Down(times, absent)
    source = SocketCan([bus], clock, Random(1), BatchLimits(latency_ns=MILLISECOND_NS))
    first = asyncio.ensure_future(anext(source.batches()))
    async with asyncio.timeout(10):
        while not first.done():
            clock.advance(clock.boot_ns() + 10 * MILLISECOND_NS)
            for _ in range(6):
                await asyncio.sleep(0)
            if bus.far is not None:
                bus.far.send(can_frame(5, b"up"))
    assert (await first).can_id.tolist() == [5] * len(await first)
    assert bus.opened == 4
    assert source.status().connected
    assert source.status().losses == 0
    source.close()
    assert bus.far is not None
    bus.far.close()


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_the_kernels_count_of_drops_may_begin_anew_and_none_is_forgotten_or_counted_twice(drops: list[int]) -> None:
    read = [total % 2**32 for total in itertools.accumulate(drops, initial=0)]
    assert [drops_between(before, now) for before, now in itertools.pairwise(read)] == drops


async def test_what_the_kernel_had_no_room_for_is_missed_once_over_all_sockets_of_a_bus() -> None:
    # Mutations: the kernel's count taken for what is new; one socket's last count held against the next one's.
    clock, bus, sent = SteppingClock(boot_ns=SECOND_NS), Down(0), 0
    source = SocketCan([bus], clock, Random(1), BatchLimits(latency_ns=MILLISECOND_NS))
    for _ in range(2):
        async with contextlib.aclosing(source.batches()) as batches:
            for flood in (200, 100, 1):  # the count comes with the next one that has room
                coming = asyncio.ensure_future(anext(batches))
                async with asyncio.timeout(10):
                    while not source.status().connected:
                        await asyncio.sleep(0)
                assert bus.near is not None
                assert bus.far is not None
                bus.near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                for _ in range(flood):
                    bus.far.send(can_frame(5, b""))
                sent += flood
                async with asyncio.timeout(10):
                    while not coming.done():
                        await asyncio.sleep(0)
                        clock.advance(clock.boot_ns() + MILLISECOND_NS)
                await coming
        status = source.status()
        assert status.missed > 0
        assert status.received + status.missed == sent
    assert bus.far is not None
    bus.far.close()


async def test_while_frames_gather_the_loop_is_not_called_for_them_again_and_again() -> None:
    # Mutation: a reader that stays: a bus that always has something to read takes all of a core.
    clock, (far, near) = SteppingClock(boot_ns=SECOND_NS), socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    source = SocketCan([lambda: near], clock, Random(1), BatchLimits(latency_ns=MILLISECOND_NS))
    async with contextlib.aclosing(source.batches()) as batches:
        for _ in range(3):
            coming = asyncio.ensure_future(anext(batches))
            far.send(can_frame(5, b""))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not asyncio.get_running_loop().remove_reader(near)
            clock.advance(clock.boot_ns() + MILLISECOND_NS)
            assert len(await coming) == 1
    far.close()


class CreepingClock(SteppingClock):
    """Time goes on while buses are read, one after another."""

    def boot_ns(self) -> int:
        self.advance(super().boot_ns() + 1000)
        return super().boot_ns()


async def test_a_bus_read_before_another_tells_nothing_older_than_that_one_did() -> None:
    clock, buses = CreepingClock(boot_ns=SECOND_NS), [Down(0), Down(0)]
    source = SocketCan(buses, clock, Random(1), BatchLimits(latency_ns=MILLISECOND_NS))
    stamps = []
    async with contextlib.aclosing(source.batches()) as batches:
        # The second bus's frame is of now; then the wall clock jumps ahead, and the first one's seems as old as can be.
        for bus, wall_ns in ((1, 0), (1, 0), (0, 2**62)):
            clock.set_wall(wall_ns)
            coming = asyncio.ensure_future(anext(batches))
            async with asyncio.timeout(10):
                while buses[bus].far is None:
                    await asyncio.sleep(0)
            far = buses[bus].far
            assert far is not None
            far.send(can_frame(5, b""))
            async with asyncio.timeout(10):
                while not coming.done():
                    await asyncio.sleep(0)
                    clock.advance(super(CreepingClock, clock).boot_ns() + MILLISECOND_NS)
            stamps += (await coming).t_ns.tolist()
    assert stamps == sorted(stamps)
    for down in buses:
        assert down.far is not None
        down.far.close()
