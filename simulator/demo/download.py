"""A release fetched from the receiver by the vehicle's own code, over a link that is cut in the middle."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.pairing import Paired
from agent.updatesource import ReceiverSource
from ecu.clock import Clock
from ecu.disk import state_folder
from ota.errors import FetchError
from ota.kinds import Kind
from ota.manifest import BundleManifest, bundle_digest, encode_manifest
from ota.source import Source
from ota.trust import ANY_HARDWARE, Roots, Vehicle
from ota.updates import Updates
from simulator.demo.flash import boot_record, is_whole
from simulator.faults.net import FaultProxy, Flow

CUT_AT: Final = 0.62
BYTES_PER_S: Final = 16e6
"""Slow enough that what the cut catches isn't all in the computer's own buffers."""
LOOKS: Final = 40
LOOK_AGAIN_S: Final = 0.25
_CUT_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Download:
    """Bytes of the release: all, those that had come when the link was cut (0: it never was), those that came in all.
    `was_cut`: the vehicle noticed; `is_whole`: in the end it lay on flash, right by its hashes."""

    size: int
    before_cut: int
    fetched: int
    was_cut: bool
    is_whole: bool

    @property
    def again(self) -> int:
        """Bytes that came more than once."""
        return self.fetched - self.size


@dataclass(frozen=True, slots=True)
class Identity:
    """A paired vehicle's: where its receiver is, and what proves to it which vehicle asks."""

    paired: Paired
    context: ssl.SSLContext


async def cut_download(identity: Identity, release: BundleManifest, folder: Path, clock: Clock) -> Download:
    """As that vehicle; what it fetches goes to `folder`."""
    paired = identity.paired
    loop = asyncio.get_running_loop()
    async with FaultProxy("127.0.0.1", paired.https_port) as proxy:
        proxy.shape(down=Flow(bytes_per_s=BYTES_PER_S))

        def cut() -> None:
            done = threading.Event()
            loop.call_soon_threadsafe(proxy.cut)
            loop.call_soon_threadsafe(done.set)
            done.wait(_CUT_WITHIN_S)

        line = ReceiverSource(paired.host, proxy.port, identity.context, clock)
        source = _Counted(line, int(release.size * CUT_AT), cut)
        car = _updates(paired, folder, clock)
        failures = 0
        try:
            # The receiver may be away for reasons of its own, too: a vehicle looks again.
            while not await asyncio.to_thread(_fetch, car, source) and failures < LOOKS:
                failures += 1
                proxy.restore()
                await asyncio.sleep(LOOK_AGAIN_S)
        finally:
            source.close()
    digest = bundle_digest(encode_manifest(release))
    return Download(release.size, source.before_cut, source.given, failures > 0, _is_there(folder / Kind.MODEL, digest))


def _updates(paired: Paired, folder: Path, clock: Clock) -> Updates:
    roots = Roots(paired.director_root.encode(), paired.image_root.encode())
    return Updates(state_folder(folder), roots, Vehicle(paired.vehicle, ANY_HARDWARE), clock, lambda notice: None)


def _fetch(car: Updates, source: Source) -> bool:
    """Whether the model that the vehicle is to have came whole; False when the network let it down, or none is
    offered."""
    try:
        offers = [offer for offer in car.check(source) if offer.kind is Kind.MODEL]
        for offer in offers:
            car.install(source, offer, lambda progress: None)
    except FetchError:
        return False
    return bool(offers)


def _is_there(kind: Path, digest: str) -> bool:
    record = boot_record(kind)
    slots = [slot for slot, installed in record["slots"].items() if installed["digest"] == digest]
    return len(slots) == 1 and is_whole(kind, slots[0], digest)


class _Counted:
    """Counts what it gives of bundles' files, and has the link cut, once, after so many bytes of them."""

    def __init__(self, source: Source, cut_after: int, cut: Callable[[], None]) -> None:
        self.given = 0
        self.before_cut = 0
        self._source = source
        self._cut_after = cut_after
        self._cut: Callable[[], None] | None = cut

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        for part in self._source.read(path, offset, most):
            if path.startswith("files/"):
                self.given += len(part)
            yield part
            if self.given >= self._cut_after and self._cut is not None:
                cut, self._cut = self._cut, None
                self.before_cut = self.given
                cut()

    def close(self) -> None:
        self._source.close()
