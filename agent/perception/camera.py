"""A camera's process and the frame memory it writes into: slots go out as leases and come back with frames."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, Protocol

from agent.children import Child
from agent.frames import FrameAccount
from agent.perception.restart import Restarts
from agent.perception.settings import PerceptionSettings, Supervision
from ecu.channel import Advance, Done
from ecu.clock import Clock
from ecu.errors import shown
from ecu.urgency import Urgency, may_prefer, prefer
from inference.decoder import DECODER_ENVIRONMENT
from inference.frames import CHANNELS, FrameRing
from inference.messages import Begin, CameraHello, Filled, FromCamera, Lease, Ring, Skipped, SourceEnded, SourceFault

MAX_WORDLESS_DEATHS: Final = 3


class CameraEvents(Protocol):
    """What the camera's owner is told."""

    def camera_open(self, ring: FrameRing) -> None:
        """Frame memory is there; told once."""
        ...

    def frame_filled(self, frame: Filled) -> None:
        """The slot is the owner's until it gives it back."""
        ...

    def frame_skipped(self) -> None: ...

    def camera_done(self, t_ns: int) -> None: ...

    def camera_gone(self) -> None:
        """Its process ended and everything it said was told; it is being started again."""
        ...

    def camera_ended(self) -> None:
        """The drive is over."""
        ...

    def camera_fault(self, fault: SourceFault) -> None: ...


