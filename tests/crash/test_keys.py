"""FileKeyStore when the power goes: there is always exactly one identity, whole, and sealed things stay readable."""

from __future__ import annotations

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.keys import FileKeyStore, NoIdentity, PendingIdentity
from tests.ecu.authority import Authority, common_name, verify

AUTHORITY = Authority()
# The same keys and certificates in every run, so that a law can tell them apart.
SEALED: list[bytes] = []


def install(store: FileKeyStore, disk: CrashDisk, name: str) -> PendingIdentity:
    pending = store.begin_identity()
    disk.mark(f"begun {name}")
    store.install(pending, AUTHORITY.certify(pending.csr(name)))
    disk.mark(f"installed {name}")
    return pending


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
FOUND = {
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
    allowed: set[str | None] = {None}
    for mark, found in FOUND.items():
        if mark in state.acknowledged:
            allowed = found
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
    certificate = FileKeyStore(state.disk).certificate()
    assert certificate is not None
    assert common_name(certificate) in ({"v2"} if "installed v2" in state.acknowledged else {"v1", "v2"})
    for lost in ("0", "1") if "installed v2" in state.acknowledged else ():
        alone = state.disk.after_shutdown()
        for record in ("parts", "identity-b"):
            alone.truncate(f"{record}.{lost}", 0)
        assert FileKeyStore(alone).certificate() == certificate


def test_the_syncs_of_a_renewal_are_needed() -> None:
    unnoticed = unnoticed_without(renewal, renewal_law, paired)
    assert unnoticed == [], unnoticed
