"""What processes have in memory together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_MAPPING: Final = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) (\S+) (\d+)")
_KIB: Final = 1024

File = tuple[str, str, str]


def resident_mb(pids: Iterable[int]) -> float:
    """Megabytes of RAM that these processes hold: each one's own pages, and those of a file that several map once, as
    much as the one with most of it has (proc(5), smaps)."""
    own_kib, of_files = 0, defaultdict[File, int](int)
    for pid in pids:
        files = defaultdict[File, int](int)
        for file, resident_kib, anonymous_kib in _mappings(Path(f"/proc/{pid}/smaps").read_text()):
            own_kib += anonymous_kib
            files[file] += resident_kib - anonymous_kib
        for file, kib in files.items():
            of_files[file] = max(of_files[file], kib)
    return (own_kib + sum(of_files.values())) * _KIB / 1e6


def _mappings(text: str) -> Iterator[tuple[File, int, int]]:
    """(offset, device, inode), and what of it is resident: in all, and of the process's own."""
    file, resident_kib = ("", "", ""), 0
    for line in text.splitlines():
        if begins := _MAPPING.match(line):
            file = begins[1], begins[2], begins[3]
        elif line.startswith("Rss:"):
            resident_kib = int(line.split()[1])
        elif line.startswith("Anonymous:"):
            yield file, resident_kib, int(line.split()[1])
