"""The vehicle's pairing: trust in one authority only, keys that never leave, refusals in words."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from agent.pairing import (
    PAIRED_FILE,
    PairingRefused,
    fetch_time,
    is_signed,
    load_paired,
    own_certificate,
    pair,
    read_pairing_file,
    renew,
    tls_context,
)
from ecu.clock import SECOND_NS, OffsetClock, SystemClock
from ecu.disk import DiskFull, RealDisk
from ecu.errors import EXIT_NO, EXIT_USAGE, UsageFault
from ecu.keys import FileKeyStore, MemoryKeyStore, PendingIdentity, RenewalUnfinished
from receiver.pki import Authority
from telemetry.links.link import ClockUntrusted, Throttled, Unreachable, Untrusted
from telemetry.links.pairing import Issued, PairingFile, TimeAnswer, time_message
from tests.receiver.fleet import VEHICLE, a_receiver, a_vehicle, todays_clock
from tests.verbs import said

DAY_NS = 86_400 * SECOND_NS
YEARS_NS = 3650 * DAY_NS


def a_disk(folder: Path) -> RealDisk:
    disk = RealDisk(folder / "vehicle")
    disk.make_folder("")
    return disk


async def pairing_error(file: PairingFile, folder: Path, kind: type[Exception]) -> str:
    disk, keys = a_disk(folder), MemoryKeyStore()
    with pytest.raises(kind) as caught:
        await asyncio.to_thread(pair, file, keys, disk, SystemClock(), 5.0)
    assert keys.certificate() is None
    assert not disk.exists(PAIRED_FILE)
    return str(caught.value)


async def test_pairing_gives_a_certificate_for_a_key_made_here_and_remembers_no_secret(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        disk, keys = a_disk(tmp_path), MemoryKeyStore()
        paired = await asyncio.to_thread(pair, file, keys, disk, SystemClock())
        assert load_paired(disk) == paired
        assert (paired.vehicle, paired.mqtt_port) == (VEHICLE, receiver.address.mqtt_port)
        assert file.token.encode() not in disk.read(PAIRED_FILE)
        certificate = keys.certificate()
        assert certificate is not None
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(receiver.authority.certificate)


async def test_a_spent_or_invented_token_is_refused_in_words(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        await asyncio.to_thread(pair, file, MemoryKeyStore(), a_disk(tmp_path / "first"), SystemClock())
        assert "was used already" in await pairing_error(file, tmp_path, PairingRefused)
        invented = msgspec.structs.replace(file, token="invented")
        assert "none of this receiver's" in await pairing_error(invented, tmp_path, PairingRefused)


class CutShort(MemoryKeyStore):
    """Loses power when the certificate has come and isn't installed yet, once."""

    def install(self, pending: PendingIdentity, certificate_pem: bytes) -> None:
        if not hasattr(self, "was_cut"):
            self.was_cut = True
            raise PowerLost
        super().install(pending, certificate_pem)


class PowerLost(Exception):
    """The end of a process."""


