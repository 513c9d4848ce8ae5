"""What a JPEG says of itself before anything decodes it (ITU-T T.81, annex B): its size, and that it is plain.

Plain is what a camera's encoder writes: baseline, 8 bits, three colours in one scan, no metadata. Of any other kind a
few bytes can ask for thousands of passes over a picture, and a note in it can turn it or say where it was taken.
"""

from __future__ import annotations

import re
import struct
from typing import Final

_START, _END = b"\xff\xd8", b"\xff\xd9"
_FRAME, _SCAN = 0xC0, 0xDA
_PLAIN: Final[dict[int, str]] = {0xC4: "DHT", 0xDB: "DQT", 0xDD: "DRI", 0xE0: "APP0", _FRAME: "SOF0", _SCAN: "SOS"}
_COLOURS = 3
_FRAME_BYTES = 6 + 3 * _COLOURS
# Within a scan 0xFF is followed by 0 (a stuffed byte) or by a restart; anything else ends it.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)


class NotPlain(ValueError):
    """The bytes aren't a plain JPEG. The text says why."""


def plain_jpeg_hw(data: bytes) -> tuple[int, int]:
    """(height, width) in pixels. Raises NotPlain."""
    segments, scan = _segments_before_scan(data)
    frames = [content for marker, content in segments if marker == _FRAME]
    _demand(len(frames) == 1 and len(frames[0]) == _FRAME_BYTES, "it doesn't tell its size once, for three colours")
    bits, height, width, colours = struct.unpack_from(">BHHB", frames[0])
    _demand((bits, colours) == (8, _COLOURS), "it isn't in three colours of 8 bits")
    _demand(segments[-1][1][:1] == bytes([_COLOURS]), "its colours come one by one")
    _demand(_ends_at_its_end(data, scan), "it has more than one scan, or no end")
    return height, width


def _segments_before_scan(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """(marker, content) of each segment up to the scan's header, and where the scan's own bytes begin."""
    _demand(data[:2] == _START, "it doesn't begin as a JPEG")
    segments: list[tuple[int, bytes]] = []
    at, marker = len(_START), 0
    while marker != _SCAN:
        _demand(len(data) >= at + 4, "it ends before its picture")
        lead, marker, length = struct.unpack_from(">BBH", data, at)
        _demand(lead == 0xFF and marker in _PLAIN, f"it holds a segment 0x{lead:02X}{marker:02X}, which isn't taken")
        end = at + 2 + length
        _demand(length >= 2 and end <= len(data), f"its segment {_PLAIN[marker]} has no room")
        segments.append((marker, data[at + 4 : end]))
        at = end
    return segments, at


def _ends_at_its_end(data: bytes, scan: int) -> bool:
    found = _END_OF_SCAN.search(data, scan)
    return found is not None and data[found.start() :] == _END


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotPlain(otherwise)
