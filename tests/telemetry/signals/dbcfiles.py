"""The DBC files of tests/vectors/dbc, and random frames of the messages in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cantools
import numpy as np
import zstandard
from numpy.typing import NDArray

from telemetry.signals.dbc import DbcText
from telemetry.signals.frames import EXTENDED, FD_BYTES, Frames

FOLDER: Final = Path(__file__).parents[2] / "vectors" / "dbc"
NAMES: Final = (
    "own", "toyota_new_mc_pt", "toyota_adas", "tesla_model3_party", "gm_global_a_high_voltage_management",
    "hyundai_canfd", "vw_mlb", "ESR",
)  # fmt: skip


def dbc(name: str, bus: int = 0) -> DbcText:
    plain = FOLDER / f"{name}.dbc"
    data = plain.read_bytes() if plain.exists() else zstandard.decompress((FOLDER / f"{name}.dbc.zst").read_bytes())
    return DbcText(f"{name}.dbc", data.decode("cp1252", errors="replace"), bus)


def peer(source: DbcText) -> list[Any]:
    """cantools' messages that have signals."""
    database = cantools.database.can.Database(strict=False)
    database.add_dbc_string(source.text)
    return [m for m in database.messages if m.signals and m.name != "VECTOR__INDEPENDENT_SIG_MSG"]


def can_id(message: Any) -> int:
    return int(message.frame_id) | (EXTENDED if message.is_extended_frame else 0)


def put(data: NDArray[np.uint8], signal: Any, value: int) -> None:
    """Writes a multiplexer's value, bit by bit, as DBC files count bits."""
    at = int(signal.start)
    for number in range(signal.length):
        big = signal.byte_order == "big_endian"
        bit = value >> (signal.length - 1 - number if big else number) & 1
        data[at // 8] = data[at // 8] & ~np.uint8(1 << at % 8) | np.uint8(bit << at % 8)
        at = at + 1 if not big else at - 1 if at % 8 else at + 15


def choose_branches(rng: np.random.Generator, data: NDArray[np.uint8], message: Any) -> None:
    """Random bytes seldom are a multiplexer's value of any branch: four of five times it is one."""
    for signal in message.signals:
        ids = [
            number
            for other in message.signals
            if other.multiplexer_signal == signal.name
            for number in other.multiplexer_ids
        ]
        if ids and rng.random() < 0.8:
            put(data, signal, int(rng.choice(ids)))


def random_frames(messages: list[Any], each: int, seed: int, bus: int = 0) -> tuple[Frames, list[Any]]:
    """`each` frames of every message in a random order, full of random bytes, and the message of each."""
    rng = np.random.default_rng(seed)
    which = rng.permutation(np.repeat(np.arange(len(messages)), each))
    lengths = np.array([message.length for message in messages], np.uint8)[which]
    data = rng.integers(0, 256, (len(which), FD_BYTES), dtype=np.uint8)
    data[np.arange(FD_BYTES) >= lengths[:, None]] = 0
    ids = np.array([can_id(message) for message in messages], np.uint32)[which]
    for row, number in enumerate(which):
        if messages[number].is_multiplexed():
            choose_branches(rng, data[row], messages[number])
    if lengths.max() <= 8:
        data = np.ascontiguousarray(data[:, :8])
    t_ns = np.arange(len(which), dtype=np.int64) * 1000
    frames = Frames(t_ns, np.full(len(which), bus, np.uint8), ids, lengths, data)
    return frames, [messages[number] for number in which]
