"""The disk that loses power: a `Disk` in memory that lists every state a power cut could leave behind.

The model is the port's promise taken at its worst, after ALICE (Pillai et al., OSDI 2014, section 3): until its sync,
every write and every change of a folder may be kept, lost, torn or overtaken by a later one. Names and bytes are
independent, so a durable name may lead to an empty file and a synced file may have no name. A rename is atomic.

After a failed sync nothing that was waiting for it is promised any more, whatever a later sync says, because Linux
marks such pages clean (fsyncgate); reads go on showing them, as ext4 does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Literal

from ecu.disk import DiskDenied, DiskError
from ecu.errors import OutriderError

Act = Literal[
    "names", "size", "read", "read_at", "make_folder", "create", "write_at", "truncate", "sync", "sync_folder",
    "rename", "remove",
]  # fmt: skip

_ROOT = 0
_SECTOR_BYTES = 512
_PAGE_BYTES = 4096
_ALL_BOUNDARIES = 8


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the port. `index` counts from 0; `length` is the bytes it reads or writes."""

    index: int
    act: Act
    path: str
    length: int = 0


@dataclass(frozen=True, slots=True)
class _Link:
    inode: int
    path: str
    name: str
    child: int
    folder: bool


@dataclass(frozen=True, slots=True)
class _Unlink:
    inode: int
    path: str
    name: str


@dataclass(frozen=True, slots=True)
class _Move:
    inode: int
    path: str
    old: str
    new: str
    child: int


@dataclass(frozen=True, slots=True)
class _Write:
    inode: int
    path: str
    offset: int
    data: bytes
    end: int  # the file's length before


@dataclass(frozen=True, slots=True)
class _Resize:
    inode: int
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class _Rot:
    inode: int
    path: str
    bit: int


@dataclass(frozen=True, slots=True)
class _Sync:
    inode: int
    failed: bool


@dataclass(frozen=True, slots=True)
class _Mark:
    name: str


_Naming = _Link | _Unlink | _Move
_Filling = _Write | _Resize | _Rot
_Effect = _Naming | _Filling


@dataclass(slots=True)
class _Image:
    """Inodes by number. Contents are replaced, never changed in place, so that images share them."""

    files: dict[int, bytes] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=lambda: {_ROOT: {}})

    def copy(self) -> _Image:
        return _Image(dict(self.files), dict(self.folders))

    def make(self, inode: int, folder: bool) -> None:
        if folder:
            self.folders[inode] = {}
        else:
            self.files[inode] = b""

    def can_replace(self, taken: int, by: int) -> bool:
        if taken == by:
            return True
        return (by in self.folders) == (taken in self.folders) and not self.folders.get(taken)

    def apply(self, effect: _Effect) -> None:
        if isinstance(effect, _Naming):
            self.folders[effect.inode] = _named(self.folders[effect.inode], effect)
        else:
            self.files[effect.inode] = _filled(self.files[effect.inode], effect)

    def fingerprint(self, inode: int = _ROOT) -> int:
        """Equal for equal trees, whatever their inode numbers."""
        if inode not in self.folders:
            return hash(self.files[inode])
        return hash(frozenset((name, self.fingerprint(child)) for name, child in self.folders[inode].items()))


def _named(entries: dict[str, int], effect: _Naming) -> dict[str, int]:
    after = dict(entries)
    match effect:
        case _Link():
            after[effect.name] = effect.child
        case _Unlink():
            after.pop(effect.name, None)
        case _Move():
            if after.get(effect.old) == effect.child:
                del after[effect.old]
            after[effect.new] = effect.child
    return after


def _filled(content: bytes, effect: _Filling) -> bytes:
    match effect:
        case _Write():
            head = content[: effect.offset].ljust(effect.offset, b"\0")
            return head + effect.data + content[effect.offset + len(effect.data) :]
        case _Resize():
            return content[: effect.size].ljust(effect.size, b"\0")
        case _Rot():
            at, bit = divmod(effect.bit, 8)
            return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :] if at < len(content) else content


class _Fate(Enum):
    FREE = auto()  # waits for a sync
    DOUBTFUL = auto()  # its sync failed: no later one covers it
    SETTLED = auto()  # durable, and listed only because something before it in the same inode isn't


