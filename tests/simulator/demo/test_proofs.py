"""What is read off the disks afterwards: keys wherever they were copied, records as they were stored."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ecu.clock import SystemClock
from ecu.disk import RealDisk
from ecu.keys import FileKeyStore
from receiver.pki import Authority
from simulator.demo.demo import DRIVE, FIDELITY_SCORES, MODEL
from simulator.demo.proofs import KeyWatch, drive_frames, fidelity, stored_records, watch_key
from telemetry.records import Lane
from telemetry.wire import BadBlock
from tests.receiver.fleet import a_receiver, a_vehicle, make_block

VEHICLE = "veh-001"
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
Form = Callable[[ec.EllipticCurvePrivateKey], bytes]
PKCS8, SEC1 = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL


@dataclass(frozen=True, slots=True)
class Scene:
    """A run's folders: a paired vehicle's and its receiver's."""

    root: Path

    @property
    def vehicle(self) -> Path:
        return self.root / "vehicle"

    def watch(self) -> KeyWatch:
        return watch_key(self.root, self.vehicle)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    authority = Authority(RealDisk(tmp_path / "receiver"), SystemClock(), vehicle_days=1.0)
    keys = FileKeyStore.open(scene.vehicle / "keys")
    pending = keys.begin_identity()
    keys.install(pending, authority.issue(pending.csr(VEHICLE), VEHICLE).pem)
    keys.seal("spool", b"a storage root is a secret of its own")
    return scene


def key_of(scene: Scene) -> ec.EllipticCurvePrivateKey:
    pem = FileKeyStore.open(scene.vehicle / "keys")._active().pem()
    key = serialization.load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def scalar(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_numbers().private_value.to_bytes(32, "big")


def packed(encoding: serialization.Encoding, form: serialization.PrivateFormat) -> Form:
    return lambda key: key.private_bytes(encoding, form, serialization.NoEncryption())


FORMS: dict[str, Form] = {
    "PEM": packed(PEM, PKCS8),
    "PEM of another style": packed(PEM, SEC1),
    "PEM in a JSON string": lambda key: packed(PEM, PKCS8)(key).replace(b"\n", b"\\n"),
    "PEM with a carriage return": lambda key: packed(PEM, PKCS8)(key).replace(b"\n", b"\r\n"),
    "DER": packed(DER, PKCS8),
    "DER of another style": packed(DER, SEC1),
    "base64 in one line": lambda key: base64.b64encode(packed(DER, PKCS8)(key)),
    "raw number": scalar,
    "hex": lambda key: scalar(key).hex().encode(),
    "capital hex": lambda key: scalar(key).hex().upper().encode(),
    "base64 of the number": lambda key: base64.b64encode(scalar(key)),
    "as in a JSON web key": lambda key: base64.urlsafe_b64encode(scalar(key)).rstrip(b"="),
}


def test_a_key_that_stayed_at_home_is_held_certified_and_nowhere_else(scene: Scene) -> None:
    assert scene.watch() == KeyWatch(held=1, leaks=(), certified=True)


@pytest.mark.parametrize("form", FORMS)
def test_a_copy_is_found_in_whatever_form(scene: Scene, form: str) -> None:
    leak = scene.root / "receiver" / "logs" / "request.log"
    leak.parent.mkdir()
    leak.write_bytes(b"POST /v1/pair " + FORMS[form](key_of(scene)) + b" 200\n")
    assert scene.watch().leaks == (leak,)


def test_every_copy_is_counted_and_no_strangers_key(scene: Scene) -> None:
    stranger = packed(PEM, PKCS8)(ec.generate_private_key(ec.SECP256R1()))
    (scene.root / "stranger.pem").write_bytes(stranger)
    for name in ("one", "two"):
        (scene.root / name).write_bytes(scalar(key_of(scene)))
    assert scene.watch().leaks == (scene.root / "one", scene.root / "two")


def test_a_vehicle_without_a_key_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "vehicle" / "keys").mkdir(parents=True)
    found = watch_key(tmp_path, tmp_path / "vehicle")
    assert (found.held, found.certified) == (0, False)


def test_a_certificate_of_another_key_does_not_certify_this_one(scene: Scene) -> None:
    authority = Authority(RealDisk(scene.root / "receiver"), SystemClock(), vehicle_days=1.0)
    stranger = FileKeyStore.open(scene.root / "elsewhere").begin_identity()
    (scene.vehicle / "keys" / "other.pem").write_bytes(authority.issue(stranger.csr(VEHICLE), VEHICLE).pem)
    assert not scene.watch().certified


# --- the inbox --------------------------------------------------------------------------------------------------------


async def test_stored_records_are_those_of_the_vehicle_in_order(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        names = ("veh-001", "veh-002")
        for vehicle in [await a_vehicle(receiver, tmp_path, name) for name in names]:
            link = vehicle.link()
            await link.connect()
            for base_seq in (3, 0):
                await link.publish(Lane.P1, make_block(base_seq, note=vehicle.name))
            await link.close()
    stored = await asyncio.to_thread(lambda: list(stored_records(tmp_path / "receiver" / "receiver.sqlite", names[0])))
    assert [record.seq for record in stored] == [0, 1, 2, 3, 4, 5]
    assert all(names[0].encode() in bytes(record.record.event) for record in stored)
    assert all(record.received_ns > 0 for record in stored)


def test_an_inbox_with_other_bytes_is_no_proof(tmp_path: Path) -> None:
    database = tmp_path / "receiver.sqlite"
    with sqlite3.connect(database) as connection:
        connection.execute("create table inbox (vehicle, lane, epoch, base_seq, received_ns, block)")
        connection.execute("insert into inbox values ('v', 1, x'00', 0, 1, x'00')")
    connection.close()
    with pytest.raises(BadBlock):
        list(stored_records(database, "v"))


# --- fidelity ---------------------------------------------------------------------------------------------------------


def test_every_nth_frame_is_that_frame() -> None:
    dense = dict(zip(range(21), drive_frames(DRIVE, 1), strict=False))
    sparse = {10 * n: frame for n, frame in zip(range(3), drive_frames(DRIVE, 10), strict=False)}
    assert all(np.array_equal(frame, dense[index]) for index, frame in sparse.items())


def test_the_packaged_model_agrees_with_its_reference() -> None:
    found = fidelity(MODEL, DRIVE, 40, FIDELITY_SCORES, referee=MODEL)
    assert set(found) == set(FIDELITY_SCORES)
    assert all(0.9 <= agreement.f1 <= 1.0 for agreement in found.values())
