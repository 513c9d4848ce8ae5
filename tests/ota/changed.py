"""Sources that don't give what the repository holds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from ota.errors import FetchError, NotThere
from ota.layout import file_path
from ota.source import PART_BYTES, Source

Change = Callable[[str, bytes], bytes]


class Open:
    """A source that holds nothing to let go of."""

    def close(self) -> None: ...


class Changed(Open):
    """Every file as `change(path, content)` makes it; `asked` lists what was asked for."""

    def __init__(self, source: Source, change: Change = lambda path, data: data) -> None:
        self._source = source
        self._change = change
        self.asked: list[tuple[str, int, int]] = []

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        self.asked.append((path, offset, most))
        whole = self._change(path, b"".join(self._source.read(path, 0, 1 << 40)))[offset : offset + most]
        yield from (whole[at : at + PART_BYTES] for at in range(0, len(whole), PART_BYTES))


class Held(Open):
    """Files of bundles, held in memory."""

    def __init__(self, *contents: bytes) -> None:
        self._files = {file_path(hashlib.sha256(content).hexdigest()): content for content in contents}

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        if path not in self._files:
            raise NotThere(f"There is no {path}.")
        content = self._files[path][offset : offset + most]
        yield from (content[at : at + PART_BYTES] for at in range(0, len(content), PART_BYTES))


class Cut(Open):
    """Breaks off after so many bytes of the bundles' files, and counts what it gave of them."""

    def __init__(self, source: Source, after: int) -> None:
        self._source = source
        self._left = after
        self.given = 0

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        for part in self._source.read(path, offset, most):
            if not path.startswith(("files/", "deltas/")):
                yield part
                continue
            if len(part) > self._left:
                self.given += self._left
                yield part[: self._left]
                raise FetchError("The link was cut.")
            self._left -= len(part)
            self.given += len(part)
            yield part
