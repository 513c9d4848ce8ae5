"""The KeyStore contract, over memory, over a disk that loses power, and over real files."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk
from ecu.keys import (
    FileKeyStore,
    KeyStore,
    MemoryKeyStore,
    NoIdentity,
    RenewalUnfinished,
    UnsealError,
    WrongCertificate,
)
from tests.ecu.authority import Authority, common_name, verify

AUTHORITY = Authority()
any_bytes = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)


@pytest.fixture(params=["memory", "crash", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    if request.param == "memory":
        return MemoryKeyStore()
    return FileKeyStore(CrashDisk()) if request.param == "crash" else FileKeyStore.open(tmp_path / "keys")


def renew(store: KeyStore, name: str) -> bytes:
    pending = store.begin_identity()
    certificate = AUTHORITY.certify(pending.csr(name))
    store.install(pending, certificate)
    return certificate


def test_a_new_store_has_no_identity(store: KeyStore) -> None:
    assert store.certificate() is None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for act in (lambda: store.sign(b"m"), lambda: store.csr("v"), lambda: store.load_identity(context), store.revert):
        with pytest.raises(NoIdentity, match=r"[Pp]air"):
            act()


def test_a_request_names_the_vehicle_and_proves_a_p256_key(store: KeyStore) -> None:
    csr = x509.load_pem_x509_csr(store.begin_identity().csr("vehicle-7"))
    key = csr.public_key()
    assert csr.is_signature_valid
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert [str(a.value) for a in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["vehicle-7"]


def key_in(csr_pem: bytes) -> object:
    return x509.load_pem_x509_csr(csr_pem).public_key()


def test_an_identity_begun_is_the_same_until_it_is_installed(store: KeyStore) -> None:
    first = key_in(store.begin_identity().csr("v"))
    assert key_in(store.begin_identity().csr("v")) == first
    renew(store, "v")
    store.retire_previous()
    assert key_in(store.begin_identity().csr("v")) != first


def test_a_pending_identity_proves_nothing(store: KeyStore) -> None:
    first = renew(store, "v1")
    store.begin_identity()
    assert store.certificate() == first
    verify(first, store.sign(b"m"), b"m")


def test_what_the_identity_signs_verifies_against_its_certificate(store: KeyStore) -> None:
    certificate = renew(store, "v")
    signature = store.sign(b"message")
    verify(certificate, signature, b"message")
    with pytest.raises(InvalidSignature):
        verify(certificate, signature, b"another")
    assert key_in(store.csr("v")) == x509.load_pem_x509_certificate(certificate).public_key()


def test_a_certificate_for_another_key_is_refused_and_changes_nothing(store: KeyStore) -> None:
    first = renew(store, "v1")
    pending = store.begin_identity()
    for wrong in (first, AUTHORITY.pem, b"no certificate", b""):
        with pytest.raises(WrongCertificate):
            store.install(pending, wrong)
    assert store.certificate() == first
    store.install(pending, AUTHORITY.certify(pending.csr("v2")))


def test_an_identity_of_another_store_is_a_bug(store: KeyStore) -> None:
    stranger = MemoryKeyStore().begin_identity()
    with pytest.raises(ValueError, match="begun last"):
        store.install(stranger, AUTHORITY.certify(stranger.csr("v")))
    assert store.certificate() is None


def test_a_renewed_identity_takes_over_and_the_one_before_is_kept_until_retired(store: KeyStore) -> None:
    renew(store, "v1")
    second = renew(store, "v2")
    assert store.certificate() == second
    verify(second, store.sign(b"m"), b"m")
    with pytest.raises(RenewalUnfinished):
        store.begin_identity()
    store.retire_previous()
    store.retire_previous()
    with pytest.raises(NoIdentity):
        store.revert()
    assert store.certificate() == second
    third = renew(store, "v3")
    assert store.certificate() == third


def test_reverting_brings_the_one_before_back(store: KeyStore) -> None:
    first = renew(store, "v1")
    renew(store, "v2")
    store.revert()
    assert store.certificate() == first
    verify(first, store.sign(b"m"), b"m")
    with pytest.raises(NoIdentity):
        store.revert()
    assert store.certificate() == first
    third = renew(store, "v3")
    assert store.certificate() == third


def test_installing_the_same_identity_again_takes_the_newer_certificate_only(store: KeyStore) -> None:
    first = renew(store, "v1")
    pending = store.begin_identity()
    store.install(pending, AUTHORITY.certify(pending.csr("v2")))
    newer = AUTHORITY.certify(pending.csr("v2"))
    store.install(pending, newer)
    assert store.certificate() == newer
    store.revert()
    assert store.certificate() == first


def test_a_peer_sees_the_identity_over_tls(store: KeyStore) -> None:
    renew(store, "vehicle-7")
    assert common_name(ssl.DER_cert_to_PEM_cert(shake_hands(store)).encode()) == "vehicle-7"
    store.begin_identity()
    assert common_name(ssl.DER_cert_to_PEM_cert(shake_hands(store)).encode()) == "vehicle-7"


def test_what_is_lent_is_the_pair_in_use_and_only_that(store: KeyStore) -> None:
    with pytest.raises(NoIdentity):
        store.lend_identity(lambda key, certificate: None)
    first = renew(store, "v1")
    store.begin_identity()
    key, certificate = store.lend_identity(lambda key, certificate: (load_pem_private_key(key, None), certificate))
    assert certificate == first
    assert key.public_key() == load_pem_x509_certificate(first).public_key()


def shake_hands(store: KeyStore) -> bytes:
    """The client certificate, DER, that a server of the same authority gets to see."""
    server_store = MemoryKeyStore()
    renew(server_store, "server")
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        context.load_verify_locations(cadata=AUTHORITY.pem.decode())
    server.verify_mode = ssl.CERT_REQUIRED
    server_store.load_identity(server)
    store.load_identity(client)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up, server_hostname="127.0.0.1")]
    for _ in range(8):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    seen = ends[0].getpeercert(binary_form=True)
    assert seen is not None
    return seen


@any_bytes
@given(label=st.text(max_size=20), plain=st.binary(max_size=200))
def test_what_was_sealed_opens_under_its_label(store: KeyStore, label: str, plain: bytes) -> None:
    assert store.unseal(label, store.seal(label, plain)) == plain


@any_bytes
@given(plain=st.binary(max_size=40), data=st.data())
def test_what_was_altered_cut_or_relabelled_never_opens(store: KeyStore, plain: bytes, data: st.DataObject) -> None:
    sealed = store.seal("lane", plain)
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    altered = bytearray(sealed)
    altered[bit // 8] ^= 1 << bit % 8
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]
    for label, bad in (("lane", bytes(altered)), ("lane", cut), ("other", sealed), ("lane", sealed + b"\0")):
        with pytest.raises(UnsealError):
            store.unseal(label, bad)


def test_nothing_is_sealed_twice_alike(store: KeyStore) -> None:
    assert len({store.seal("a", b"same") for _ in range(50)}) == 50


def test_another_store_opens_nothing(store: KeyStore) -> None:
    with pytest.raises(UnsealError):
        MemoryKeyStore().unseal("a", store.seal("a", b"x"))
    with pytest.raises(UnsealError):
        store.unseal("a", MemoryKeyStore().seal("a", b"x"))


def test_what_was_sealed_stays_readable_through_renewal_and_reverting(store: KeyStore) -> None:
    sealed = store.seal("lane", b"spooled")
    renew(store, "v1")
    assert store.unseal("lane", sealed) == b"spooled"
    renew(store, "v2")
    store.retire_previous()
    renew(store, "v3")
    store.revert()
    assert store.unseal("lane", sealed) == b"spooled"
