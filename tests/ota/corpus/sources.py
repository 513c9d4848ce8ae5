"""Sources that lie about what they have, or when: whatever repository is behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from ecu.clock import SECOND_NS, SteppingClock
from ota.errors import FetchError, Flaw
from ota.source import Source
from ota.trust import ClockUntrusted
from tests.ota.corpus.base import SEEN
from tests.ota.corpus.bundles import long
from tests.ota.corpus.case import Act, Before, Case
from tests.ota.corpus.draft import Draft

DAY_S: Final = 86_400
LITTLE: Final = 60
Read = Callable[[Source, SteppingClock, str, int, int], Iterator[bytes]]


class _Layer:
    def __init__(self, source: Source, clock: SteppingClock, part: str, read: Read) -> None:
        self._source, self._clock, self._part, self._read = source, clock, part, read

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        if self._part in path:
            return self._read(self._source, self._clock, path, offset, most)
        return self._source.read(path, offset, most)

    def close(self) -> None:
        self._source.close()


def lying(part: str, read: Read) -> Act:
    """About paths with that part in them."""
    return lambda draft: draft.through.append(lambda source, clock: _Layer(source, clock, part, read))


METADATA: Final = (
    "director/2.root", "director/timestamp", "director/6.snapshot", "director/6.targets", "image/2.root",
    "image/timestamp", "image/6.snapshot", "image/6.targets", "image/6.model",
)  # fmt: skip


def source_cases() -> Iterator[Case]:
    for path in METADATA:
        yield Case(f"source whose {path} never ends", Flaw.ENDLESS_METADATA, lying(path, _endless))
        yield Case(f"source whose {path} trickles", Flaw.SLOW_LOOK, lying(path, _trickling), words="60 s")
    yield Case("source whose file never ends", Flaw.ENDLESS_FILE, lying("files/", _endless_behind), long)
    yield Case("source whose manifest never ends", Flaw.ENDLESS_MANIFEST, lying("targets/model", _endless_behind))
    yield Case("source whose manifest trickles", Flaw.SLOW_DOWNLOAD, lying("targets/model", _trickling))
    yield Case("source whose file trickles", Flaw.SLOW_DOWNLOAD, lying("files/", _trickling), long, words="60 s")
    yield Case("source whose file trickles at its end", Flaw.SLOW_DOWNLOAD, lying("files/", _slowing), long)
    yield Case("source whose last bytes keep one waiting", Flaw.SLOW_DOWNLOAD, lying("files/", _pausing), long)
    yield Case("source that gives nothing, and doesn't end", Flaw.SLOW_DOWNLOAD, lying("files/", _idle), long)
    yield Case("source that breaks off after a minute", Flaw.SLOW_LOOK, lying("image/6.model", _hanging))
    for words, part, read, flaw in (
        ("file begins a byte later", "files/", _shifted(1), Flaw.CHANGED_BLOCK),
        ("file begins at its start whatever is asked", "files/", _from_its_start, Flaw.CHANGED_BLOCK),
        ("manifest begins a byte later", "targets/model", _shifted(1), FetchError),
        ("metadata begins a byte later", "image/6.model", _shifted(1), Flaw.NOT_METADATA),
    ):
        given = _partly_there if read is _from_its_start else long
        yield Case(f"source whose {words}", flaw, lying(part, read), given, _before(read))
    yield from _of_two_moments()


def _before(read: object) -> Before:
    return Before.KEPT if read is _from_its_start else Before.FRESH


def _partly_there(draft: Draft) -> None:
    """Its first block is the one of release 1, so that the others are asked for from there on."""
    old, new = draft.base.old, draft.base.new
    draft.contents["model.onnx"] = old[: 1 << 20] + new[1 << 20 :]


# --- reads ------------------------------------------------------------------------------------------


def _endless(source: Source, clock: SteppingClock, path: str, offset: int, most: int) -> Iterator[bytes]:
    while True:
        yield b" " * 65_536


def _endless_behind(source: Source, clock: SteppingClock, path: str, offset: int, most: int) -> Iterator[bytes]:
    yield from source.read(path, offset, most)
    for _ in range(200):
        yield bytes(65_536)
    raise AssertionError("who reads so far would read on for ever")


def _trickling(source: Source, clock: SteppingClock, path: str, offset: int, most: int) -> Iterator[bytes]:
    if most <= LITTLE:  # it is over before anybody could notice
        yield from source.read(path, offset, most)
        return
    for _ in range(150):
        clock.advance(clock.boot_ns() + SECOND_NS)
        yield b" "
    raise AssertionError("nobody noticed")


def _slowing(source: Source, clock: SteppingClock, path: str, offset: int, most: int) -> Iterator[bytes]:
    *parts, _ = source.read(path, offset, most)
    yield from parts
    yield from _trickling(source, clock, path, offset, most)


def _pausing(source: Source, clock: SteppingClock, path: str, offset: int, most: int) -> Iterator[bytes]:
    *parts, last = source.read(path, offset, most)
    yield from parts
    clock.advance(clock.boot_ns() + 61 * SECOND_NS * (most > LITTLE))
    yield last


def _idle(source: Source, clock: SteppingClock, path: str, offset: int, most: int) -> Iterator[bytes]:
    for _ in range(150):
        clock.advance(clock.boot_ns() + SECOND_NS)
        yield b""
    raise AssertionError("nobody noticed")


def _hanging(source: Source, clock: SteppingClock, path: str, offset: int, most: int) -> Iterator[bytes]:
    clock.advance(clock.boot_ns() + 61 * SECOND_NS)
    yield from _silent()


def _silent() -> Iterator[bytes]:
    raise FetchError("The link was silent.")


def _shifted(by: int) -> Read:
    def read(source: Source, clock: SteppingClock, path: str, offset: int, most: int) -> Iterator[bytes]:
        return source.read(path, offset + by * (most > LITTLE), most)

    return read


def _from_its_start(source: Source, clock: SteppingClock, path: str, offset: int, most: int) -> Iterator[bytes]:
    return source.read(path, 0, most)


# --- time -------------------------------------------------------------------------------------------


def _of_two_moments() -> Iterator[Case]:
    yield Case("repository of before, whole", Flaw.TIMESTAMP_ROLLBACK, _everything(SEEN - 1), before=Before.KEPT)
    yield Case(
        "repository of before, whole, to one that forgot", Flaw.FORGOTTEN_ROLLBACK, _everything(SEEN - 1),
        before=Before.FORGETFUL,
    )  # fmt: skip
    for repository in ("director", "image"):
        yield Case(
            f"{repository} of before, beside the other's newest", Flaw.TIMESTAMP_ROLLBACK,
            _everything(SEEN - 1, repository), before=Before.KEPT, words=f"{repository}/timestamp",
        )  # fmt: skip
    yield Case("repository that stood still", Flaw.TIMESTAMP_EXPIRED, _later(8 * DAY_S), words="2027-01-22.*2027-01-23")
    yield Case("repository that stood still for a year", Flaw.ROOT_EXPIRED, _later(400 * DAY_S))
    yield Case("clock before what was signed", ClockUntrusted, _later(-DAY_S), before=Before.KEPT, words="2027-01-14")
    yield Case("clock of nineteen-seventy", ClockUntrusted, _later(-1_700_000_000), before=Before.KEPT)


def _everything(version: int, repository: str = "") -> Act:
    def act(draft: Draft) -> None:
        draft.versions.update({role: version for role in draft.versions if role.startswith(repository)})

    return act


def _later(seconds: int) -> Act:
    def act(draft: Draft) -> None:
        draft.clock_s = seconds

    return act