@dataclass(slots=True, eq=False)
class _Waiting:
    effect: _Effect
    fate: _Fate = _Fate.FREE


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which of the open effects reached the medium: bit i of `kept` for the i-th; `torn` replaces effect `at`."""

    kept: int
    at: int = -1
    torn: _Write | None = None


@dataclass(frozen=True, slots=True)
class CrashState:
    """What one power cut left. `at` calls had begun; `acknowledged` are the marks set before it."""

    at: int
    acknowledged: frozenset[str]
    disk: CrashDisk
    _last: Call | None
    _open: tuple[_Effect, ...]
    _choice: _Choice

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
            lines.append(f"  {'torn' if torn else fate}: {_label(torn or effect)}")
        return "\n".join(lines)


def _label(effect: _Effect) -> str:
    match effect:
        case _Link():
            return f"name {effect.path!r}"
        case _Unlink():
            return f"removal of {effect.path!r}"
        case _Move():
            return f"rename of {effect.path!r} to {effect.new!r}"
        case _Write():
            return f"write to {effect.path!r} of [{effect.offset}:{effect.offset + len(effect.data)}]"
        case _Resize():
            return f"truncation of {effect.path!r} to {effect.size}"
        case _Rot():
            return f"flip of bit {effect.bit} in {effect.path!r}"


class CrashDisk:
    """A `Disk` in memory. Use it, `mark` what was acknowledged, then ask `after_crash` what a power cut could leave.

    To stop the program without cutting the power (SIGKILL), `fail` with an error nobody catches and go on with the same
    disk: it still shows all that was written.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.syncs = 0
        self._start = _Image()
        self._live = _Image()
        self._log: list[tuple[int, _Effect | _Sync | _Mark]] = []
        self._inodes = _ROOT
        self._faults: list[tuple[Callable[[Call], bool], BaseException]] = []
        self._lost_syncs = set[int]()

    # --- the port ---

    def exists(self, path: str) -> bool:
        try:
            self._inode(path)
        except (FileNotFoundError, DiskDenied):
            return False
        return True

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
                self._do(_Link(self._inode(parent), "/".join(parts[: depth + 1]), name, self._inodes, True))
            self._do(_Sync(self._inode(parent), failed=False))
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
        self._do(_Link(folder, path, name, inode, False))
        if fault:
            self._do(_Write(inode, path, 0, bytes(size // 2), 0))
            if isinstance(fault, DiskError):
                self._do(_Unlink(folder, path, name))
            raise fault.with_traceback(None)
        if size:
            self._do(_Write(inode, path, 0, bytes(size), 0))

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        inode = self._file(path)
        fault = self._begin("write_at", path, len(data))
        written = bytes(data[: len(data) // 2] if fault else data)
        if written:
            self._do(_Write(inode, path, offset, written, len(self._live.files[inode])))
        if fault:
            raise fault.with_traceback(None)

    def truncate(self, path: str, size: int) -> None:
        inode = self._file(path)
        self._call("truncate", path, size)
        self._do(_Resize(inode, path, size))

    def sync(self, path: str) -> None:
        self._sync("sync", path, self._file(path))

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
        self._do(_Move(folder, old, name, new_name, child))

    def remove(self, path: str) -> None:
        folder, name = self._parent(path)
        inode = self._inode(path)
        self._call("remove", path)
        if self._live.folders.get(inode):
            raise DiskDenied(f"Can't remove {path}: the folder isn't empty. Remove what is in it first.")
        self._do(_Unlink(folder, path, name))

    # --- commands of the test ---

    def mark(self, name: str) -> None:
        """Here the program has promised `name`: every state from now on has it in `acknowledged`."""
        self._log.append((len(self.calls), _Mark(name)))

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
        self._do(_Rot(self._file(path), path, bit))

    def after_shutdown(self) -> CrashDisk:
        """A fresh disk with everything on it, all durable: the power was cut after an orderly end."""
        return _disk_of(self._live, self._inodes)

    def after_crash(self, tail: int = 6) -> Iterator[CrashState]:
        """Every distinct (disk, acknowledged) that a power cut at any moment could leave.

        At each moment the un-synced effects are kept all, none, all but one, only one, up to each, and in every subset
        of the last `tail`; each write among them is also torn, at 1 byte, half, all but 1, at sectors and at pages,
        from either side, and as length without bytes.
        """
        replay, seen = _Replay(self._start.copy()), set[tuple[int, frozenset[str]]]()
        acknowledged = frozenset[str]()
        for at, event in [(0, None), *self._log]:
            match event:
                case _Sync():
                    replay.sync(event)
                    continue  # it only narrows what could be left: nothing new to see
                case _Mark():
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
            self._do(_Sync(inode, failed=True))
        if fault:
            raise fault.with_traceback(None)
        if self.syncs - 1 not in self._lost_syncs:
            self._do(_Sync(inode, failed=False))

    def _do(self, event: _Effect | _Sync) -> None:
        self._log.append((len(self.calls), event))
        if not isinstance(event, _Sync):
            self._live.apply(event)

    def _inode(self, path: str) -> int:
        inode = _ROOT
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


def _disk_of(image: _Image, inodes: int) -> CrashDisk:
    disk = CrashDisk()
    disk._start = image.copy()
    disk._live = image.copy()
    disk._inodes = inodes
    return disk


class _Replay:
    """The medium while the log runs past it: what is durable, and what waits."""

    def __init__(self, start: _Image) -> None:
        self._durable = start
        self._waiting: list[_Waiting] = []

    @property
    def open(self) -> list[_Waiting]:
        return [waiting for waiting in self._waiting if waiting.fate is not _Fate.SETTLED]

    def add(self, effect: _Effect) -> None:
        if isinstance(effect, _Link):
            self._durable.make(effect.child, effect.folder)
        rotten = isinstance(effect, _Rot)
        self._waiting.append(_Waiting(effect, _Fate.SETTLED if rotten else _Fate.FREE))
        self._settle(effect.inode)

    def sync(self, sync: _Sync) -> None:
        for waiting in self._waiting:
            if waiting.effect.inode == sync.inode and waiting.fate is _Fate.FREE:
                waiting.fate = _Fate.DOUBTFUL if sync.failed else _Fate.SETTLED
        self._settle(sync.inode)

    def _settle(self, inode: int) -> None:
        while waiting := next((w for w in self._waiting if w.effect.inode == inode), None):
            if waiting.fate is not _Fate.SETTLED:
                return
            self._durable.apply(waiting.effect)
            self._waiting.remove(waiting)

    def images(self, tail: int) -> Iterator[tuple[_Choice, _Image]]:
        for choice in _choices([waiting.effect for waiting in self.open], tail):
            yield choice, self._image(choice)

    def _image(self, choice: _Choice) -> _Image:
        image, i = self._durable.copy(), 0
        for waiting in self._waiting:
            if waiting.fate is _Fate.SETTLED:
                image.apply(waiting.effect)
                continue
            if choice.kept >> i & 1:
                image.apply(choice.torn if choice.torn and i == choice.at else waiting.effect)
            i += 1
        return image


def _choices(effects: list[_Effect], tail: int) -> Iterator[_Choice]:
    everything = (1 << len(effects)) - 1
    yield from (_Choice(kept) for kept in dict.fromkeys(_subsets(len(effects), tail)))
    for i, effect in enumerate(effects):
        if isinstance(effect, _Write):
            contexts = dict.fromkeys((everything, (2 << i) - 1, 1 << i))
            yield from (_Choice(kept, i, torn) for torn in _tears(effect) for kept in contexts)


def _subsets(count: int, tail: int) -> Iterator[int]:
    everything = (1 << count) - 1
    yield everything
    yield 0
    for i in range(count):
        yield everything ^ 1 << i
        yield 1 << i
        yield (1 << i) - 1
    older = max(0, count - tail)
    for newest in range(1 << count - older):
        yield (1 << older) - 1 | newest << older


def _tears(write: _Write) -> Iterator[_Write]:
    for cut in _cuts(write.offset, len(write.data)):
        yield _Write(write.inode, write.path, write.offset, write.data[:cut], write.end)
        yield _Write(write.inode, write.path, write.offset + cut, write.data[cut:], write.end)
    kept = max(0, write.end - write.offset)
    if kept < len(write.data):
        hollow = write.data[:kept].ljust(len(write.data), b"\0")
        yield _Write(write.inode, write.path, write.offset, hollow, write.end)


def _cuts(offset: int, length: int) -> list[int]:
    """Where a write of `length` bytes at `offset` may be torn: counts of bytes from its start."""
    cuts = {1, length // 2, length - 1}
    for step in (_SECTOR_BYTES, _PAGE_BYTES):
        boundaries = range(step - offset % step, length, step)
        cuts |= set(boundaries if len(boundaries) <= _ALL_BOUNDARIES else (boundaries[0], boundaries[-1]))
    return sorted(cut for cut in cuts if 0 < cut < length)


Law = Callable[[CrashState], None]
Scenario = Callable[[CrashDisk], None]


def violation(scenario: Scenario, law: Law, disk: CrashDisk) -> str | None:
    """Runs `scenario` on `disk` and asks `law` about every state a power cut could leave; the first "no", described.

    The law says no with an AssertionError, or by letting an error of ours or of the disk through.
    """
    scenario(disk)
    for state in disk.after_crash():
        try:
            law(state)
        except (AssertionError, OutriderError, OSError) as error:
            return f"{state.describe}\n  {type(error).__name__}: {error}"
    return None


def unnoticed_without(scenario: Scenario, law: Law, prepare: Callable[[], CrashDisk] = CrashDisk) -> list[str]:
    """The syncs of `scenario` that could be left out without `law` ever noticing: needless ones, or a weak law.

    A sync that settles what a killed process left in memory is noticed only where `prepare` returns such a disk.
    """
    whole = prepare()
    before = whole.syncs
    scenario(whole)
    calls = [call for call in whole.calls if call.act in ("sync", "sync_folder")][before:]
    unnoticed = []
    for n, call in enumerate(calls):
        mutant = prepare()
        mutant.without_sync(n)
        if violation(scenario, law, mutant) is None:
            unnoticed.append(f"sync {n}: {call.act} {call.path!r}")
    return unnoticed
