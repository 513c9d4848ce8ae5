"""Recordings of other tools as ours.

python -m simulator.recordings candump FILE OUT         a log of candump -L
python -m simulator.recordings comma2k19 FOLDER OUT     the arrays in a segment's processed_log/CAN/raw_can
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ecu.clock import SECOND_NS
from ecu.errors import OutriderError, UsageFault, shown
from simulator.outfile import whole_file
from telemetry.signals.frames import CLASSIC_BYTES, EXTENDED, FD_BYTES, Frames, in_order
from telemetry.signals.recording import encode_recording

_LINE: Final = re.compile(
    r"\((?P<seconds>[0-9]{1,12})\.(?P<fraction>[0-9]{1,9})\)\s+(?P<bus>\S+)\s+"
    r"(?P<id>[0-9A-Fa-f]{3}|[0-9A-Fa-f]{8})#(?P<fd>#[0-9A-Fa-f])?(?P<data>R[0-9A-Fa-f]?|[0-9A-Fa-f]*)(\s.*)?"
)
_EXTENDED_DIGITS: Final = 8


def from_candump(lines: Iterable[str], name: str = "the log") -> Frames:
    """Buses are numbered as they first appear. Frames that ask for data are left out. Raises UsageFault, with the line,
    for what candump -L doesn't write."""
    buses: dict[str, int] = {}
    rows: list[tuple[int, int, int, bytes]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        data = match["data"] if match else "?"
        if match is None or (len(data) % 2 and not data.startswith("R")) or len(data) > 2 * FD_BYTES:
            raise UsageFault(f"{shown(name)}:{number}: {shown(line.strip()[:80])} is no line of candump -L.")
        bus = buses.setdefault(match["bus"], len(buses))
        if data.startswith("R"):
            continue
        t_ns = int(match["seconds"]) * SECOND_NS + int(match["fraction"].ljust(9, "0"))
        can_id = int(match["id"], 16) | (EXTENDED if len(match["id"]) == _EXTENDED_DIGITS else 0)
        rows.append((t_ns, bus, can_id, bytes.fromhex(data)))
    if not rows:
        raise UsageFault(f"{shown(name)} has no frame.")
    return _frames(rows)


def from_comma2k19(folder: Path) -> Frames:
    """comma2k19's arrays (t in seconds, address, data, src). They hold eight bytes of each frame, and not how many it
    had: every frame has eight here. Sources from 128 on are what the recorder itself sent."""
    try:
        t, address, src, data = (np.load(folder / name) for name in ("t", "address", "src", "data"))
    except (OSError, ValueError) as error:
        raise UsageFault(f"{shown(folder)} has no arrays t, address, src and data: {shown(error)}.") from error
    count = len(t)
    payload = np.frombuffer(data.astype("S8").tobytes(), np.uint8).reshape(count, CLASSIC_BYTES)
    can_id = np.where(address >= 0x800, address | EXTENDED, address).astype(np.uint32)
    lengths = np.full(count, CLASSIC_BYTES, np.uint8)
    # Its times are distances from its computer's boot, of which microseconds are true.
    return in_order(Frames(np.round(t * 1e6).astype(np.int64) * 1000, src.astype(np.uint8), can_id, lengths, payload))


def _frames(rows: list[tuple[int, int, int, bytes]]) -> Frames:
    lengths = np.array([len(row[3]) for row in rows], np.uint8)
    width = FD_BYTES if lengths.max() > CLASSIC_BYTES else CLASSIC_BYTES
    data = np.frombuffer(b"".join(row[3].ljust(width, b"\0") for row in rows), np.uint8).reshape(-1, width)
    columns = (np.array([row[at] for row in rows], kind) for at, kind in enumerate((np.int64, np.uint8, np.uint32)))
    t_ns, bus, can_id = columns
    return in_order(Frames(t_ns, bus, can_id, lengths, data))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m simulator.recordings", description=__doc__.partition("\n")[0])
    parser.add_argument("kind", choices=("candump", "comma2k19"))
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(argv)
    try:
        if arguments.kind == "candump":
            frames = from_candump(arguments.source.read_text(encoding="utf-8").splitlines(), str(arguments.source))
        else:
            frames = from_comma2k19(arguments.source)
        with whole_file(arguments.out) as part:
            part.write_bytes(encode_recording(frames))
    except OutriderError as error:
        print(f"simulator.recordings: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
