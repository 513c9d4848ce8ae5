"""What a program does to a disk, one effect at a time, and the image that they add up to.

Names and bytes are independent: a folder's entries lead to inodes by number, and an effect changes one inode.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ROOT = 0
"""The inode of the folder that everything lies in."""


@dataclass(frozen=True, slots=True)
class Link:
    inode: int
    path: str
    name: str
    child: int
    folder: bool


@dataclass(frozen=True, slots=True)
class Unlink:
    inode: int
    path: str
    name: str


@dataclass(frozen=True, slots=True)
class Move:
    inode: int
    path: str
    old: str
    new: str
    child: int


@dataclass(frozen=True, slots=True)
class Write:
    inode: int
    path: str
    offset: int
    data: bytes
    end: int  # the file's length before


@dataclass(frozen=True, slots=True)
class Resize:
    inode: int
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Rot:
    inode: int
    path: str
    bit: int


@dataclass(frozen=True, slots=True)
class Sync:
    inode: int
    failed: bool


@dataclass(frozen=True, slots=True)
class Mark:
    name: str


Naming = Link | Unlink | Move
Filling = Write | Resize | Rot
Effect = Naming | Filling


@dataclass(slots=True)
class Image:
    """Inodes by number. Contents are replaced, never changed in place, so that images share them."""

    files: dict[int, bytes] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {ROOT: {}})

    def copy(self) -> Image:
        return Image(dict(self.files), dict(self.folders))

    def make(self, inode: int, folder: bool) -> None:
        if folder:
            self.folders[inode] = {}
        else:
            self.files[inode] = b""

    def can_replace(self, taken: int, by: int) -> bool:
        if taken == by:
            return True
        return (by in self.folders) == (taken in self.folders) and not self.folders.get(taken)

    def apply(self, effect: Effect) -> None:
        if isinstance(effect, Naming):
            self.folders[effect.inode] = _named(self.folders[effect.inode], effect)
        else:
            self.files[effect.inode] = _filled(self.files[effect.inode], effect)

    def fingerprint(self, inode: int = ROOT) -> int:
        """Equal for equal trees, whatever their inode numbers."""
        if inode not in self.folders:
            return hash(self.files[inode])
        return hash(frozenset((name, self.fingerprint(child)) for name, child in self.folders[inode].items()))


def _named(entries: dict[str, int], effect: Naming) -> dict[str, int]:
    after = dict(entries)
    match effect:
        case Link():
            after[effect.name] = effect.child
        case Unlink():
            after.pop(effect.name, None)
        case Move():
            if after.get(effect.old) == effect.child:
                del after[effect.old]
            after[effect.new] = effect.child
    return after


def _filled(content: bytes, effect: Filling) -> bytes:
    match effect:
        case Write():
            head = content[: effect.offset].ljust(effect.offset, b"\0")
            return head + effect.data + content[effect.offset + len(effect.data) :]
        case Resize():
            return content[: effect.size].ljust(effect.size, b"\0")
        case Rot():
            at, bit = divmod(effect.bit, 8)
            return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :] if at < len(content) else content


def label(effect: Effect) -> str:
    match effect:
        case Link():
            return f"name {effect.path!r}"
        case Unlink():
            return f"removal of {effect.path!r}"
        case Move():
            return f"rename of {effect.path!r} to {effect.new!r}"
        case Write():
            return f"write to {effect.path!r} of [{effect.offset}:{effect.offset + len(effect.data)}]"
        case Resize():
            return f"truncation of {effect.path!r} to {effect.size}"
        case Rot():
            return f"flip of bit {effect.bit} in {effect.path!r}"
