"""The alarm for a source that trickles: beside the Source port, so that it holds for every source.

TUF specification 1.5.2, slow retrieval; Uptane standard 2.1.0 section 5.4: vehicles watch the speed of every download.
Each source has its own time-outs for silence; this is for one that sends just enough to avoid them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ecu.clock import SECOND_NS, Clock
from ota.errors import FetchError, Flaw, SlowRetrieval
from ota.source import Source


@dataclass(frozen=True, slots=True)
class Pace:
    """Fewer than `bytes_per_s`, for as long as `over_s` of waiting for the source, is too slow."""

    bytes_per_s: int = 1000
    over_s: int = 60

    def is_too_slow(self, came: int, waited_ns: int) -> bool:
        return waited_ns >= self.over_s * SECOND_NS and came * SECOND_NS < self.bytes_per_s * waited_ns


SLOWEST: Final = Pace()


class PacedSource:
    """What `source` gives, as long as it comes fast enough; SlowRetrieval(flaw) when it doesn't.

    Only time in which the source is waited for counts, not what is done with its bytes. Make one for each look and each
    download: its time goes on from one file to the next.
    """

    def __init__(self, source: Source, clock: Clock, flaw: Flaw, pace: Pace = SLOWEST) -> None:
        self._source = source
        self._clock = clock
        self._flaw = flaw
        self._pace = pace
        self._came = 0
        self._waited_ns = 0

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        parts = self._source.read(path, offset, most)
        while True:
            began_ns = self._clock.boot_ns()
            try:
                part = next(parts, None)
            except FetchError as error:
                self._demand_pace(path, 0, self._clock.boot_ns() - began_ns, error)
                raise
            self._demand_pace(path, len(part or b""), self._clock.boot_ns() - began_ns)
            if part is None:
                return
            yield part

    def _demand_pace(self, path: str, came: int, waited_ns: int, error: FetchError | None = None) -> None:
        """Of the last part alone, too: what came fast before it must not make up for it."""
        self._came += came
        self._waited_ns += waited_ns
        if self._pace.is_too_slow(came, waited_ns) or self._pace.is_too_slow(self._came, self._waited_ns):
            raise SlowRetrieval(
                self._flaw,
                f"{path} came at fewer than {self._pace.bytes_per_s} bytes a second for {self._pace.over_s} s. It is "
                "tried again later; a bad network does this, and so does one who keeps updates away.",
            ) from error
        if self._waited_ns >= self._pace.over_s * SECOND_NS:
            self._came = self._waited_ns = 0

    def close(self) -> None:
        self._source.close()