async def test_a_pairing_cut_short_after_the_token_was_spent_is_finished_by_doing_it_again(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        disk, keys = a_disk(tmp_path), CutShort()
        with pytest.raises(PowerLost):
            await asyncio.to_thread(pair, file, keys, disk, SystemClock())
        assert keys.certificate() is None
        await asyncio.to_thread(pair, file, keys, disk, SystemClock())
        assert keys.certificate() is not None
        assert load_paired(disk).vehicle == VEHICLE


class NoRoom(RealDisk):
    """The receiver's address can't be written."""

    def rename(self, old: str, new: str) -> None:
        raise DiskFull("no space")


async def test_a_certificate_is_never_installed_before_its_receiver_is_remembered(tmp_path: Path) -> None:
    """Else a cut between the two would leave a spent token and nobody to speak to."""
    async with a_receiver(tmp_path) as receiver:
        file, keys = await receiver.operator.enrol(VEHICLE), MemoryKeyStore()
        a_disk(tmp_path)
        with pytest.raises(DiskFull):
            await asyncio.to_thread(pair, file, keys, NoRoom(tmp_path / "vehicle"), SystemClock())
        assert keys.certificate() is None
        await asyncio.to_thread(pair, file, keys, a_disk(tmp_path), SystemClock())
        assert keys.certificate() is not None


async def test_only_the_authority_in_the_file_is_trusted(tmp_path: Path) -> None:
    async with a_receiver(tmp_path / "ours") as ours, a_receiver(tmp_path / "theirs") as theirs:
        file = await ours.operator.enrol(VEHICLE)
        elsewhere = msgspec.structs.replace(file, https_port=theirs.address.https_port)
        assert "isn't signed by the authority" in await pairing_error(elsewhere, tmp_path, Untrusted)
        assert theirs.counters.pairing_refused == 0  # the token was never sent there


async def test_a_certificate_for_another_host_is_not_trusted(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, hosts=("receiver.example",)) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        assert file.host == "receiver.example"
        here = msgspec.structs.replace(file, host="localhost")
        assert "isn't for localhost" in await pairing_error(here, tmp_path, Untrusted)


async def test_nobody_there_is_unreachable_and_says_so(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
    assert "Is the receiver running?" in await pairing_error(file, tmp_path, Unreachable)


async def test_a_port_that_speaks_something_else_is_not_believed(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            wrong = msgspec.structs.replace(file, https_port=port)
            assert await pairing_error(wrong, tmp_path, Unreachable)


async def test_too_many_refusals_ask_for_patience(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, refusals_at_once=1, refusals_per_minute=1) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        invented = msgspec.structs.replace(file, token="invented")
        await pairing_error(invented, tmp_path, PairingRefused)
        disk = a_disk(tmp_path)
        with pytest.raises(Throttled) as caught:
            await asyncio.to_thread(pair, invented, MemoryKeyStore(), disk, SystemClock())
        assert 1 <= caught.value.after_s <= 61


async def test_a_clock_in_the_past_is_the_suspect_and_signed_time_mends_it(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        clock = OffsetClock(SystemClock(), offset_ns=-YEARS_NS)
        disk, keys = a_disk(tmp_path), MemoryKeyStore()
        with pytest.raises(ClockUntrusted, match="Get the time first"):
            await asyncio.to_thread(pair, file, keys, disk, clock)
        time = await asyncio.to_thread(fetch_time, file, clock)
        assert 0 <= time.within_ns < 10 * SECOND_NS
        clock.correct(time.wall_ns)
        assert (await asyncio.to_thread(pair, file, keys, disk, clock)).vehicle == VEHICLE


async def test_a_clock_in_the_future_finds_the_receiver_expired(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        clock = OffsetClock(SystemClock(), offset_ns=YEARS_NS)
        disk = a_disk(tmp_path)
        with pytest.raises(Untrusted, match="expired"):
            await asyncio.to_thread(pair, file, MemoryKeyStore(), disk, clock)


async def test_time_from_another_authority_or_host_is_not_asked_for(tmp_path: Path) -> None:
    async with a_receiver(tmp_path / "ours") as ours, a_receiver(tmp_path / "theirs") as theirs:
        file = await ours.operator.enrol(VEHICLE)
        elsewhere = msgspec.structs.replace(file, https_port=theirs.address.https_port)
        with pytest.raises(Untrusted):
            await asyncio.to_thread(fetch_time, elsewhere, SystemClock())


def test_a_time_that_the_authority_did_not_sign_for_this_nonce_is_none(tmp_path: Path) -> None:
    authority, nonce, change = Authority(RealDisk(tmp_path), SystemClock(), 1), "ab" * 16, msgspec.structs.replace
    true = TimeAnswer(5, nonce, authority.sign(time_message(nonce, 5)).hex())
    assert is_signed(true, nonce, authority.pem)
    for forged in (
        change(true, wall_ns=6),
        change(true, nonce="00" * 16),
        change(true, signature="00"),
        change(true, signature="no hex"),
    ):
        assert not is_signed(forged, nonce, authority.pem)


async def test_renewal_is_by_a_new_key_and_keeps_the_old_until_the_new_has_connected(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        before = vehicle.keys.certificate()
        await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
        after = vehicle.keys.certificate()
        assert before is not None
        assert after is not None
        keys = [x509.load_pem_x509_certificate(pem).public_key() for pem in (before, after)]
        assert keys[0] != keys[1]
        with pytest.raises(RenewalUnfinished):
            await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
        link = vehicle.link()
        await link.connect()
        await link.close()
        vehicle.keys.retire_previous()
        await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
        vehicle.keys.revert()
        assert vehicle.keys.certificate() == after


async def test_a_revoked_vehicle_can_not_renew_and_is_told(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        await receiver.operator.revoke(VEHICLE)
        with pytest.raises(PairingRefused, match="is revoked"):
            await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)


async def test_an_expired_certificate_does_not_renew_itself_and_that_is_said(tmp_path: Path) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock, certificate_days=1) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path, clock=clock)
        clock.advance(2 * DAY_NS)
        with pytest.raises(PairingRefused, match="has expired"):
            await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)


async def test_a_vehicle_revoked_in_the_middle_of_a_renewal_can_be_paired_anew(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
        await receiver.operator.revoke(VEHICLE)
        file = await receiver.operator.enrol(VEHICLE)
        await asyncio.to_thread(pair, file, vehicle.keys, a_disk(tmp_path), vehicle.clock)
        link = vehicle.link()
        await link.connect()
        await link.close()
        assert vehicle.keys.previous_certificate() is None


async def test_repairing_replaces_the_former_identity(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        await receiver.operator.revoke(VEHICLE)
        file = await receiver.operator.enrol(VEHICLE)
        await asyncio.to_thread(pair, file, vehicle.keys, a_disk(tmp_path), SystemClock())
        await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)


async def test_a_certificate_for_somebody_else_is_not_installed(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as ours, a_receiver(tmp_path / "theirs") as theirs:
        vehicle = await a_vehicle(ours, tmp_path)
        csr = MemoryKeyStore().begin_identity().csr("x")
        for issued in (
            Issued(VEHICLE, theirs.authority.issue(csr, VEHICLE).pem.decode()),
            Issued("veh-002", ours.authority.issue(csr, "veh-002").pem.decode()),
            Issued(VEHICLE, "junk"),
        ):
            with pytest.raises(Untrusted):
                own_certificate(issued, vehicle.paired)


async def test_a_pairing_file_that_is_not_whole_is_the_users_fault(tmp_path: Path) -> None:
    broken = {"format": "outrider-pairing-9"}, {"vehicle": "../x"}, {"ca": "junk"}, {"more": 1}, {"mqtt_port": "x"}
    async with a_receiver(tmp_path) as receiver:
        whole = json.loads(msgspec.json.encode(await receiver.operator.enrol(VEHICLE)))
        assert read_pairing_file(json.dumps(whole).encode()).vehicle == VEHICLE
        for change in broken:
            with pytest.raises(UsageFault):
                read_pairing_file(json.dumps(whole | change).encode())


async def run_verb(*arguments: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "outrider", "pair", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out, err


async def test_the_verb_reads_the_token_from_standard_input_and_pairs(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = msgspec.json.encode(await receiver.operator.enrol(VEHICLE))
        state = tmp_path / "state"
        code, out, err = await run_verb("-", "--state", str(state), "--json", stdin=file)
        assert (code, err) == (0, b"")
        assert json.loads(out) == {"vehicle": VEHICLE, "host": "localhost"}
        paired = load_paired(RealDisk(state))
        tls_context(paired, FileKeyStore.open(state / "keys"))
        (tmp_path / "file.json").write_bytes(file)
        again = await asyncio.to_thread(said, "pair", tmp_path / "file.json", "--state", tmp_path / "other")
        assert again[:2] == (EXIT_NO, "")
        assert "was used already" in again[2]
        none = await asyncio.to_thread(said, "pair", tmp_path / "none.json", "--state", tmp_path / "other")
        assert none[0] == EXIT_USAGE
        assert "No such file" in none[2]
