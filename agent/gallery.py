"""Pictures of what was noticed: taken covered, kept on flash, told of in a record, brought to the receiver.

The privacy stage is asked before a picture is written, and the record follows once the picture is durable: whoever
reads the record can be sure that there is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

import structlog

from agent.redactor import PictureSide, PictureStatus
from ecu.disk import DiskError
from telemetry.objects import NotKept, ObjectCounts, ObjectKeeper
from telemetry.objects.status import ObjectUplinkStatus
from telemetry.objects.uplink import ObjectUplink
from telemetry.privacy.pictures import RedactedPicture
from telemetry.records import PLACES, PictureTaken, Purpose, Record

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class GalleryStatus:
    """A reading for status and doctor. `denied` pictures were covered, and not kept: for want of consent, for the
    zone that they show, or for a purge that came between. `pictures` is None without a camera."""

    pictures: PictureStatus | None
    denied: int
    objects: ObjectCounts
    uplink: ObjectUplinkStatus | None


class Gallery:
    """`may_keep` says whether a picture of that boot time may be written at all, `private` what of its record may be;
    `offer` takes that once the picture is durable. `side` is None without a camera: then what is kept is only sent;
    `uplink` is None where there is nobody to send to."""

    def __init__(
        self,
        camera: str,
        side: PictureSide | None,
        keeper: ObjectKeeper,
        uplink: ObjectUplink | None,
        may_keep: Callable[[int], bool],
        private: Callable[[int, PictureTaken], list[Record]],
        offer: Callable[[Iterable[Record]], None],
    ) -> None:
        self.side = side
        self._camera = camera
        self._keeper = keeper
        self._uplink = uplink
        self._may_keep = may_keep
        self._private = private
        self._offer = offer
        self._keeping: set[asyncio.Task[None]] = set()
        self._denied = 0
        self._purges = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self.side is not None:
                group.create_task(self.side.run())
            if self._uplink is not None:
                group.create_task(self._uplink.run())

    async def close(self, within_s: float) -> None:
        """What was covered becomes durable, if flash manages in time: records come after it."""
        if self.side is not None:
            await self.side.stop()
        try:
            async with asyncio.timeout(within_s):
                if self._keeping:
                    await asyncio.wait(self._keeping)
                await self._keeper.close()
        except TimeoutError:
            log.error("flash_too_slow", within_s=within_s, pictures=len(self._keeping))
            for task in self._keeping:
                task.cancel()
        except DiskError as failure:
            log.error("objects_not_closed", reason=str(failure))

    def withhold(self, purposes: Set[Purpose]) -> None:
        """From now on no picture for these is handed to a link."""
        self._keeper.withhold(purposes)

    async def erase(self, purpose: Purpose) -> int:
        """All that is kept for a purpose, and what is on its way: covered in memory, or waiting for flash. How many
        pictures were on flash. Raises DiskError."""
        if purpose is PLACES[PictureTaken][1]:
            self._purges += 1
            if self.side is not None:
                self.side.forget()
            if self._keeping:
                # What has begun to become durable would come after.
                await asyncio.wait(set(self._keeping))
        return await self._keeper.erase(purpose)

    def take(self, picture: RedactedPicture) -> None:
        task = asyncio.get_running_loop().create_task(self._keep(picture, self._purges))
        self._keeping.add(task)
        task.add_done_callback(self._kept)

    def status(self) -> GalleryStatus:
        uplink = self._uplink.status() if self._uplink is not None else None
        pictures = self.side.status() if self.side is not None else None
        return GalleryStatus(pictures, self._denied, self._keeper.counts(), uplink)

    async def _keep(self, picture: RedactedPicture, purges: int) -> None:
        if purges != self._purges or not self._may_keep(picture.captured_ns):
            self._denied += 1
            return
        try:
            ref = await self._keeper.put(picture, PLACES[PictureTaken][1])
        except NotKept as reason:
            log.warning("picture_not_kept", reason=str(reason))
            return
        if purges != self._purges:
            return  # a purge took it meanwhile
        self._offer(self._private(picture.captured_ns, self._told(picture, ref.sha256)))

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._keeping.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler({"message": "keeping a picture", "exception": bug})

    def _told(self, picture: RedactedPicture, sha256: str) -> PictureTaken:
        return PictureTaken(
            camera=self._camera,
            frame_id=picture.frame_id,
            sha256=sha256,
            bytes=len(picture.jpeg),
            width=picture.width,
            height=picture.height,
            covered=picture.covered,
            reason=picture.reason,
        )
