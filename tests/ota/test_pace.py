"""A source that trickles is told, and costs nothing else; a slow network that gets on isn't."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import SECOND_NS, SteppingClock
from ecu.disk import RealDisk
from ota.errors import Attack, FetchError, Flaw, SlowRetrieval
from ota.pace import SLOWEST, Pace, PacedSource
from ota.source import Source
from ota.trust import Vehicle
from ota.updates import Notice, Updates
from tests.ota.changed import Open
from tests.ota.fleet import CAR, HARDWARE, Fleet

PACE = Pace(bytes_per_s=100, over_s=10)


class Trickle(Open):
    """What a source gives, in parts of so many bytes, each after so long."""

    def __init__(self, source: Source, clock: SteppingClock, part_bytes: int, wait_ns: int, only: str = "") -> None:
        self._source = source
        self._clock = clock
        self._part_bytes = part_bytes
        self._wait_ns = wait_ns
        self._only = only

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        for data in self._source.read(path, offset, most):
            if not path.startswith(self._only):
                yield data
                continue
            for at in range(0, len(data), self._part_bytes):
                self._clock.advance(self._clock.boot_ns() + self._wait_ns)
                yield data[at : at + self._part_bytes]


class Bytes(Open):
    """As many bytes as are asked for."""

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        yield bytes(most)


def paced(clock: SteppingClock, part_bytes: int, wait_ns: int) -> PacedSource:
    return PacedSource(Trickle(Bytes(), clock, part_bytes, wait_ns), clock, Flaw.SLOW_DOWNLOAD, PACE)


@given(part_bytes=st.integers(1, 5000), wait_ms=st.integers(0, 30_000))
def test_a_steady_source_is_too_slow_below_the_stated_rate_and_never_above_it(part_bytes: int, wait_ms: int) -> None:
    source, too_slow = paced(SteppingClock(), part_bytes, wait_ms * 10**6), False
    try:
        # Long enough for two windows.
        list(source.read("files/a", 0, part_bytes * (1 + 20_000 // max(1, wait_ms)) + part_bytes))
    except SlowRetrieval:
        too_slow = True
    assert too_slow is (part_bytes * 1000 < PACE.bytes_per_s * wait_ms)


def test_what_came_fast_makes_up_for_nothing_that_trickles_after_it() -> None:
    clock = SteppingClock()
    source = PacedSource(Trickle(Bytes(), clock, 1, SECOND_NS, only="files/b"), clock, Flaw.SLOW_DOWNLOAD, PACE)
    list(source.read("files/a", 0, 10**6))
    with pytest.raises(SlowRetrieval, match="files/b came at fewer than 100 bytes a second for 10 s"):
        list(source.read("files/b", 0, 100))
    assert clock.boot_ns() <= 2 * PACE.over_s * SECOND_NS


def test_many_small_files_that_each_trickle_are_one_slow_look() -> None:
    clock = SteppingClock()
    source = paced(clock, 1, SECOND_NS)
    small = (part for number in range(20) for part in source.read(f"image/{number}.root.json", 0, 1))
    with pytest.raises(SlowRetrieval) as slow:
        list(small)
    assert (slow.value.attack, slow.value.flaw) == (Attack.SLOW_RETRIEVAL, Flaw.SLOW_DOWNLOAD)


def test_time_in_which_nobody_waited_for_the_source_doesnt_count() -> None:
    clock = SteppingClock()
    source = PacedSource(Bytes(), clock, Flaw.SLOW_DOWNLOAD, PACE)
    for _ in source.read("files/a", 0, 1):
        clock.advance(3600 * SECOND_NS)


class Silent(Open):
    """Breaks off after so long."""

    def __init__(self, clock: SteppingClock, after_s: int) -> None:
        self._clock = clock
        self._after_s = after_s

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        yield b"a"
        self._clock.advance(self._clock.boot_ns() + self._after_s * SECOND_NS)
        raise FetchError("It broke off.")


@pytest.mark.parametrize("after_s", [1, SLOWEST.over_s + 1])
def test_a_source_with_a_patience_of_its_own_is_told_as_slow_when_that_was_long(after_s: int) -> None:
    clock = SteppingClock()
    with pytest.raises(FetchError) as trouble:
        list(PacedSource(Silent(clock, after_s), clock, Flaw.SLOW_LOOK).read("files/a", 0, 9))
    assert isinstance(trouble.value, SlowRetrieval) is (after_s > SLOWEST.over_s)


@pytest.mark.parametrize("what", ["director/timestamp.json", "files/"])
def test_a_trickle_is_audited_and_told_once_changes_nothing_and_is_tried_again(
    fleet: Fleet, state: Path, what: str
) -> None:
    fleet.assign(fleet.release("1.0", 1))
    assert isinstance(fleet.clock, SteppingClock)
    state.mkdir()
    notices: list[Notice] = []
    updates = Updates(RealDisk(state), fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, notices.append)

    def install(source: Source) -> None:
        for offer in updates.check(source):
            updates.install(source, offer, lambda _: None)

    for _ in range(2):
        with pytest.raises(SlowRetrieval):
            install(Trickle(fleet.source(), fleet.clock, 1, 70 * SECOND_NS, only=what))
    (notice,) = notices
    assert (notice.what, notice.attack) == ("slow", Attack.SLOW_RETRIEVAL)
    assert notice.words.startswith(f"slow-retrieval: {what}")
    install(fleet.source())
    assert [notice.what for notice in notices].count("slow") == 1
    assert len(notices) > 1