class CameraKeeper:
    """Keeps one camera going until its drive ends; leases every free slot to it."""

    def __init__(
        self,
        settings: PerceptionSettings,
        account: FrameAccount,
        clock: Clock,
        supervision: Supervision,
        events: CameraEvents,
        from_ns: int = 0,
    ) -> None:
        self._settings = settings
        self._account = account
        self._clock = clock
        self._environment = {**supervision.environment, **DECODER_ENVIRONMENT}
        self._start_child = supervision.start
        self._events = events
        self._restarts = Restarts(supervision.clock, supervision.rng)
        self.next_due_ns = from_ns
        self._has_explained = False
        self._heard = 0
        self._camera: Child[FromCamera] | None = None
        self._gone = asyncio.Event()
        self._ended = False
        self._hung = False
        self._granted_ns: int | None = None
        self._leased: set[int] = set()
        self.ring: FrameRing | None = None
        self.geometry: CameraHello | None = None

    @property
    def pid(self) -> int | None:
        return self._camera.pid if self._camera is not None and self._camera.alive else None

    @property
    def replaced(self) -> int:
        return max(0, self._restarts.started - 1)

    async def run(self) -> None:
        """Until the drive ends, or cancelled. A fault of its source is told, and tried again more and more rarely."""
        while not self._ended:
            self._restarts.begins()
            self._gone.clear()
            self._hung = False
            self._has_explained = False
            self._camera = await self._start_child(
                "inference.camera",
                [
                    "--source", self._settings.source,
                    "--ledger", str(self._account.camera_ledger),
                    "--first-frame-id", str(self._account.next_frame_id),
                ],
                FromCamera,
                self._told,
                self._closed,
                self._environment,
            )  # fmt: skip
            if not self._settings.lockstep and may_prefer():
                prefer(self._camera.pid, Urgency.ROAD)
            await self._until_gone(self._camera)
            # Its ledger is free for the next one only when the process is gone for good.
            await self._camera.reaped()
            if not self._ended:
                self._take_leases_back()
                self._events.camera_gone()
                if self._hung and self.ring is None:
                    self._tell_it_hangs()
                await self._restarts.pause(self._hung)
                self._demand_words()

    async def stop(self) -> None:
        if self._camera is not None:
            await self._camera.stop()
        if self.ring is not None:
            self.ring.close()

    def grant(self, t_ns: int) -> None:
        """Lockstep: frames due up to `t_ns` may be captured, by this camera or the one after it."""
        self._granted_ns = t_ns
        if self._camera is not None:
            self._camera.send(Advance(t_ns))

    def give_back(self, slot: int) -> None:
        """The owner is done with a filled slot."""
        assert self.ring is not None
        self.ring.release(slot)
        self._lease_all()

    async def _until_gone(self, camera: Child[FromCamera]) -> None:
        """At real speed a camera that says nothing for so long hangs in its driver or decoder, and is killed."""
        while not self._gone.is_set():
            heard = self._heard
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._ended else self._settings.word_within_s):
                    await self._gone.wait()
            if heard == self._heard and not self._ended and not self._gone.is_set():
                self._hung = True
                camera.kill()
                await self._gone.wait()

    @property
    def _shown_source(self) -> str:
        return shown(self._settings.source)

    def _tell_it_hangs(self) -> None:
        self._has_explained = True
        self._events.camera_fault(
            SourceFault(
                f"The camera's process couldn't open {self._shown_source} within "
                f"{self._settings.word_within_s:.0f} s and was killed. Look at the camera's driver, "
                "or at what the file lies on (dmesg); it is tried again.",
                usage=False,
            )
        )

    def _demand_words(self) -> None:
        """A process that only ever dies can't say what is wrong with its source: it is said for it."""
        if self._restarts.quick_deaths >= MAX_WORDLESS_DEATHS and not self._has_explained:
            self._events.camera_fault(
                SourceFault(
                    f"The camera's process died {self._restarts.quick_deaths} times in a row over "
                    f"{self._shown_source}. A damaged drive may crash its decoder: convert it to MP4 with H.264. "
                    "Otherwise look for what kills processes here (dmesg).",
                    usage=False,
                )
            )

    def _lease_all(self) -> None:
        assert self.ring is not None
        while self._camera is not None and self._camera.alive and (slot := self.ring.lease()) is not None:
            self._leased.add(slot)
            self._camera.send(Lease(slot))

    def _take_leases_back(self) -> None:
        for slot in self._leased:
            assert self.ring is not None
            self.ring.release(slot)
        self._leased.clear()

    def _told(self, camera: Child[FromCamera], message: FromCamera) -> None:
        self._heard += 1
        match message:
            case Filled() if message.slot in self._leased and message.frame_id == self._account.next_frame_id:
                self.next_due_ns = message.t_ns + self.period_ns
                self._leased.remove(message.slot)
                self._events.frame_filled(message)
            case Skipped() if message.frame_id == self._account.next_frame_id:
                self.next_due_ns = message.t_ns + self.period_ns
                self._events.frame_skipped()
            case Filled() | Skipped():
                # Its decoder meets strangers' bytes: a slot that isn't its own would be written while it is read.
                camera.kill()
            case Done(t_ns):
                self._events.camera_done(t_ns)
            case CameraHello():
                self._open(camera, message)
            case SourceEnded():
                self._ended = True
                self._events.camera_ended()
            case SourceFault():
                self._has_explained = True
                self._events.camera_fault(message)

    def _closed(self, camera: Child[FromCamera]) -> None:
        self._gone.set()

    @property
    def period_ns(self) -> int:
        """From one frame to the next, once the camera is open."""
        assert self.geometry is not None
        return self.geometry.period_ns

    def _open(self, camera: Child[FromCamera], hello: CameraHello) -> None:
        if self.ring is None:
            self.ring = FrameRing(self._settings.slots, hello.width * hello.height * CHANNELS)
            self.geometry = hello
            self._events.camera_open(self.ring)
        elif self.geometry != hello:
            self._told(camera, SourceFault("The camera came back with another size or pace: restart the agent.", True))
            camera.kill()
            return
        camera.send(Ring(self.ring.slots, self.ring.slot_bytes), [self.ring.writer_fd()])
        self._lease_all()
        from_ns = self.next_due_ns if self._settings.lockstep else max(self.next_due_ns, self._clock.boot_ns())
        camera.send(Begin(from_ns, self._settings.lockstep))
        if self._granted_ns is not None:
            camera.send(Advance(self._granted_ns))
