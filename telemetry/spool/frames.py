"""One block into a frame and back: encrypted on the way in, checked whole on the way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from cryptography.exceptions import InvalidTag

from ecu.disk import Disk, DiskFault
from telemetry.spool.blocks import BlockRef
from telemetry.spool.ciphers import Aead
from telemetry.spool.format import (
    FRAME_HEADER_BYTES,
    FrameHeader,
    frame_pages,
    pack_frame_header,
    unpack_frame_header,
)
from telemetry.spool.limits import PAGE_BYTES
from telemetry.wire import BadBlock, BlockHeader, unpack_block

T = TypeVar("T")


def seal_frame(block: bytes, frame: FrameHeader, cipher: Aead, salt: bytes) -> bytes:
    """The wire block as a frame, padded to whole pages."""
    head = pack_frame_header(frame, salt)
    sealed = head + cipher.encrypt(frame.nonce, block, head)
    return sealed.ljust(frame.pages * PAGE_BYTES, b"\0")


def open_frame(data: bytes, cipher: Aead, salt: bytes) -> tuple[BlockHeader, bytes]:
    """The wire block's header and all its bytes. Raises BadBlock unless every one of them is as it was written."""
    frame = unpack_frame_header(data, salt)
    if frame is None:
        raise BadBlock("its frame's header isn't whole")
    head, sealed = data[:FRAME_HEADER_BYTES], data[FRAME_HEADER_BYTES : FRAME_HEADER_BYTES + frame.cipher_bytes]
    try:
        block = cipher.decrypt(frame.nonce, sealed, head)
    except (InvalidTag, ValueError) as error:
        raise BadBlock("its bytes aren't those that were written") from error
    return unpack_block(block)[0], block


def read_block(disk: Disk, name: str, ref: BlockRef, cipher: Aead, salt: bytes) -> bytes:
    """The wire block that `ref` names. Raises BadBlock when it isn't there, whole; DiskStarved says nothing of it."""
    try:
        data = patiently(lambda: disk.read_at(name, ref.page * PAGE_BYTES, frame_pages(ref.wire_bytes) * PAGE_BYTES))
    except (DiskFault, FileNotFoundError) as error:
        raise BadBlock(f"it can't be read: {error}") from error
    header, block = open_frame(data, cipher, salt)
    if (header.lane, header.epoch, header.base_seq, header.count) != (ref.lane, ref.epoch, ref.base_seq, ref.count):
        raise BadBlock("another block lies in its place")
    return block


def is_whole(data: bytes, cipher: Aead, salt: bytes) -> bool:
    """Whether the frame at the start of `data` reached flash in full."""
    try:
        open_frame(data, cipher, salt)
    except BadBlock:
        return False
    return True


def patiently(read: Callable[[], T]) -> T:
    """What failed once may succeed: a worn cell, or a bus that was busy."""
    try:
        return read()
    except DiskFault:
        return read()
