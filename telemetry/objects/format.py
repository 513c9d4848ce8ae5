"""The bytes of an object at rest, version 1; layout and golden vector: docs/formats/objects.md.

    header, 72 bytes | AES-256-GCM of the object, 16 bytes longer than it

All integers are little-endian. The header is the cipher's associated data. The key is derived for this salt and this
content, so it never meets a second plaintext, and the nonce can be zero.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag

from telemetry.objects.errors import BadObject
from telemetry.records import Purpose
from telemetry.spool.ciphers import Aead
from telemetry.spool.vault import Realm

VERSION: Final = 1
SALT_BYTES: Final = 16
TAG_BYTES: Final = 16
REALM: Final = Realm("objects", b"outrider object v1")

_MAGIC: Final = b"ORO1"
# magic, version, purpose, bytes, serial, sha256, salt | CRC-32
_HEADER = struct.Struct("<4sHBxIQ32s16s")
_CRC = struct.Struct("<I")
HEADER_BYTES: Final = _HEADER.size + _CRC.size
OVERHEAD_BYTES: Final = HEADER_BYTES + TAG_BYTES
assert HEADER_BYTES == 72

_NONCE: Final = bytes(12)
_NAME = re.compile(r"([0-9]{8,20})\.obj")


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object that is kept: its name everywhere is the SHA-256 of its plain bytes, in hex. `serial` is its place in
    this store alone: a lower one is older, and none comes twice."""

    serial: int
    sha256: str
    bytes: int
    purpose: Purpose

    @property
    def file_bytes(self) -> int:
        return self.bytes + OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class ObjectHeader:
    """What a file says of its object before it is decrypted."""

    ref: ObjectRef
    salt: bytes


def file_name(serial: int) -> str:
    return f"{serial:08d}.obj"


def serial_of(name: str) -> int | None:
    """None for the name of anything but an object."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and file_name(int(match[1])) == name else None


def pack_header(header: ObjectHeader) -> bytes:
    ref = header.ref
    head = _HEADER.pack(
        _MAGIC, VERSION, ref.purpose, ref.bytes, ref.serial, bytes.fromhex(ref.sha256), header.salt
    )  # fmt: skip
    return head + _CRC.pack(zlib.crc32(head))


def unpack_header(data: bytes) -> ObjectHeader:
    """Of a file's first HEADER_BYTES. Raises BadObject."""
    if len(data) < HEADER_BYTES:
        raise BadObject(f"{len(data)} bytes are less than an object's header of {HEADER_BYTES}")
    magic, version, purpose, length, serial, sha256, salt = _HEADER.unpack_from(data)
    if _CRC.unpack_from(data, _HEADER.size) != (zlib.crc32(data[: _HEADER.size]),):
        raise BadObject("the header's checksum doesn't match: bytes changed on flash")
    if (magic, version) != (_MAGIC, VERSION) or purpose not in list(Purpose):
        raise BadObject(f"it starts with {magic!r} version {version}, purpose {purpose}: not one of this version")
    return ObjectHeader(ObjectRef(serial, sha256.hex(), length, Purpose(purpose)), salt)


def pack_object(header: ObjectHeader, cipher: Aead, plain: bytes) -> bytes:
    """The whole file."""
    head = pack_header(header)
    return head + cipher.encrypt(_NONCE, plain, head)


def unpack_object(data: bytes, cipher: Aead) -> bytes:
    """The plain bytes of a whole file. Raises BadObject."""
    head = data[:HEADER_BYTES]
    try:
        return cipher.decrypt(_NONCE, data[HEADER_BYTES:], head)
    except InvalidTag as error:
        raise BadObject("it doesn't decrypt: bytes changed on flash, or its key isn't the one it had") from error
