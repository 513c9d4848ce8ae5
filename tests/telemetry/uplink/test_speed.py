"""How much goes at once follows from the times of exchanges: the line stays busy, and nobody waits long behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.clock import MILLISECOND_NS, SECOND_NS
from telemetry.uplink.speed import FIRST_BYTES, LONGEST_QUEUE_NS, QUEUE_NS, SMALL_BYTES, Speed


class Line:
    """Carries one exchange after the other at its rate, and answers after a round trip."""

    def __init__(self, bytes_per_s: float, round_trip_ms: float) -> None:
        self.speed = Speed()
        self.now_ns = 0
        self.busy_ns = 0
        self.bytes_per_s = bytes_per_s
        self.round_trip_ns = int(round_trip_ms * MILLISECOND_NS)

    def send(self, size: int) -> int:
        """How long the line was busy with it."""
        exchange = self.speed.begin(size, self.now_ns)
        busy_ns = int(size / self.bytes_per_s * SECOND_NS)
        self.now_ns += busy_ns + self.round_trip_ns
        self.busy_ns += busy_ns
        self.speed.end(exchange, self.now_ns)
        return busy_ns

    def drain(self, slices: int, most_bytes: int = 1 << 22) -> list[int]:
        """A question, and then slices as long as there is room for; how long each held the line."""
        self.send(0)
        return [self.send(min(most_bytes, self.speed.room_bytes)) for _ in range(slices)]


@pytest.mark.parametrize("kbit_s", [300, 1_000, 5_000, 20_000])
@pytest.mark.parametrize("round_trip_ms", [1, 20, 55])
def test_the_line_is_busy_nine_tenths_of_the_time_and_no_slice_holds_it_long(kbit_s: int, round_trip_ms: int) -> None:
    line = Line(kbit_s * 125, round_trip_ms)
    held_ns = line.drain(100)
    first_ns = FIRST_BYTES / line.bytes_per_s * SECOND_NS
    assert max(held_ns) <= max(1.01 * QUEUE_NS, 1.01 * min(LONGEST_QUEUE_NS, 18 * line.round_trip_ns), first_ns)
    began_ns, busy_ns = line.now_ns, line.busy_ns
    line.drain(50)
    assert (line.busy_ns - busy_ns) / (line.now_ns - began_ns) >= 0.895


@given(st.floats(1e4, 1e8), st.floats(0.1, 2_000))
def test_on_any_line_it_comes_to_rest_between_its_bounds(bytes_per_s: float, round_trip_ms: float) -> None:
    # Mutation: a round trip taken for the line's own time shrinks slices to nothing on a satellite's line.
    line = Line(bytes_per_s, round_trip_ms)
    held_ns = line.drain(60, most_bytes=1 << 30)[-1]
    floor_ns = SMALL_BYTES / bytes_per_s * SECOND_NS
    assert held_ns <= 1.2 * max(LONGEST_QUEUE_NS, floor_ns)
    if bytes_per_s * (QUEUE_NS + line.round_trip_ns) / SECOND_NS < 4 << 20:
        assert held_ns >= 0.9 * QUEUE_NS or line.speed.room_bytes == SMALL_BYTES


def test_a_line_that_gets_slower_is_noticed_within_a_few_exchanges() -> None:
    line = Line(1_000_000, 10)
    line.drain(10)
    line.bytes_per_s = 125_000
    held_ns = line.drain(12)
    assert held_ns[-1] <= 1.1 * QUEUE_NS


def test_small_exchanges_now_and_then_do_not_make_a_fast_line_look_slow() -> None:
    line = Line(1_000_000, 10)
    line.drain(10)
    room = line.speed.room_bytes
    for _ in range(100):
        line.send(200)
    assert line.speed.room_bytes >= room


def test_an_exchange_that_began_while_another_was_ending_does_not_make_the_line_look_fast() -> None:
    # Mutation: counting what was delivered within a short exchange over its own time alone.
    speed, rate = Speed(), 125_000
    long = speed.begin(125_000, 0)
    short = speed.begin(200, SECOND_NS - 1000)
    speed.end(long, SECOND_NS)
    speed.end(short, SECOND_NS + 1000)
    assert speed.bytes_per_s is not None
    assert speed.bytes_per_s <= 1.01 * rate
    assert not speed.knows_round_trip, "it wasn't alone"


def test_several_at_once_keep_the_line_busy_where_no_round_trip_was_ever_seen() -> None:
    # Mutation: a room of a quarter of a second lets one block of 20 KB go at a time, and its answer is waited for.
    speed, rate, round_trip_ns = Speed(), 125_000, 40 * MILLISECOND_NS
    under_way: list[tuple[int, object]] = []
    line_free_ns = now_ns = busy_ns = 0
    while now_ns < 20 * SECOND_NS:
        if not under_way or 20_000 * (len(under_way) + 1) <= speed.room_bytes:
            passes_ns = max(line_free_ns, now_ns) + 20_000 * SECOND_NS // rate
            busy_ns += 20_000 * SECOND_NS // rate
            line_free_ns = passes_ns
            under_way.append((passes_ns + round_trip_ns, speed.begin(20_000, now_ns)))
        else:
            now_ns, exchange = under_way.pop(0)
            speed.end(exchange, now_ns)  # type: ignore[arg-type]
        assert line_free_ns - now_ns <= LONGEST_QUEUE_NS
    assert busy_ns / line_free_ns >= 0.97


def test_another_network_is_learned_anew() -> None:
    line = Line(10_000_000, 10)
    line.drain(10)
    line.speed.forget()
    assert (line.speed.bytes_per_s, line.speed.room_bytes) == (None, FIRST_BYTES)
    assert not line.speed.knows_round_trip
