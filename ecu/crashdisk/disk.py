"""The disk that loses power, as a program and its test see it: the port in memory, faults on command, and every state
that a cut could leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ecu.crashdisk.cuts import Choice, Replay
from ecu.crashdisk.effects import ROOT, Effect, Image, Link, Mark, Move, Resize, Rot, Sync, Unlink, Write, label
from ecu.crashdisk.steps import Step, can_swap, steps, swapped
from ecu.disk import DiskDenied, DiskError

Act = Literal[
    "names", "size", "read", "read_at", "make_folder", "create", "write_at", "truncate", "sync", "sync_folder",
    "rename", "remove",
]  # fmt: skip  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the port. `index` counts from 0; `length` is the bytes it reads or writes."""

    index: int
    act: Act
    path: str
    length: int = 0


@dataclass(frozen=True, slots=True)
class CrashState:
    """What one power cut left. `at` calls had begun; `acknowledged` are the marks set before it."""

    at: int
    acknowledged: frozenset[str]
    disk: CrashDisk
    _last: Call | None
    _open: tuple[Effect, ...]
    _choice: Choice

    @property
    def fingerprint(self) -> int:
        """Equal for equal disks, within one process."""
        return self.disk._live.fingerprint()

    @property
    def describe(self) -> str:
        """For the message of a failed assertion: where the power went, and what it took."""
        after = f"after call {self._last.index} ({self._last.act} {self._last.path!r})" if self._last else "at once"
        lines = [f"power cut {after}; acknowledged: {', '.join(sorted(self.acknowledged)) or 'nothing'}"]
        for i, effect in enumerate(self._open):
            fate = "kept" if self._choice.kept >> i & 1 else "lost"
            torn = self._choice.torn if i == self._choice.at else None
            lines.append(f"  {'torn' if torn else fate}: {label(torn or effect)}")
        return "\n".join(lines)


