"""Laws of what waits while the store is asked about its sender: nothing beyond the bounds, nothing lost within them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from receiver.unsettled import MESSAGE_COST_BYTES, VEHICLES_KEPT, WAITING_PER_VEHICLE, Unsettled

BLOCK = bytes(96 * 1024)
MOST_BYTES = 64 * 1024 * 1024

names = st.sampled_from(["veh-001", "veh-002", "veh-003"])
steps = st.lists(st.tuples(names, st.one_of(st.none(), st.integers(0, 3000))), max_size=60)


def test_a_fleet_whose_store_hangs_waits_within_the_bytes_of_all_and_not_of_each() -> None:
    unsettled = Unsettled(MOST_BYTES)
    kept = sum(unsettled.keep(f"veh-{n % 200:03d}", "p1", BLOCK) for n in range(20_000))
    assert kept == MOST_BYTES // (len(BLOCK) + MESSAGE_COST_BYTES)


def test_messages_without_a_byte_are_bounded_by_number_and_by_vehicle() -> None:
    unsettled = Unsettled(MOST_BYTES)
    assert sum(unsettled.keep("veh-001", "p1", b"") for _ in range(200)) == WAITING_PER_VEHICLE
    assert sum(unsettled.keep(f"v-{n}", "p1", b"") for n in range(VEHICLES_KEPT + 5)) == VEHICLES_KEPT - 1


@given(steps=steps)
def test_what_was_kept_comes_back_whole_and_in_order_and_its_room_is_free_again(
    steps: list[tuple[str, int | None]],
) -> None:
    unsettled, kept = Unsettled(20_000), dict[str, list[tuple[str, bytes]]]()
    for vehicle, size in steps:
        assert (vehicle in unsettled) == bool(kept.get(vehicle))
        if size is None:
            assert unsettled.take(vehicle) == kept.pop(vehicle, [])
            continue
        held = sum(len(payload) + MESSAGE_COST_BYTES for messages in kept.values() for _, payload in messages)
        fits = held + size + MESSAGE_COST_BYTES <= 20_000
        assert unsettled.keep(vehicle, "p1", bytes(size)) == fits
        if fits:
            kept.setdefault(vehicle, []).append(("p1", bytes(size)))
