"""Updates over HTTPS from a real receiver: each vehicle sees its own, from any offset, and strangers nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from agent.updatesource import ReceiverSource
from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.errors import UsageFault
from ota.errors import Attack, FetchError, NotThere, TrustError
from ota.fetch import fetch_bundle, fetch_manifest
from ota.floors import Floors
from ota.kinds import Kind
from ota.layout import file_path
from ota.manifest import BLOCK_BYTES, decode_manifest, encode_manifest
from ota.repository.deltas import make_deltas
from ota.slots import Slot, Slots
from ota.trust import Roots, Trust
from ota.trust import Vehicle as Whose
from tests.ota.differing import SIZE, contents, with_release_1
from tests.ota.fleet import Fleet
from tests.receiver.fleet import Vehicle, a_receiver, a_vehicle

CAR = "veh-001"


def source_of(vehicle: Vehicle) -> ReceiverSource:
    paired = vehicle.paired
    return ReceiverSource(paired.host, paired.https_port, vehicle.context(), SystemClock(), timeout_s=10)


def trust_of(vehicle: Vehicle, state: Path) -> Trust:
    state.mkdir()
    disk = RealDisk(state)
    roots = Roots(vehicle.paired.director_root.encode(), vehicle.paired.image_root.encode())
    return Trust(disk, roots, Whose(vehicle.name, "x86_64"), Floors(disk), SystemClock())


@pytest.fixture
def todays(tmp_path: Path) -> Fleet:
    """Signed today: the receiver's certificates are."""
    return Fleet(tmp_path / "fleet", SystemClock())


async def test_a_paired_vehicle_verifies_and_fetches_what_it_is_to_have(todays: Fleet, tmp_path: Path) -> None:
    content = os.urandom(2 * BLOCK_BYTES + 77)
    todays.assign(todays.release("1.0", 1, content=content), vehicle=CAR)
    async with a_receiver(tmp_path, updates=str(todays.repo)) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        source, slots = source_of(vehicle), Slots(RealDisk(tmp_path / "slots"), Kind.MODEL)

        def install() -> None:
            (offer,) = trust_of(vehicle, tmp_path / "state").refresh(source)
            manifest = fetch_manifest(source, offer)
            slots.empty(Slot.A)
            fetch_bundle(source, decode_manifest(manifest), slots, Slot.A, lambda _: None)
            slots.seal(Slot.A, manifest)

        await asyncio.to_thread(install)
        source.close()
    assert (tmp_path / "slots" / str(slots.path(Slot.A)) / "model.onnx").read_bytes() == content


async def test_a_vehicle_that_has_the_old_release_fetches_the_difference(todays: Fleet, tmp_path: Path) -> None:
    old, new = (todays.release(f"{number}.0", number, files=dict(contents(number))) for number in (1, 2))
    make_deltas(RealDisk(todays.repo), todays.images, old.target, new.target, lambda size: None)
    (tmp_path / "slots").mkdir()
    slots = with_release_1(RealDisk(tmp_path / "slots"))
    async with a_receiver(tmp_path, updates=str(todays.repo)) as receiver:
        source = source_of(await a_vehicle(receiver, tmp_path))
        came = await asyncio.to_thread(fetch_bundle, source, new, slots, Slot.B, lambda _: None)
        source.close()
    assert (came.by_delta, came.unfit) == (SIZE, 0)
    assert came.delta_bytes <= 0.12 * SIZE
    slots.seal(Slot.B, encode_manifest(new))


async def test_a_file_is_read_from_any_offset_and_no_further_than_asked(todays: Fleet, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    manifest = todays.release("1.0", 1, content=content)
    path = file_path(manifest.files[0].sha256)
    async with a_receiver(tmp_path, updates=str(todays.repo)) as receiver:
        source = source_of(await a_vehicle(receiver, tmp_path))

        def read(offset: int, most: int) -> bytes:
            return b"".join(source.read(path, offset, most))

        for offset, most in ((0, 300_000), (0, 10), (123_456, 100_000), (299_990, 10), (299_990, 999)):
            assert await asyncio.to_thread(read, offset, most) == content[offset : offset + most]
        with pytest.raises(NotThere):
            await asyncio.to_thread(read, 300_001, 10)
        source.close()


async def test_each_vehicle_sees_the_directors_word_for_itself_alone(todays: Fleet, tmp_path: Path) -> None:
    todays.assign(todays.release("1.0", 1), vehicle=CAR)
    async with a_receiver(tmp_path, updates=str(todays.repo)) as receiver:
        other = await a_vehicle(receiver, tmp_path, name="veh-002")
        source = source_of(other)
        with pytest.raises(NotThere):
            await asyncio.to_thread(lambda: list(source.read("director/timestamp.json", 0, 10_000)))
        with pytest.raises(NotThere):
            await asyncio.to_thread(lambda: list(source.read(f"director/vehicles/{CAR}/timestamp.json", 0, 10_000)))
        # A receiver that shows it another vehicle's all the same is found out.
        folder = todays.repo / "director/vehicles"
        (folder / "veh-002").symlink_to(folder / CAR)
        trust = trust_of(other, tmp_path / "state")
        with pytest.raises(TrustError) as refusal:
            await asyncio.to_thread(trust.refresh, source)
        assert refusal.value.attack is Attack.WRONG_VEHICLE
        source.close()


async def test_a_revoked_vehicle_and_one_without_a_certificate_get_nothing(todays: Fleet, tmp_path: Path) -> None:
    todays.assign(todays.release("1.0", 1), vehicle=CAR)
    async with a_receiver(tmp_path, updates=str(todays.repo)) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        source = source_of(vehicle)
        assert await asyncio.to_thread(lambda: list(source.read("director/timestamp.json", 0, 10_000)))
        await receiver.operator.revoke(CAR)
        with pytest.raises(FetchError, match="answered 403"):
            await asyncio.to_thread(lambda: list(source.read("director/timestamp.json", 0, 10_000)))
        source.close()


async def test_a_receiver_without_updates_gives_no_roots_and_no_files(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        assert (vehicle.paired.director_root, vehicle.paired.image_root) == ("", "")
        source = source_of(vehicle)
        with pytest.raises(NotThere):
            await asyncio.to_thread(lambda: list(source.read("director/timestamp.json", 0, 10_000)))
        source.close()


async def test_an_operator_is_told_of_a_folder_that_nobody_has_published_to(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, updates=str(tmp_path / "nothing")) as receiver:
        with pytest.raises(UsageFault, match="outrider ota init"):
            await receiver.operator.enrol(CAR)


async def test_a_receiver_that_is_gone_is_told_of_and_one_that_came_back_is_asked_again(
    todays: Fleet, tmp_path: Path
) -> None:
    todays.assign(todays.release("1.0", 1), vehicle=CAR)

    def look() -> list[bytes]:
        return list(source.read("director/timestamp.json", 0, 10_000))

    async with a_receiver(tmp_path, updates=str(todays.repo)) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        source = source_of(vehicle)
        assert await asyncio.to_thread(look)
        mqtt_port, https_port = receiver.address.mqtt_port, receiver.address.https_port
    with pytest.raises(FetchError):
        await asyncio.to_thread(look)
    async with a_receiver(tmp_path, updates=str(todays.repo), mqtt_port=mqtt_port, https_port=https_port):
        assert await asyncio.to_thread(look)
        source.close()