class CrashDisk:
    """A `Disk` in memory. Use it, `mark` what was acknowledged, then ask `after_crash` what a power cut could leave.

    To stop the program without cutting the power (SIGKILL), `fail` with an error nobody catches and go on with the same
    disk: it still shows all that was written.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.syncs = 0
        self._start = Image()
        self._live = Image()
        self._log: list[tuple[int, Effect | Sync | Mark]] = []
        self._inodes = ROOT
        self._faults: list[tuple[Callable[[Call], bool], BaseException]] = []
        self._lost_syncs = set[int]()

    # --- the port ---

    def exists(self, path: str) -> bool:
        try:
            self._inode(path)
        except (FileNotFoundError, DiskDenied):
            return False
        return True

    def is_folder(self, path: str) -> bool:
        return self.exists(path) and self._inode(path) in self._live.folders

    def names(self, folder: str) -> list[str]:
        entries = self._entries(folder)
        self._call("names", folder)
        return sorted(entries)

    def size(self, path: str) -> int:
        inode = self._file(path)
        self._call("size", path)
        return len(self._live.files[inode])

    def read(self, path: str) -> bytes:
        inode = self._file(path)
        self._call("read", path, len(self._live.files[inode]))
        return self._live.files[inode]

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        inode = self._file(path)
        self._call("read_at", path, length)
        return self._live.files[inode][offset : offset + length]

    def make_folder(self, path: str) -> None:
        self._call("make_folder", path)
        parts = path.split("/") if path else []
        for depth in range(len(parts)):
            parent, name = "/".join(parts[:depth]), parts[depth]
            if name not in self._entries(parent):
                self._inodes += 1
                self._live.make(self._inodes, folder=True)
                self._do(Link(self._inode(parent), "/".join(parts[: depth + 1]), name, self._inodes, True))
            self._do(Sync(self._inode(parent), failed=False))
        if self._inode(path) not in self._live.folders:
            raise FileExistsError(path)

    def create(self, path: str, size: int = 0) -> None:
        folder, name = self._parent(path)
        if name in self._live.folders[folder]:
            raise FileExistsError(path)
        fault = self._begin("create", path, size)
        self._inodes += 1
        inode = self._inodes
        self._live.make(inode, folder=False)
        self._do(Link(folder, path, name, inode, False))
        if fault:
            self._do(Write(inode, path, 0, bytes(size // 2), 0))
            if isinstance(fault, DiskError):
                self._do(Unlink(folder, path, name))
            raise fault.with_traceback(None)
        if size:
            self._do(Write(inode, path, 0, bytes(size), 0))

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        inode = self._file(path)
        fault = self._begin("write_at", path, len(data))
        written = bytes(data[: len(data) // 2] if fault else data)
        if written:
            self._do(Write(inode, path, offset, written, len(self._live.files[inode])))
        if fault:
            raise fault.with_traceback(None)

    def truncate(self, path: str, size: int) -> None:
        inode = self._file(path)
        self._call("truncate", path, size)
        self._do(Resize(inode, path, size))

    def sync(self, path: str) -> None:
        self._sync("sync", path, self._file(path))

    def forget(self, path: str) -> None:
        """It has one memory only, and shows what was written."""
        self._file(path)

    def sync_folder(self, folder: str) -> None:
        self._entries(folder)
        self._sync("sync_folder", folder, self._inode(folder))

    def rename(self, old: str, new: str) -> None:
        folder, name = self._parent(old)
        child = self._inode(old)
        into, new_name = self._parent(new)
        if into != folder:
            raise ValueError(f"a rename stays in one folder; {old!r} -> {new!r} doesn't")
        self._call("rename", old)
        taken = self._live.folders[folder].get(new_name)
        if taken is not None and not self._live.can_replace(taken, child):
            raise DiskDenied(f"Can't rename {old} to {new}: something else stands there. Move it away.")
        self._do(Move(folder, old, name, new_name, child))

    def remove(self, path: str) -> None:
        folder, name = self._parent(path)
        inode = self._inode(path)
        self._call("remove", path)
        if self._live.folders.get(inode):
            raise DiskDenied(f"Can't remove {path}: the folder isn't empty. Remove what is in it first.")
        self._do(Unlink(folder, path, name))

    # --- commands of the test ---

    def mark(self, name: str) -> None:
        """Here the program has promised `name`: every state from now on has it in `acknowledged`."""
        self._log.append((len(self.calls), Mark(name)))

    def fail(self, when: int | Callable[[Call], bool], error: BaseException) -> None:
        """The call with that index, or every call that `when` says yes to, raises `error`.

        A failing write or create gets half its bytes in. A sync that fails with a DiskError makes what waited for it
        doubtful for ever; with anything else (the program was killed) it hasn't happened.
        """
        self._faults.append((when if callable(when) else lambda call: call.index == when, error))

    def heal(self) -> None:
        """No call fails any more."""
        self._faults.clear()

    def without_sync(self, *ns: int) -> None:
        """The n-th `sync` or `sync_folder` from now, counted from 0, silently does nothing; for each of `ns`."""
        self._lost_syncs |= {self.syncs + n for n in ns}

    def flip_bit(self, path: str, bit: int) -> None:
        """The medium forgets: bit `bit` % 8 of byte `bit` // 8 is flipped, durably, without anybody writing."""
        self._do(Rot(self._file(path), path, bit))

    @property
    def steps(self) -> list[Step]:
        """What it was used for until now, cut where something became durable."""
        return steps(self._log)

    def calls_of(self, first: Step, last: Step) -> range:
        """Those that made these steps and all between."""
        return range(self._log[first.begin][0], self._log[last.end - 1][0] + 1)

    def with_swapped(self, first: Step, second: Step) -> CrashDisk | None:
        """As if `first` had been done after `second`, the step right after it; None where nobody could have done so, or
        both are about the same file."""
        if not can_swap(first, second):
            return None
        other = CrashDisk()
        other.calls, other._start, other._live = self.calls, self._start, self._live
        other._inodes, other._log = self._inodes, swapped(self._log, first, second)
        return other

    def after_shutdown(self) -> CrashDisk:
        """A fresh disk with everything on it, all durable: the power was cut after an orderly end."""
        return _disk_of(self._live, self._inodes)

    def after_crash(self, tail: int = 6) -> Iterator[CrashState]:
        """Every distinct (disk, acknowledged) that a power cut at any moment could leave.

        At each moment the un-synced effects are kept all, none, all but one, only one, up to each, and in every subset
        of the last `tail`; each write among them is also torn, at 1 byte, half, all but 1, at sectors and at pages,
        from either side, and as length without bytes.
        """
        replay, seen = Replay(self._start.copy()), set[tuple[int, frozenset[str]]]()
        acknowledged = frozenset[str]()
        for at, event in [(0, None), *self._log]:
            match event:
                case Sync():
                    replay.sync(event)
                    continue  # it only narrows what could be left: nothing new to see
                case Mark():
                    acknowledged |= {event.name}
                case None:
                    pass
                case _:
                    replay.add(event)
            open_effects = tuple(waiting.effect for waiting in replay.open)
            for choice, image in replay.images(tail):
                key = (image.fingerprint(), acknowledged)
                if key not in seen:
                    seen.add(key)
                    last = self.calls[at - 1] if at else None
                    yield CrashState(at, acknowledged, _disk_of(image, self._inodes), last, open_effects, choice)

    # --- within ---

    def _begin(self, act: Act, path: str, length: int = 0) -> BaseException | None:
        call = Call(len(self.calls), act, path, length)
        self.calls.append(call)
        for when, error in self._faults:
            if when(call):
                return error
        return None

    def _call(self, act: Act, path: str, length: int = 0) -> None:
        if fault := self._begin(act, path, length):
            raise fault.with_traceback(None)

    def _sync(self, act: Act, path: str, inode: int) -> None:
        fault = self._begin(act, path)
        self.syncs += 1
        if isinstance(fault, DiskError):
            self._do(Sync(inode, failed=True))
        if fault:
            raise fault.with_traceback(None)
        if self.syncs - 1 not in self._lost_syncs:
            self._do(Sync(inode, failed=False))

    def _do(self, event: Effect | Sync) -> None:
        self._log.append((len(self.calls), event))
        if not isinstance(event, Sync):
            self._live.apply(event)

    def _inode(self, path: str) -> int:
        inode = ROOT
        for part in path.split("/") if path else []:
            if inode not in self._live.folders:
                raise DiskDenied(f"Can't open {path}: a file stands where a folder should be.")
            if part not in self._live.folders[inode]:
                raise FileNotFoundError(path)
            inode = self._live.folders[inode][part]
        return inode

    def _parent(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        self._entries(folder)
        return self._inode(folder), name

    def _entries(self, folder: str) -> dict[str, int]:
        inode = self._inode(folder)
        if inode not in self._live.folders:
            raise DiskDenied(f"Can't list {folder}: it is a file.")
        return self._live.folders[inode]

    def _file(self, path: str) -> int:
        inode = self._inode(path)
        if inode in self._live.folders:
            raise DiskDenied(f"Can't open {path}: it is a folder.")
        return inode


def _disk_of(image: Image, inodes: int) -> CrashDisk:
    disk = CrashDisk()
    disk._start = image.copy()
    disk._live = image.copy()
    disk._inodes = inodes
    return disk
