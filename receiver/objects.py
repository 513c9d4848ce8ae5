"""Objects over HTTPS: each vehicle brings its own, slice by slice, and hears "stored" when that is true.

Exchange: docs/formats/objects.md. The vehicle is the certificate's, so that nobody can bring or see another's.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ecu.clock import SECOND_NS, Clock
from ecu.disk import DiskError, DiskFull
from receiver import objectrows
from receiver.admission import NotAdmitted
from receiver.counters import Counters
from receiver.objectfiles import ObjectFiles
from receiver.pki import Stranger, identify
from receiver.quota import Quota
from receiver.store import Store, StoreError
from receiver.web import CLIENT_CERTIFICATE, TooLarge, answer, body_of
from telemetry.links.pairing import BadMessage, Refusal
from telemetry.objects.wire import (
    HAVE_HEADER,
    MAX_SLICE_BYTES,
    OBJECTS_PATH,
    PARTIAL,
    STATE_HEADER,
    STORED,
    ByteRange,
    Have,
    is_digest,
    read_range,
)

NO_ROOM_AFTER_S: Final = 3600
EXPIRY_LOOK_NS: Final = 600 * SECOND_NS

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ObjectRules:
    """What a vehicle may bring: bytes of one object, of all its objects, and how long a partial one waits."""

    object_bytes: int
    vehicle_bytes: int
    partial_ns: int


class Unfit(Exception):
    """This request makes no sense, or never will here. `status` says which; the message is for people."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Patience(Exception):
    """Not now: again in `after_s` seconds."""

    def __init__(self, status: int, words: str, after_s: int) -> None:
        super().__init__(words)
        self.status = status
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request that made sense: whose object, and whether it is stored, in bytes."""

    vehicle: str
    sha256: str
    stored: int | None


class ObjectDesk:
    """`refusals` is how many a vehicle may have before it waits. Files are written in threads, one act a vehicle."""

    def __init__(
        self,
        files: ObjectFiles,
        store: Store,
        clock: Clock,
        counters: Counters,
        refusals: Quota,
        rules: ObjectRules,
    ) -> None:
        self._files = files
        self._store = store
        self._clock = clock
        self._counters = counters
        self._refusals = refusals
        self._rules = rules
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def routes(self) -> list[Route]:
        return [Route(f"{OBJECTS_PATH}/{{sha256}}", self._serve, methods=["HEAD", "PUT"])]

    async def run(self) -> None:
        """Throws away partial objects that nobody goes on with, until cancelled."""
        while True:
            await self._clock.sleep_until(self._clock.boot_ns() + EXPIRY_LOOK_NS)
            await self.expire()

    async def expire(self) -> None:
        """Those that have waited too long, now."""
        for place in self._files.waited_since(self._last_ns()):
            async with self._turns[place[0]]:
                # Once more, now that it is this vehicle's turn: a slice may have come.
                if place in self._files.waited_since(self._last_ns()):
                    await self._throw_away(*place)

    def _last_ns(self) -> int:
        return self._clock.boot_ns() - self._rules.partial_ns

    async def _throw_away(self, vehicle: str, sha256: str) -> None:
        try:
            await asyncio.to_thread(self._files.discard, vehicle, sha256)
        except DiskError as error:
            log.error("object_partial_stays", vehicle=vehicle, reason=str(error))
        else:
            self._counters.object_partials_expired += 1

    # --- one request ---

    async def _serve(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except (Stranger, NotAdmitted) as error:
            return answer(Refusal(str(error)), 403)
        except Patience as error:
            return answer(Refusal(str(error)), error.status, {"retry-after": str(error.after_s)})
        except Unfit as error:
            return self._refuse(request, error.status, str(error))
        except TooLarge as error:
            return self._refuse(request, 413, str(error))
        except BadMessage as error:
            # The network's doing, so it costs the vehicle nothing; nobody is there to read the answer.
            self._counters.object_slices_cut += 1
            return answer(Refusal(str(error)), 400)
        except DiskFull as error:
            self._counters.objects_no_room += 1
            log.error("object_disk_full", reason=str(error))
            return answer(Refusal("The receiver has no room. Try later."), 507, {"retry-after": str(NO_ROOM_AFTER_S)})
        except (DiskError, StoreError) as error:
            log.error("object_not_taken", reason=str(error))
            return answer(Refusal("The receiver's store is out of order. Try later."), 503)

    async def _answer(self, request: Request) -> Response:
        asked = await self._asked(request)
        if request.method == "HEAD":
            return _told(200, await self._look(asked))
        self._heed_refusals(asked.vehicle)
        part = checked_range(request.headers, self._rules.object_bytes)
        data = await body_of(request, part.size)
        if len(data) != part.size:
            raise Unfit(400, f"The range has {part.size} bytes, the body {len(data)}.")
        async with self._turns[asked.vehicle]:
            return await self._put(asked, part, data)

    async def _asked(self, request: Request) -> _Asked:
        who = identify(request.scope[CLIENT_CERTIFICATE])
        sha256 = request.path_params["sha256"]
        now_ns = self._clock.wall_ns()
        if not is_digest(sha256):
            await self._store.transact(objectrows.welcome, who, "", now_ns)
            raise Unfit(400, "An object is named by its SHA-256, in hex, lower case.")
        return _Asked(who.vehicle, sha256, await self._store.transact(objectrows.welcome, who, sha256, now_ns))

    def _heed_refusals(self, vehicle: str) -> None:
        if (wait_s := self._refusals.wait_s(vehicle, 1, self._clock.boot_ns())) > 0.0:
            self._counters.objects_throttled += 1
            raise Patience(429, f"Too many objects of {vehicle} were refused. Wait.", int(wait_s) + 1)

    def _refuse(self, request: Request, status: int, words: str) -> Response:
        vehicle = identify(request.scope[CLIENT_CERTIFICATE]).vehicle
        self._refusals.charge(vehicle, 1, self._clock.boot_ns())
        self._counters.objects_refused += 1
        log.warning("object_refused", vehicle=vehicle, status=status, reason=words)
        return answer(Refusal(words), status)

    # --- what is there ---

    async def _look(self, asked: _Asked) -> Have:
        if asked.stored is not None:
            return Have(asked.stored, stored=True)
        async with self._turns[asked.vehicle]:
            have = await asyncio.to_thread(self._files.have, asked.vehicle, asked.sha256)
            # All of it may be there, and a kill came before the row.
            size = await self._settle(asked)
        return Have(have, stored=False) if size is None else Have(size, stored=True)

    async def _settle(self, asked: _Asked) -> int | None:
        """Stores the object if all of it is there: bytes of it, else None."""
        size = await asyncio.to_thread(self._files.finish, asked.vehicle, asked.sha256)
        if size is not None:
            now_ns = self._clock.wall_ns()
            await self._store.transact(objectrows.commit, asked.vehicle, asked.sha256, size, now_ns)
            self._counters.objects_stored += 1
            log.info("object_stored", vehicle=asked.vehicle, sha256=asked.sha256, bytes=size)
        return size

    # --- a slice ---

    async def _put(self, asked: _Asked, part: ByteRange, data: bytes) -> Response:
        # Once more, now that it is this vehicle's turn: another connection of it may have brought the rest.
        stored = await self._store.transact(objectrows.find, asked.vehicle, asked.sha256)
        if stored is not None:
            self._counters.objects_known += 1
            return _told(200, Have(stored, stored=True))
        have = await asyncio.to_thread(self._files.have, asked.vehicle, asked.sha256)
        if have >= part.total:
            await asyncio.to_thread(self._files.discard, asked.vehicle, asked.sha256)
            have = 0
        if part.start != have:
            self._counters.object_slices_misplaced += 1
            return _told(409, Have(have, stored=False))
        await self._check_room(asked, part.total)
        have = await asyncio.to_thread(self._files.take, asked.vehicle, asked.sha256, part.start, data)
        self._counters.object_slices += 1
        if have < part.total:
            return _told(202, Have(have, stored=False))
        return await self._last_slice(asked)

    async def _last_slice(self, asked: _Asked) -> Response:
        size = await self._settle(asked)
        if size is not None:
            return _told(200, Have(size, stored=True))
        await asyncio.to_thread(self._files.discard, asked.vehicle, asked.sha256)
        self._counters.objects_mismatched += 1
        now_ns = self._clock.wall_ns()
        await self._store.transact(objectrows.sound_alarm, asked.vehicle, asked.sha256, now_ns)
        raise Unfit(422, "The bytes that came don't have that SHA-256. They are thrown away.")

    async def _check_room(self, asked: _Asked, total: int) -> None:
        used = await self._store.transact(objectrows.used_bytes, asked.vehicle)
        used += await asyncio.to_thread(self._files.partial_bytes, asked.vehicle, asked.sha256)
        if used + total > self._rules.vehicle_bytes:
            self._counters.objects_no_room += 1
            log.warning("object_no_room", vehicle=asked.vehicle, used=used, bytes=total)
            raise Patience(507, f"The objects of {asked.vehicle} have no more room here.", NO_ROOM_AFTER_S)


def checked_range(headers: Mapping[str, str], object_bytes: int) -> ByteRange:
    """The slice that a request announces, before any of it is read. Raises Unfit."""
    part = read_range(headers.get("content-range", ""))
    if part is None:
        raise Unfit(400, "A slice says which it is: content-range: bytes FIRST-LAST/TOTAL.")
    if part.total > object_bytes:
        raise Unfit(413, f"An object of {part.total} bytes is more than the {object_bytes} that are taken here.")
    if part.size > MAX_SLICE_BYTES:
        raise Unfit(413, f"A slice has at most {MAX_SLICE_BYTES} bytes.")
    announced = headers.get("content-length")
    if announced is not None and announced.strip() != str(part.size):
        raise Unfit(400, f"The range has {part.size} bytes, the body {announced[:20]}.")
    return part


def _told(status: int, have: Have) -> Response:
    return Response(None, status, {HAVE_HEADER: str(have.bytes), STATE_HEADER: STORED if have.stored else PARTIAL})
