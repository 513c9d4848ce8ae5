"""What isn't an honest update is refused by its name, counted, and changes nothing else."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ecu.clock import SECOND_NS
from ecu.keys import MemoryKeyStore
from receiver import admission, inbox
from receiver.inbox import Arrival
from receiver.learning.judging import KEYS_TRIED, REFUSED_AT_ONCE, WORDS_KEPT
from telemetry.federated.plan import Plan
from telemetry.federated.update import MAX_PAYLOAD_BYTES, ModelUpdate
from telemetry.records import Health, Lane, Purpose, encode_event
from telemetry.wire import unpack_block
from tests.receiver.learning.benches import plan_of
from tests.receiver.learning.rig import Car, Rig, a_rig, block_of, told, update_of

STATE = "learning_line", "learning_base", "learning_update", "learning_attempt"
DAY_NS = 86_400 * SECOND_NS


def payload(gaps: bytes, scale: float, values: bytes, kept: int, parameters: int = 4) -> bytes:
    body = gaps + struct.pack("<f", scale) + values
    return struct.pack("<4sHHII", b"ORF1", 1, 256, parameters, kept) + zlib.compress(body)


Change = dict[str, Any]
BAD: list[tuple[str, Change, str]] = [
    ("wrong_base", {"base": "d" * 64}, "wrong_base"),
    ("wrong_graph", {"graph": "d" * 64}, "wrong_layout"),
    ("wrong_layout", {"layout": "d" * 64}, "wrong_layout"),
    ("of_other_parameters", {"payload": payload(b"\x01", 0.5, b"\x01", 1, 5)}, "wrong_layout"),
    ("nan", {"payload": payload(b"\x01", float("nan"), b"\x01", 1)}, "not_finite"),
    ("infinite_scale", {"payload": payload(b"\x01", float("inf"), b"\x01", 1)}, "not_finite"),
    ("negative_scale", {"payload": payload(b"\x01", -1.0, b"\x01", 1)}, "not_finite"),
    ("negative_index", {"payload": payload(b"\x00\x03", 0.5, b"\x01\x01", 2)}, "indices"),
    ("duplicate_index", {"payload": payload(b"\x03\x00", 0.5, b"\x01\x01", 2)}, "indices"),
    ("index_beyond", {"payload": payload(b"\x05", 0.5, b"\x01", 1)}, "indices"),
    ("inflate_bomb", {"payload": payload(b"\x01", 0.5, bytes(10_000_000), 1)}, "too_large"),
    ("oversize", {"payload": bytes(MAX_PAYLOAD_BYTES + 1)}, "too_large"),
    ("too_many_values", {"payload": payload(b"\x01" * 5, 0.5, b"\x01" * 5, 5)}, "too_large"),
    ("noise", {"payload": b"noise"}, "malformed"),
    ("replayed", {"seq": 1}, "replayed"),
    ("beyond_the_plan", {"seq": 6}, "excessive"),
    ("seq_of_64_bits", {"seq": (1 << 64) - 1}, "excessive"),
    ("unknown_plan", {"plan": "lights-9"}, "unknown_plan"),
    ("a_plan_that_writes_on_screens", {"plan": "\x1b[2J\x00" + "x" * 50_000}, "unknown_plan"),
]


@pytest.mark.parametrize(("change", "name"), [(c, n) for _, c, n in BAD], ids=[case for case, _, _ in BAD])
async def test_what_differs_in_one_thing_is_refused_by_its_name(tmp_path: Path, change: Change, name: str) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        await rig.learned(plan, "car-1", 1.0)
        await rig.settle()
        before = await rig.rows(*STATE)
        car = await rig.car("car-1")
        await rig.receive("car-1", told(update_of(plan, car.keys.sign, 1.0, **({"seq": 2} | change))))
        await rig.settle()
        assert await rig.rows(*STATE) == before
        status = await rig.status()
        counts = status.unknown if name == "unknown_plan" else status.plans[0].vehicles
        assert counts["car-1"][name] == 1
        assert getattr(rig.counters, f"learned_{name}") == 1
        assert status.queued == 0
        (entry,) = [entry for entry in await rig.entries() if entry.event == "update_refused"]
        assert (entry.subject, entry.detail.partition(":")[0]) == ("car-1", name)
        assert entry.detail.isprintable(), "what a vehicle wrote, a terminal shows"
        assert len(entry.detail) <= 4 * WORDS_KEPT


def tampered(update: ModelUpdate, _: Car) -> bytes:
    return told(msgspec.structs.replace(update, seq=3))


def unsigned(update: ModelUpdate, _: Car) -> bytes:
    return told(msgspec.structs.replace(update, signature=b""))


def of_another_car(update: ModelUpdate, other: Car) -> bytes:
    return told(update_of(plan_of(), other.keys.sign, 1.0, seq=2))


@pytest.mark.parametrize("forge", [tampered, unsigned, of_another_car])
async def test_what_its_own_car_hasnt_signed_is_foreign(
    tmp_path: Path, forge: Callable[[ModelUpdate, Car], bytes]
) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        car, other = await rig.car("car-1"), await rig.car("car-2")
        await rig.receive("car-1", forge(update_of(plan, car.keys.sign, 1.0, seq=2), other))
        await rig.settle()
        assert (await rig.plan_status()).vehicles == {"car-1": {"foreign": 1}}
        assert (await rig.rows("learning_update"))["learning_update"] == []


async def test_a_stale_update_is_refused_and_one_that_is_just_not_is_taken(tmp_path: Path) -> None:
    async with a_rig(tmp_path, buffer=1) as rig:
        plan = await rig.begin()
        for seq in (1, 2, 3):
            await rig.learned(plan, "car-1", 1.0, seq=seq)
            await rig.settle()
        status = await rig.plan_status()
        assert (status.counts, status.line.number) == ({"admitted": 2, "stale": 1}, 2), "max_staleness is 1"


@pytest.mark.parametrize(
    "event",
    [
        b"\x81\xa4kind\xa7learned",
        b"\xc0",
        encode_event(Health("a", "b")),
        msgspec.msgpack.encode({"kind": "x"}),
        told(update_of(plan_of(), lambda message: b"", 1.0)).replace(b"lights", b"l\xffghts"),
    ],
    ids=["empty", "nothing", "another_kind", "unknown_kind", "a_name_that_isnt_utf8"],
)
async def test_a_record_that_is_no_update_is_malformed_and_those_beside_it_count(tmp_path: Path, event: bytes) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        car = await rig.car("car-1")
        await rig.receive("car-1", event, told(update_of(plan, car.keys.sign, 1.0)))
        await rig.settle()
        status = await rig.status()
        assert status.unknown == {"car-1": {"malformed": 1}}
        assert status.plans[0].counts == {"admitted": 1}


async def test_a_vehicle_that_is_refused_again_and_again_fills_neither_chain_nor_tables(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        await rig.begin()
        car = await rig.car("car-1")
        before = len(await rig.audit())
        for number in range(20):
            plan = plan_of(name=f"mine-{number}")
            await rig.receive("car-1", *(told(update_of(plan, car.keys.sign, 1.0, seq=seq)) for seq in range(1, 6)))
            await rig.settle()
        assert (await rig.status()).unknown == {"car-1": {"unknown_plan": 100}}
        assert len(await rig.audit()) == before + 1
        assert len((await rig.rows("learning_count"))["learning_count"]) == 1


async def test_a_vehicle_that_is_refused_too_often_at_once_isnt_looked_at_further_and_others_are(
    tmp_path: Path,
) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        car = await rig.car("car-1")
        await rig.receive("car-1", *[told(update_of(plan, lambda message: b"", 1.0))] * 3000)
        await rig.receive("car-1", told(update_of(plan, car.keys.sign, 1.0)))
        await rig.learned(plan, "car-2", 1.0)
        await rig.settle()
        status = await rig.status()
        assert status.plans[0].vehicles == {"car-1": {"foreign": REFUSED_AT_ONCE}, "car-2": {"admitted": 1}}
        assert status.unknown == {"car-1": {"excessive": 3000 + 1 - REFUSED_AT_ONCE}}
        await rig.learned(plan, "car-1", 1.0, seq=2)
        await rig.settle()
        assert (await rig.plan_status()).vehicles["car-1"]["admitted"] == 1, "another time it is heard again"


async def test_the_same_update_twice_in_one_block_counts_once(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        car = await rig.car("car-1")
        await rig.receive("car-1", *[told(update_of(plan, car.keys.sign, 1.0))] * 3)
        await rig.settle()
        assert (await rig.plan_status()).counts == {"admitted": 1, "replayed": 2}


async def test_only_learned_blocks_of_their_own_lane_are_read(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        car = await rig.car("car-1")
        good = told(update_of(plan, car.keys.sign, 1.0))
        for lane, purpose in ((Lane.P3, Purpose.PERCEPTION), (Lane.P1, Purpose.LEARNING)):
            block = block_of(good, lane=lane, purpose=purpose)
            header, body = unpack_block(block)
            await rig.store.transact(inbox.commit, [Arrival("car-1", header, block, body)], 1)
        assert not await rig.desk.judge_some()


# --- keys ---------------------------------------------------------------------------------------------


async def renewed(rig: Rig, car: Car) -> MemoryKeyStore:
    """The key from before, which is used no more."""
    old, new = car.keys, MemoryKeyStore()
    pending = new.begin_identity()
    issued = await rig.store.transact(
        admission.renew, rig.authority, car.identity, pending.csr(car.name), rig.clock.wall_ns()
    )
    new.install(pending, issued.pem)
    car.keys = new
    return old


async def signed_by(rig: Rig, plan: Plan, keys: MemoryKeyStore) -> dict[str, int]:
    await rig.receive("car-1", told(update_of(plan, keys.sign, 1.0)))
    await rig.settle()
    return (await rig.plan_status()).vehicles["car-1"]


async def test_what_waited_while_the_key_was_renewed_is_still_its_cars(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        car = await rig.car("car-1")
        old = await renewed(rig, car)
        assert await signed_by(rig, plan, old) == {"admitted": 1}
        await rig.learned(plan, "car-1", 1.0, seq=2)
        await rig.settle()
        assert (await rig.plan_status()).counts == {"admitted": 2}


async def test_a_key_whose_certificate_had_ended_when_the_update_came_signs_nothing(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        car = await rig.car("car-1")
        rig.clock.advance(13 * DAY_NS)
        old = await renewed(rig, car)
        rig.clock.advance(15 * DAY_NS)
        assert await signed_by(rig, plan, old) == {"foreign": 1}
        await rig.learned(plan, "car-1", 1.0)
        await rig.settle()
        assert (await rig.plan_status()).counts == {"admitted": 1, "foreign": 1}


async def test_of_very_many_keys_it_is_the_newest_that_are_tried(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        car = await rig.car("car-1")
        oldest = car.keys
        for _ in range(KEYS_TRIED):
            rig.clock.advance(rig.clock.boot_ns() + 3600 * SECOND_NS)
            await renewed(rig, car)
        assert await signed_by(rig, plan, oldest) == {"foreign": 1}
        assert await signed_by(rig, plan, car.keys) == {"admitted": 1, "foreign": 1}


async def test_it_is_when_an_update_came_that_counts_and_not_when_it_is_judged(tmp_path: Path) -> None:
    async with a_rig(tmp_path) as rig:
        plan = await rig.begin()
        await rig.learned(plan, "car-1", 1.0)
        rig.clock.advance(DAY_NS)
        await rig.store.transact(admission.revoke, "car-1", rig.clock.wall_ns())
        await rig.settle()
        assert (await rig.plan_status()).counts == {"admitted": 1}
        car = rig.cars["car-1"]
        await rig.receive("car-1", told(update_of(plan, car.keys.sign, 1.0, seq=2)))
        await rig.settle()
        assert (await rig.plan_status()).counts == {"admitted": 1, "foreign": 1}
