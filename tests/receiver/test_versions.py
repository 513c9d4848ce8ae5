"""A vehicle's slots are known by its own signature alone, and an older word never takes the place of a newer one."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Connection, insert

from ecu.crashdisk import CrashDisk
from ota.kinds import Kind
from ota.report import Image, Reporter
from receiver import inbox, versions
from receiver.store import Store
from receiver.tables import credential
from telemetry.records import UpdateReport
from tests.receiver.fleet import VEHICLE
from tests.receiver.test_completeness import told
from tests.receiver.test_inbox import a_store, arrival

DIGEST = "ab" * 32


class Car:
    """A vehicle whose certificate the receiver issued."""

    def __init__(self, vehicle: str = VEHICLE) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.reporter = Reporter(CrashDisk(), vehicle, "x86_64", self)

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def certify(self, connection: Connection, not_after_ns: int = 100) -> None:
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        row = {"serial": "a", "vehicle": VEHICLE, "issued_ns": 1, "not_after_ns": not_after_ns, "public_key": public}
        connection.execute(insert(credential), [row])

    def report(self, digest: str = DIGEST) -> UpdateReport:
        installed = {Kind.MODEL: Image("model/drive-1.0.json", 700, digest, 3)}
        return UpdateReport("committed", "model", "drive", digest, "", "", self.reporter.manifest(installed, "", 5))


async def has(store: Store, digest: str = DIGEST) -> bool:
    return await store.transact(versions.has_committed, VEHICLE, digest)


async def take(store: Store, *reports: UpdateReport, base_seq: int = 0, now_ns: int = 50) -> None:
    block = told(*reports, base_seq=base_seq)
    (verdict,) = await store.transact(inbox.commit, [arrival(block)], now_ns)
    assert verdict.is_stored


async def test_a_release_is_installed_when_its_vehicle_signed_that_and_not_when_it_only_says_so(tmp_path: Path) -> None:
    car = Car()
    async with a_store(tmp_path) as store:
        await store.transact(car.certify)
        await take(store, UpdateReport("committed", "model", "drive", DIGEST, "", ""))
        assert not await has(store)
        await take(store, car.report(), base_seq=1)
        assert await has(store)
        assert not await has(store, "cd" * 32)


@pytest.mark.parametrize("wrong", ["stranger", "other vehicle", "ended"])
async def test_what_a_vehicle_didnt_sign_itself_is_stored_and_not_believed(tmp_path: Path, wrong: str) -> None:
    car = Car("veh-999" if wrong == "other vehicle" else VEHICLE)
    async with a_store(tmp_path) as store:
        await store.transact((Car() if wrong == "stranger" else car).certify, 10 if wrong == "ended" else 100)
        await take(store, car.report())
        assert not await has(store)


async def test_the_newest_word_counts_whichever_comes_last(tmp_path: Path) -> None:
    car = Car()
    old, new = car.report("cd" * 32), car.report()
    async with a_store(tmp_path) as store:
        await store.transact(car.certify)
        await take(store, new)
        await take(store, old, base_seq=1)
        assert await has(store)
        assert not await has(store, "cd" * 32)


async def test_of_a_flood_of_manifests_few_are_looked_at_and_the_last_is_one_of_them(tmp_path: Path) -> None:
    car = Car()
    async with a_store(tmp_path) as store:
        await store.transact(car.certify)
        await take(store, *[car.report("cd" * 32) for _ in range(versions.MANIFESTS_A_BLOCK * 2)], car.report())
        assert await has(store)
