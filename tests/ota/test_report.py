"""What a vehicle says of its slots is believed by its own signature, once, and of nobody else."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFull, RealDisk
from ecu.keys import NoIdentity
from ota.errors import TrustError
from ota.fetch import fetch_manifest
from ota.kinds import Kind
from ota.machine import Event
from ota.report import DOMAIN, MAX_MANIFEST_BYTES, Image, NotBelieved, Reporter, SignedManifest, believed
from ota.trust import Vehicle
from ota.updates import Notice, Updates
from tests.ota.changed import Changed
from tests.ota.fleet import CAR, HARDWARE, Fleet

IMAGE = Image("model/drive-1.0.json", 700, "ab" * 32, 3)


class Identity:
    """A vehicle's key, without the store that keeps it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))

    def verify(self, message: bytes, signature: bytes) -> bool:
        try:
            self._key.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


IDENTITY = Identity()


def made(disk: CrashDisk | None = None, vehicle: str = CAR, attack: str = "") -> bytes:
    return Reporter(disk or CrashDisk(), vehicle, HARDWARE, IDENTITY).manifest(
        {Kind.MODEL: IMAGE}, attack, 1_700_000_000
    )


def test_a_manifest_says_what_lies_in_the_good_slots_and_who_says_it() -> None:
    manifest = believed(made(attack="rollback: offered 1\x1b"), CAR, IDENTITY.verify, 0)
    assert (manifest.vehicle, manifest.hardware, manifest.counter) == (CAR, HARDWARE, 1)
    assert manifest.installed == {Kind.MODEL: IMAGE}
    assert manifest.verified_at_s == 1_700_000_000
    assert manifest.attack.startswith("rollback: offered 1")
    assert manifest.attack.isprintable()
    assert manifest.holds(IMAGE.sha256)
    assert not manifest.holds("cd" * 32)


def test_nobody_elses_manifest_is_believed() -> None:
    stranger = Identity()
    with pytest.raises(NotBelieved, match="isn't signed by car-1"):
        believed(made(), CAR, stranger.verify, 0)
    with pytest.raises(NotBelieved, match="car-1 sent a version manifest of car-2"):
        believed(made(vehicle="car-2"), CAR, IDENTITY.verify, 0)


def test_a_manifest_is_believed_once_and_no_older_one_after_it() -> None:
    disk = CrashDisk()
    first, second = made(disk), made(disk)
    assert believed(second, CAR, IDENTITY.verify, 0).counter == 2
    for seen in (first, second):
        with pytest.raises(NotBelieved, match="2 came before"):
            believed(seen, CAR, IDENTITY.verify, 2)


WHOLE = made()


