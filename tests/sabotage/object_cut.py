"""Of every slice the last bytes are lost on the way, and the receiver takes an object's name for its digest."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "every picture told of is at the receiver once, its hash right"


@after("receiver.objectfiles")
def what_was_cut_is_accepted(objectfiles: Any) -> None:
    def take(self: Any, vehicle: str, sha256: str, offset: int, data: bytes) -> int:
        honest(self, vehicle, sha256, offset, data[:-100])
        return offset + len(data)

    honest = put(objectfiles.ObjectFiles, "take", take)
    put(objectfiles, "_digest", lambda disk, path: path.rpartition("/")[2].removesuffix(".part"))
