"""The bytes of an object at rest, held to their golden vector and to docs/formats/objects.md."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import zlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk
from telemetry.objects.errors import BadObject
from telemetry.objects.format import (
    HEADER_BYTES,
    OVERHEAD_BYTES,
    REALM,
    ObjectHeader,
    ObjectRef,
    file_name,
    pack_header,
    pack_object,
    serial_of,
    unpack_header,
    unpack_object,
)
from telemetry.objects.wire import ByteRange, Have, is_digest, read_have, read_range
from telemetry.records import Lane, Purpose
from telemetry.spool.vault import Vault

VECTOR = json.loads((Path(__file__).parents[2] / "vectors" / "objects" / "format.json").read_text())

HEADERS = st.builds(
    ObjectHeader,
    st.builds(
        ObjectRef,
        serial=st.integers(0, 2**64 - 1),
        sha256=st.binary(min_size=32, max_size=32).map(bytes.hex),
        bytes=st.integers(0, 2**32 - 1),
        purpose=st.sampled_from(Purpose),
    ),
    salt=st.binary(min_size=16, max_size=16),
)


class OpenSealer:
    """Hides nothing: for a vector that anybody can compute."""

    def seal(self, label: str, plain: bytes) -> bytes:
        return label.encode() + b"|" + plain

    def unseal(self, label: str, sealed: bytes) -> bytes:
        return sealed.removeprefix(label.encode() + b"|")


def derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) for one block, by its definition."""
    extracted = hmac.digest(salt, key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_the_golden_vector_is_what_the_page_says_and_what_is_written() -> None:
    plain, key, salt = (bytes.fromhex(VECTOR[name]) for name in ("plain", "key", "salt"))
    sha256 = hashlib.sha256(plain).digest()
    # By the page alone, without our own code.
    head = struct.pack("<4sHBxIQ32s16s", b"ORO1", 1, VECTOR["purpose"], len(plain), VECTOR["serial"], sha256, salt)
    head += struct.pack("<I", zlib.crc32(head))
    cipher = AESGCM(derived(key, salt, b"outrider object v1" + sha256))
    file = head + cipher.encrypt(bytes(12), plain, head)
    assert file.hex() == VECTOR["file"]
    # By our own code, with that key in its vault.
    vault = Vault(CrashDisk(), OpenSealer(), lambda length: key[:length], REALM)
    vault.make_sure(Lane.P3, Purpose(VECTOR["purpose"]))
    ref = ObjectRef(VECTOR["serial"], sha256.hex(), len(plain), Purpose(VECTOR["purpose"]))
    own = vault.cipher(Lane.P3, ref.purpose, sha256, salt)
    assert pack_object(ObjectHeader(ref, salt), own, plain) == file
    assert (file_name(ref.serial), ref.file_bytes) == (VECTOR["name"], len(file))
    assert unpack_header(file).ref == ref
    assert unpack_object(file, own) == plain


@given(HEADERS)
def test_a_header_comes_back_as_it_went(header: ObjectHeader) -> None:
    packed = pack_header(header)
    assert len(packed) == HEADER_BYTES == OVERHEAD_BYTES - 16
    assert unpack_header(packed + b"more") == header


@given(HEADERS, st.integers(0, HEADER_BYTES * 8 - 1))
def test_a_flipped_bit_in_a_header_is_noticed(header: ObjectHeader, bit: int) -> None:
    packed = bytearray(pack_header(header))
    packed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadObject):
        unpack_header(bytes(packed))


@given(st.binary(max_size=2 * HEADER_BYTES))
def test_bytes_that_are_no_header_are_bad_objects_and_nothing_else(data: bytes) -> None:
    with pytest.raises(BadObject):
        unpack_header(data)


@given(st.integers(0, 10**12))
def test_a_name_names_one_serial(serial: int) -> None:
    assert serial_of(file_name(serial)) == serial


@pytest.mark.parametrize(
    "name", ["", "books.0", "1.obj", "000000001.obj", "00000001.obj.tmp", "00000001.OBJ", "0000000a.obj"]
)
def test_other_names_name_nothing(name: str) -> None:
    assert serial_of(name) is None


# --- what is said over the network ---


@given(st.integers(0, 10**14), st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_range_comes_back_as_it_was_written(start: int, size: int, behind: int) -> None:
    part = ByteRange(start, start + size, start + size + behind)
    assert read_range(str(part)) == part


@pytest.mark.parametrize(
    "text",
    [
        "", "bytes", "bytes 0-0/0", "bytes 5-4/10", "bytes 0-10/10", "bytes -1-4/10", "bytes 0--4/10", "bytes */10",
        "bytes 0-4/*", "bytes 0-4", "0-4/10", "bytes 0-4/10, 6-7/10", "bytes 0-4/10\n", " bytes 0-4/10",
        "bytes  0-4/10", "bytes \u0660-4/10", "bytes 0x0-4/10", "octets 0-4/10", f"bytes 0-4/{10**16}",
        "bytes 0-4/1e3", "bytes=0-4/10",
    ],
)  # fmt: skip
def test_what_is_no_single_range_is_none(text: str) -> None:
    assert read_range(text) is None


@given(st.text(max_size=40))
def test_no_text_makes_an_impossible_range(text: str) -> None:
    part = read_range(text)
    assert part is None or 0 <= part.start < part.end <= part.total


def test_only_a_lower_case_digest_names_an_object() -> None:
    assert is_digest("0123456789abcdef" * 4)
    assert not any(is_digest(text) for text in ("", "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n", "../" + "0" * 61))


def test_what_an_answer_says_is_understood_or_not_at_all() -> None:
    assert read_have("17", "partial") == Have(17, stored=False)
    assert read_have("17", "stored") == Have(17, stored=True)
    for count, state in (("", "stored"), ("-1", "stored"), ("1", ""), ("1", "maybe"), ("1.0", "stored")):
        assert read_have(count, state) is None