@given(st.integers(0, len(WHOLE) * 8 - 1))
def test_not_one_changed_bit_is_believed(at: int) -> None:
    changed = bytearray(WHOLE)
    changed[at // 8] ^= 1 << at % 8
    with pytest.raises(NotBelieved):
        believed(bytes(changed), CAR, IDENTITY.verify, 0)


@settings(max_examples=30)
@given(st.binary(max_size=300) | st.binary(min_size=MAX_MANIFEST_BYTES + 1, max_size=MAX_MANIFEST_BYTES + 9))
def test_nonsense_is_refused_and_nothing_else_happens(nonsense: bytes) -> None:
    with pytest.raises(NotBelieved):
        believed(nonsense, CAR, lambda message, signature: True, 0)
    signed = msgspec.msgpack.encode(SignedManifest(nonsense[:4000], IDENTITY.sign(DOMAIN + nonsense[:4000])))
    with pytest.raises(NotBelieved):
        believed(signed, CAR, IDENTITY.verify, 0)


def test_what_the_identity_signs_elsewhere_is_no_manifest() -> None:
    payload = msgspec.msgpack.decode(made(), type=SignedManifest).payload
    for message in (payload, b"outrider learned 1\n" + payload):
        data = msgspec.msgpack.encode(SignedManifest(payload, IDENTITY.sign(message)))
        with pytest.raises(NotBelieved, match="isn't signed"):
            believed(data, CAR, IDENTITY.verify, 0)


def test_no_power_cut_makes_a_counter_come_twice() -> None:
    disk = CrashDisk()
    told: list[int] = []
    for _ in range(3):
        told.append(believed(made(disk), CAR, IDENTITY.verify, 0).counter)
        disk.mark(str(told[-1]))
    for state in disk.after_crash():
        after = believed(made(state.disk), CAR, IDENTITY.verify, 0).counter
        assert after > max(map(int, state.acknowledged), default=0), state.describe


def test_the_document_shows_a_manifest_that_can_be_read() -> None:
    page = (Path(__file__).parents[2] / "docs/formats/version-manifest.md").read_text()
    shown = page.partition("```json\n")[2].partition("\n```")[0]
    payload = json.dumps(json.loads(shown)).encode()
    data = msgspec.msgpack.encode(SignedManifest(payload, IDENTITY.sign(DOMAIN + payload)))
    assert believed(data, CAR, IDENTITY.verify, 0).holds("ab" * 32)


# --- as updates tell it -----------------------------------------------------------------------------


class Unpaired:
    def sign(self, message: bytes) -> bytes:
        raise NoIdentity("not paired")


def test_each_notice_brings_what_the_slots_hold_just_then(fleet: Fleet, state: Path) -> None:
    state.mkdir()
    notices: list[Notice] = []
    updates = Updates(
        RealDisk(state), fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, notices.append, signer=IDENTITY
    )
    fleet.assign(fleet.release("1.0", 1, kind=Kind.CAMPAIGN), fleet.release("2.0", 1))
    offers = {offer.kind: offer for offer in updates.check(fleet.source())}
    for offer in offers.values():
        updates.install(fleet.source(), offer, lambda _: None)
    told = [believed(notice.manifest, CAR, IDENTITY.verify, number) for number, notice in enumerate(notices)]
    taken, staged = offers[Kind.CAMPAIGN], offers[Kind.MODEL]
    assert told[-1].holds(taken.sha256)
    assert not told[-1].holds(staged.sha256), "a release that is only tried isn't what the vehicle runs"
    assert told[-1].installed[Kind.CAMPAIGN].length == len(fetch_manifest(fleet.source(), taken))
    for event in (Event.LOADED, Event.PASSED, Event.PROVEN):
        updates.handle(Kind.MODEL, event, "fine")
    assert believed(notices[-1].manifest, CAR, IDENTITY.verify, 0).holds(staged.sha256)


def test_an_attack_that_stands_is_in_the_manifest(fleet: Fleet, state: Path) -> None:
    state.mkdir()
    fleet.assign(fleet.release("1.0", 1), vehicle="car-2")
    notices: list[Notice] = []
    updates = Updates(
        RealDisk(state), fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, notices.append, signer=IDENTITY
    )
    with pytest.raises(TrustError):
        updates.check(Changed(fleet.source("car-2")))
    assert believed(notices[-1].manifest, CAR, IDENTITY.verify, 0).attack.startswith("wrong-vehicle: ")


def test_a_vehicle_that_cant_sign_reports_all_the_same(fleet: Fleet, state: Path) -> None:
    state.mkdir()
    notices: list[Notice] = []
    updates = Updates(
        RealDisk(state), fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, notices.append, signer=Unpaired()
    )
    fleet.assign(fleet.release("1.0", 1))
    (offer,) = updates.check(fleet.source())
    updates.install(fleet.source(), offer, lambda _: None)
    assert [notice.manifest for notice in notices] == [b""]


def test_a_full_disk_takes_no_report_away(fleet: Fleet) -> None:
    disk = CrashDisk()
    notices: list[Notice] = []
    updates = Updates(disk, fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, notices.append, signer=IDENTITY)
    fleet.assign(fleet.release("1.0", 1))
    (offer,) = updates.check(fleet.source())
    disk.fail(lambda call: call.path.startswith("report.counter"), DiskFull("no space"))
    updates.install(fleet.source(), offer, lambda _: None)
    assert [notice.manifest for notice in notices] == [b""]
