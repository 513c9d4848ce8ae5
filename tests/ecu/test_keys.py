"""FileKeyStore on its files: what a restart finds, what others may see, what is left of a retired key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault
from ecu.keys import FileKeyStore, KeysExposed, KeysLost, KeysTaken, PendingIdentity, UnsealError
from ecu.twin import TwinRecord
from tests.ecu.authority import Authority, verify

AUTHORITY = Authority()


def renew(store: FileKeyStore, name: str) -> PendingIdentity:
    pending = store.begin_identity()
    store.install(pending, AUTHORITY.certify(pending.csr(name)))
    return pending


def test_a_restart_finds_everything_again() -> None:
    disk = CrashDisk()
    store = FileKeyStore(disk)
    sealed = store.seal("lane", b"x")
    renew(store, "v1")
    renew(store, "v2")
    certificate = store.certificate()
    assert certificate is not None
    again = FileKeyStore(disk)
    assert again.certificate() == certificate
    assert again.unseal("lane", sealed) == b"x"
    verify(certificate, again.sign(b"m"), b"m")
    again.revert()
    assert FileKeyStore(disk).certificate() == again.certificate() != certificate


def test_an_identity_begun_before_a_restart_can_be_installed_after_it() -> None:
    disk = CrashDisk()
    csr = FileKeyStore(disk).begin_identity().csr("v")
    again = FileKeyStore(disk)
    again.install(again.begin_identity(), AUTHORITY.certify(csr))
    assert again.certificate() is not None


def secrets_on(disk: CrashDisk, pending: PendingIdentity) -> list[str]:
    """The files in which the private key still stands."""
    pem = pending._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    middle = pem.splitlines()[2]
    return [name for name in disk.names("") if middle in disk.read(name)]


def test_a_retired_or_reverted_key_is_wiped_from_every_file() -> None:
    disk = CrashDisk()
    store = FileKeyStore(disk)
    first = renew(store, "v1")
    second = renew(store, "v2")
    assert secrets_on(disk, first)
    store.retire_previous()
    assert secrets_on(disk, first) == []
    third = renew(store, "v3")
    store.revert()
    assert secrets_on(disk, third) == []
    assert len(secrets_on(disk, second)) == 2


@pytest.mark.parametrize("acts", [{"read"}, {"read", "write_at", "sync"}])
def test_a_worn_slot_that_nobody_uses_hides_no_key(acts: set[str]) -> None:
    disk = CrashDisk()
    store = FileKeyStore(disk)
    renew(store, "v1")
    renew(store, "v2")
    store.retire_previous()
    disk.fail(lambda call: call.act in acts and call.path == "identity-a.0", DiskFault("worn"))
    assert FileKeyStore(disk).certificate() == store.certificate() is not None


def test_a_wipe_cut_short_is_finished_by_the_next_start() -> None:
    disk = CrashDisk()
    store = FileKeyStore(disk)
    first = renew(store, "v1")
    renew(store, "v2")
    disk = disk.after_shutdown()
    store = FileKeyStore(disk)
    store.retire_previous()
    disk.mark("retired")
    for state in disk.after_crash():
        again = FileKeyStore(state.disk)
        again.retire_previous()
        assert secrets_on(state.disk, first) == []


def test_no_flipped_bit_costs_a_key() -> None:
    disk = CrashDisk()
    store = FileKeyStore(disk)
    sealed = store.seal("lane", b"x")
    renew(store, "v1")
    for name in disk.names(""):
        for bit in range(0, disk.size(name) * 8, 1117):
            bad = disk.after_shutdown()
            bad.flip_bit(name, bit)
            again = FileKeyStore(bad)
            assert again.certificate() == store.certificate()
            assert again.unseal("lane", sealed) == b"x"


@pytest.mark.parametrize("lost", ["root", "parts", "identity-a"])
def test_lost_keys_are_named_and_never_silently_made_anew(lost: str) -> None:
    disk = CrashDisk()
    store = FileKeyStore(disk)
    sealed = store.seal("lane", b"x")
    renew(store, "v1")
    for twin in ("0", "1"):
        disk.truncate(f"{lost}.{twin}", 10)
    with pytest.raises(KeysLost, match=rf"{lost}\.0.* [Dd]elete"):
        FileKeyStore(disk).seal("lane", b"y")
    # What the advice says works: the rest is still good.
    for name in disk.names(""):
        if name.startswith(lost) or (lost != "root" and not name.startswith("root")):
            disk.remove(name)
    again = FileKeyStore(disk)
    if lost == "root":
        assert again.certificate() == store.certificate()
        with pytest.raises(UnsealError):
            again.unseal("lane", sealed)
    else:
        assert again.certificate() is None
        assert again.unseal("lane", sealed) == b"x"


def test_the_storage_root_is_no_function_of_the_identity() -> None:
    disk = CrashDisk()
    store = FileKeyStore(disk)
    sealed = store.seal("lane", b"x")
    for name in disk.names(""):
        disk.remove(name)
    again = FileKeyStore(disk)
    renew(again, "v1")
    with pytest.raises(UnsealError):
        again.unseal("lane", sealed)


def test_sealed_bytes_are_aes_256_gcm_under_a_key_derived_for_the_label() -> None:
    root, nonce = bytes(range(32)), bytes(12)
    disk = CrashDisk()
    TwinRecord(disk, "root").write_both(root)
    key = HKDF(hashes.SHA256(), length=32, salt=None, info=b"outrider seal v1\0lane").derive(root)
    sealed = b"\x01" + nonce + AESGCM(key).encrypt(nonce, b"plain", b"lane")
    assert FileKeyStore(disk).unseal("lane", sealed) == b"plain"


def test_key_files_are_the_owners_alone(tmp_path: Path) -> None:
    store = FileKeyStore.open(tmp_path / "keys")
    store.seal("lane", b"x")
    renew(store, "v1")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700


def test_two_processes_never_use_the_same_keys(tmp_path: Path) -> None:
    store = FileKeyStore.open(tmp_path / "keys")
    renew(store, "v1")
    with pytest.raises(KeysTaken, match=rf"{tmp_path}/keys"):
        FileKeyStore.open(tmp_path / "keys")
    certificate = store.certificate()
    del store
    assert FileKeyStore.open(tmp_path / "keys").certificate() == certificate


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_key_files_that_others_can_get_at_are_refused_with_the_way_out(tmp_path: Path, mode: int) -> None:
    renew(FileKeyStore.open(tmp_path / "keys"), "v1")
    (tmp_path / "keys" / "identity-a.1").chmod(mode)
    with pytest.raises(KeysExposed, match=rf"identity-a\.1 has mode {mode:04o}.*chmod -R go= {tmp_path}/keys"):
        FileKeyStore.open(tmp_path / "keys")
    subprocess.run(["chmod", "-R", "go=", tmp_path / "keys"], check=True)
    assert FileKeyStore.open(tmp_path / "keys").certificate() is not None


def test_a_folder_where_others_can_put_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys").chmod(0o777)
    with pytest.raises(KeysExposed, match="mode 0777"):
        FileKeyStore.open(tmp_path / "keys")


LOAD_AS_NOBODY = """
import os, ssl, threading  # nobody may not be able to read modules that are needed later
from ecu.keys import MemoryKeyStore
from ecu.process import forbid_core_dumps
from ecu.twin import TwinRecord
from tests.ecu.authority import Authority
if os.getuid() == 0:
    os.setresuid(65534, 65534, 65534)
forbid_core_dumps()
store = MemoryKeyStore()
pending = store.begin_identity()
store.install(pending, Authority().certify(pending.csr("v")))
store.load_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
print("loaded", os.listdir("/proc/self/fd"))
"""


def test_a_process_without_privileges_or_core_dumps_can_use_its_identity() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", LOAD_AS_NOBODY], capture_output=True, text=True, cwd=os.getcwd(), check=False
    )
    assert ran.stdout.startswith("loaded"), ran.stderr


def test_nothing_private_is_in_what_can_be_printed() -> None:
    store = FileKeyStore(CrashDisk())
    pending = renew(store, "v1")
    secret = pending._key.private_numbers().private_value
    assert str(secret) not in f"{store!r}{pending!r}{vars(store)!r}"
    with pytest.raises(ValueError, match="PEM"):
        serialization.load_pem_private_key(repr(pending).encode(), password=None)
