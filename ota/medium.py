"""A medium that somebody brought to the vehicle: a stick with what `outrider ota export` put there for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from ota.source import FolderSource, Source
from ota.zipsource import ZipSource

MEDIUM_NAME: Final = "outrider-updates"
ZIP_NAME: Final = f"{MEDIUM_NAME}.zip"
_MOST_FOLDERS: Final = 32


@dataclass(frozen=True, slots=True)
class Medium:
    """One that is there now. `stamp` tells it from another, and from itself once somebody wrote to it."""

    path: Path
    stamp: tuple[int, int, int, int]

    def open(self, vehicle: str) -> Source:
        """Raises TrustError for an archive that is refused as a whole, FetchError when it can't be read."""
        return ZipSource(self.path, vehicle) if self.path.name == ZIP_NAME else FolderSource(self.path, vehicle)


def find_medium(media: Path) -> Medium | None:
    """What lies in `media`, or in a folder of it, as sticks are mounted: `outrider-updates` or `outrider-updates.zip`;
    None when nothing does. The first by name when there are several."""
    for folder in (media, *_folders(media)):
        for path, sign in ((folder / ZIP_NAME, ""), (folder / MEDIUM_NAME, "image/metadata/timestamp.json")):
            try:
                its = os.stat(path / sign, follow_symlinks=False)
                if stat.S_ISLNK(os.stat(path, follow_symlinks=False).st_mode):
                    continue  # it may lead anywhere, off the stick
            except OSError:
                continue
            return Medium(path, (its.st_dev, its.st_ino, its.st_size, its.st_mtime_ns))
    return None


def _folders(media: Path) -> Iterator[Path]:
    try:
        with os.scandir(media) as entries:
            found = [entry.name for entry in islice(entries, _MOST_FOLDERS) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for name in sorted(found):
        yield media / name
