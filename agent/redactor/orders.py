"""What a redactor was asked and has not answered yet. No process and no clock: the agent's side keeps those.

It answers in the order of the questions. What it says is held against what it was asked, and what a picture is of is
told by the camera, not by it: an answer that can't be means that nothing it says shows nobody.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from agent.redactor.messages import MAX_PICTURE_BYTES, REMEMBERED, Covered, Crop, Developed, Part
from telemetry.privacy.pictures import RedactedCrop, RedactedPicture

MOST_GONE: Final = 64
"""Frames whose time is known although they aren't remembered any more; no clip has more pictures."""


class Untrue(Exception):
    """The redactor's answer can't be: nothing that it says is believed any more. The message says what it was."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A frame as its camera told of it. `t_ns` is boot time of its capture."""

    frame_id: int
    t_ns: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Covering:
    shot: Shot
    tracks: frozenset[int]
    crop_px: int


@dataclass(slots=True)
class _Cutting:
    """What of the last covered frame may still come, each track once."""

    shot: Shot
    tracks: set[int]
    crop_px: int


@dataclass(slots=True)
class _Developing:
    """`most` pictures at most, by rising frame; `last_id` is the last one's, `begun` what has come of the next."""

    frame_id: int
    reason: str
    most: int
    pictures: int = 0
    last_id: int = -1
    begun: bytearray = field(default_factory=bytearray)

    @property
    def has_own(self) -> bool:
        return self.last_id == self.frame_id


class Orders:
    """One redactor's, for its life. `gone_ns` are times of frames that others covered, and that went with them."""

    def __init__(self, gone_ns: Iterable[int] = ()) -> None:
        self._gone_ns = deque(gone_ns, MOST_GONE)
        self._held: deque[Shot] = deque()
        self._asked: deque[_Covering | _Developing] = deque()
        self._covered: OrderedDict[int, tuple[Shot, int]] = OrderedDict()
        self._cutting: _Cutting | None = None

    @property
    def is_covering(self) -> bool:
        return any(isinstance(asked, _Covering) for asked in self._asked)

    @property
    def pictures_waiting(self) -> int:
        return len(self._developing())

    @property
    def times_ns(self) -> list[int]:
        """Of the frames that were to be covered last."""
        return [*self._gone_ns, *(shot.t_ns for shot in self._held)]

    def held_since(self, t_ns: int) -> list[Shot]:
        """What it will remember of the frames captured from then on, when it gets to what it is asked next."""
        return [shot for shot in self._held if shot.t_ns >= t_ns]

    def gone_since(self, t_ns: int) -> int:
        """How many frames captured from then on were covered, and won't be remembered then."""
        return sum(gone_ns >= t_ns for gone_ns in self._gone_ns)

    def cover(self, shot: Shot, tracks: frozenset[int] = frozenset(), crop_px: int = 0) -> None:
        """`tracks` are to be cut out of it."""
        self._held.append(shot)
        if len(self._held) > REMEMBERED:
            self._gone_ns.append(self._held.popleft().t_ns)
        self._asked.append(_Covering(shot, tracks, crop_px))

    def develop(self, frame_id: int, before: int, reason: str) -> None:
        self._asked.append(_Developing(frame_id, reason, before + 1))

    def covered(self, answer: Covered) -> None:
        """Raises Untrue."""
        match self._head():
            case _Covering(shot, tracks, crop_px) if shot.frame_id == answer.frame_id:
                self._asked.popleft()
                self._cutting = _Cutting(shot, set(tracks), crop_px)
                self._covered[shot.frame_id] = shot, answer.regions
                while len(self._covered) > REMEMBERED:
                    self._covered.popitem(last=False)
            case _:
                raise Untrue(f"The redactor covered frame {answer.frame_id}, which it wasn't asked to.")

    def crop(self, answer: Crop) -> RedactedCrop:
        """Raises Untrue."""
        cutting = self._cutting
        if cutting is None or cutting.shot.frame_id != answer.frame_id or answer.track_id not in cutting.tracks:
            raise Untrue(f"The redactor cut track {answer.track_id} out of frame {answer.frame_id}, unasked.")
        if answer.size != cutting.crop_px or len(answer.pixels) != answer.size * answer.size * 3:
            raise Untrue(f"The redactor told a crop of {len(answer.pixels)} bytes, {cutting.crop_px} pixels a side.")
        cutting.tracks.discard(answer.track_id)
        shot = cutting.shot
        return RedactedCrop(answer.pixels, answer.size, shot.frame_id, shot.t_ns, answer.track_id)

    def part(self, answer: Part) -> RedactedPicture | None:
        """The picture, once all of it has come. Raises Untrue."""
        order = self._head()
        if not isinstance(order, _Developing) or not self._may_come(order, answer):
            raise Untrue(f"The redactor told a picture of frame {answer.frame_id}, which it wasn't asked for.")
        order.last_id = answer.frame_id
        order.begun += answer.data
        if not answer.data or not len(order.begun) <= answer.whole <= MAX_PICTURE_BYTES:
            raise Untrue(f"The redactor told a picture of {answer.whole} bytes, and {len(order.begun)} came.")
        if len(order.begun) < answer.whole:
            return None
        jpeg, order.begun = bytes(order.begun), bytearray()
        order.pictures += 1
        shot, regions = self._covered[answer.frame_id]
        return RedactedPicture(jpeg, shot.width, shot.height, shot.frame_id, shot.t_ns, regions, order.reason)

    def developed(self, answer: Developed) -> bool:
        """Whether the frame's own picture came. Raises Untrue."""
        match self._head():
            case _Developing(frame_id, pictures=pictures, begun=begun) as order if frame_id == answer.frame_id:
                if begun or pictures != answer.pictures:
                    raise Untrue(f"The redactor told {pictures} pictures and says that they were {answer.pictures}.")
                self._asked.popleft()
                return order.has_own
            case _:
                raise Untrue(f"The redactor developed frame {answer.frame_id}, which it wasn't asked to.")

    def unfinished(self) -> list[bool]:
        """Of each picture that it still owes, whether it has come nevertheless."""
        return [order.has_own and not order.begun for order in self._developing()]

    def _head(self) -> _Covering | _Developing | None:
        return self._asked[0] if self._asked else None

    def _developing(self) -> list[_Developing]:
        return [asked for asked in self._asked if isinstance(asked, _Developing)]

    def _may_come(self, order: _Developing, answer: Part) -> bool:
        """The next part of what was begun, or a picture of a later frame that it has covered, up to the one asked
        for."""
        if order.begun:
            return answer.frame_id == order.last_id
        is_next = order.last_id < answer.frame_id <= order.frame_id and order.pictures < order.most
        return is_next and answer.frame_id in self._covered
