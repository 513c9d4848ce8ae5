"""FileKeyStore when the power goes: there is always exactly one identity, whole, and sealed things stay readable."""

from __future__ import annotations

import contextlib

from cryptography import x509

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.keys import FileKeyStore, NoIdentity, PendingIdentity
from tests.ecu.authority import Authority, common_name, verify

AUTHORITY = Authority()
SEALED: list[bytes] = []
PENDING: list[object] = []


def public_key(pending: PendingIdentity) -> object:
    return x509.load_pem_x509_csr(pending.csr("v")).public_key()


def install(store: FileKeyStore, disk: CrashDisk, name: str) -> None:
    pending = store.begin_identity()
    PENDING[:] = [public_key(pending)]
    disk.mark(f"begun {name}")
    certificate = AUTHORITY.certify(pending.csr(name))
    disk.mark(f"installing {name}")
    store.install(pending, certificate)
    disk.mark(f"installed {name}")


def life(disk: CrashDisk) -> None:
    """Pairing, two renewals of which the second is taken back, with everything acknowledged by a mark."""
    SEALED.clear()
    store = FileKeyStore(disk)
    SEALED.append(store.seal("lane", b"spooled"))
    disk.mark("sealed")
    install(store, disk, "v1")
    install(store, disk, "v2")
    store.retire_previous()
    disk.mark("retired v1")
    install(store, disk, "v3")
    store.revert()
    disk.mark("reverted to v2")


# After each mark: which identities a start may find. The next act is under way.
FOUND: dict[str, set[str | None]] = {
    "begun v1": {None, "v1"},
    "installed v1": {"v1"},
    "begun v2": {"v1", "v2"},
    "installed v2": {"v2"},
    "retired v1": {"v2"},
    "begun v3": {"v2", "v3"},
    "installed v3": {"v3", "v2"},
    "reverted to v2": {"v2"},
}


def law(state: CrashState) -> None:
    store = FileKeyStore(state.disk)
    allowed = next((found for mark, found in reversed(FOUND.items()) if mark in state.acknowledged), {None})
    certificate = store.certificate()
    assert (common_name(certificate) if certificate else None) in allowed
    if certificate:
        verify(certificate, store.sign(b"m"), b"m")
    if "sealed" in state.acknowledged:
        assert store.unseal("lane", SEALED[0]) == b"spooled"


def test_at_any_instant_the_identity_is_whole_and_what_was_sealed_opens() -> None:
    assert violation(life, law, CrashDisk()) is None


def test_after_any_power_cut_a_renewal_succeeds() -> None:
    disk = CrashDisk()
    life(disk)
    for state in list(disk.after_crash())[::7]:
        store = FileKeyStore(state.disk)
        store.retire_previous()
        pending = store.begin_identity()
        store.install(pending, AUTHORITY.certify(pending.csr("after")))
        certificate = FileKeyStore(state.disk).certificate()
        assert certificate is not None
        assert common_name(certificate) == "after"


def law_with_a_way_back(state: CrashState) -> None:
    law(state)
    if "installed v2" in state.acknowledged and "retired v1" not in state.acknowledged:
        store = FileKeyStore(state.disk)
        try:
            store.revert()
        except NoIdentity:
            return  # retiring was under way
        certificate = store.certificate()
        assert certificate is not None
        assert common_name(certificate) == "v1"
        verify(certificate, store.sign(b"m"), b"m")


def test_the_identity_before_is_whole_as_long_as_it_is_kept() -> None:
    assert violation(life, law_with_a_way_back, CrashDisk()) is None


def renewal(disk: CrashDisk) -> None:
    install(FileKeyStore(disk), disk, "v2")


def paired() -> CrashDisk:
    disk = CrashDisk()
    SEALED[:] = [FileKeyStore(disk).seal("lane", b"spooled")]
    install(FileKeyStore(disk), disk, "v1")
    return disk.after_shutdown()


def renewal_law(state: CrashState) -> None:
    """As above, and what was acknowledged is held twice: any one file of each pair may be lost as well."""
    pending, installed = ("installing v2" not in state.acknowledged), ("installed v2" in state.acknowledged)
    # Opening it mends what a half would lack.
    as_left = state.disk.after_shutdown()
    certificate = FileKeyStore(state.disk).certificate()
    assert certificate is not None
    assert common_name(certificate) in ({"v2"} if installed else {"v1"} if pending else {"v1", "v2"})
    for store in each_half(as_left) if installed else ():
        assert store.certificate() == certificate
    for store in each_half(as_left) if pending and "begun v2" in state.acknowledged else ():
        assert public_key(store.begin_identity()) == PENDING[0]


def each_half(disk: CrashDisk) -> list[FileKeyStore]:
    halves = [disk.after_shutdown(), disk.after_shutdown()]
    for lost, half in enumerate(halves):
        for record in ("parts", "identity-a", "identity-b"):
            half.truncate(f"{record}.{lost}", 0)
    return [FileKeyStore(half) for half in halves]


def test_the_syncs_of_a_renewal_are_needed() -> None:
    # 0 to 3 settle what a killed process may have left, which tests/crash/test_twin.py shows to be needed; 5 is the one
    # between a new record's two files.
    settling = [
        "sync 0: sync 'parts.1'",
        "sync 1: sync_folder ''",
        "sync 2: sync 'identity-a.1'",
        "sync 3: sync_folder ''",
    ]
    assert unnoticed_without(renewal, renewal_law, paired) == [*settling, "sync 5: sync_folder ''"]


class Killed(BaseException):
    """SIGKILL: nobody catches it, and the page cache stays."""


def test_whatever_call_a_kill_cut_short_no_flipped_bit_takes_what_the_next_start_sealed() -> None:
    for killed_at in range(40):
        disk = CrashDisk()
        disk.fail(killed_at, Killed())
        with contextlib.suppress(Killed):
            FileKeyStore(disk).seal("lane", b"x")
        disk.heal()
        sealed = FileKeyStore(disk).seal("lane", b"x")
        for path in ("root.0", "root.1"):
            flipped = disk.after_shutdown()
            flipped.flip_bit(path, 8 * 40)
            assert FileKeyStore(flipped).unseal("lane", sealed) == b"x"
