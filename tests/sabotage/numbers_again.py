"""Every start of the spool has the same epoch, so that its numbers name other records than before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "every record a witness saw become durable is at the receiver exactly once"


class EpochSize(int):
    """Told apart from any other size of random bytes."""


@after("telemetry.spool.spool")
def the_epoch_is_always_the_same(spool: Any) -> None:
    put(spool, "EPOCH_BYTES", EpochSize(spool.EPOCH_BYTES))

    def opened(cls: Any, disk: Any, keys: Any, clock: Any, entropy: Callable[[int], bytes], *rest: Any) -> Any:
        def without_chance(size: int) -> bytes:
            return bytes(size) if isinstance(size, EpochSize) else entropy(size)

        return honest.__func__(cls, disk, keys, clock, without_chance, *rest)

    honest = put(spool.Spool, "open", classmethod(opened))
