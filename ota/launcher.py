"""Starts the runtime and watches it: the one file on a vehicle that no update replaces.

    python -I -S launcher.py --state DIR [options] -- COMMAND...     COMMAND starts what the vehicle was shipped with

A slot is that command with the slot's files before all else on Python's path, hashed just before. A release under trial
is started at most three times, each counted durably before; it must say READY=1, go on saying WATCHDOG=1, and keep
within its limits. What was good before is started again whenever it ends; at the third time within ten minutes in
rescue mode, and where even that ends, what was good before it, then what was shipped (docs/launcher.md).

Frozen: it imports nothing but Python's own library, and every release ever kept can be started by it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import resource
import selectors
import shutil
import signal
import socket
import stat
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any, Protocol

AGAIN = 75
"""The exit code that asks to be started again, such as once a release is armed (EX_TEMPFAIL, sysexits.h)."""
ATTEMPTS = 3
CRASHES = 3
WITHIN_S = 600.0
CUTS = 5
"""So many starts in a row that were cut before they were ready are no weak battery any more."""
MOST_BOOTS = 8
MOST_BACKOFF_S = 60.0
BLOCK = 4096
FREE_BYTES = 16 << 20
FILE_BYTES = 1 << 30
TICK_S = 0.5

_HEAD, _BODY = struct.Struct("<4sII"), struct.Struct("<QI")
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PASSED_ON = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_ASKED = (signal.SIGTERM, signal.SIGINT)

Record = dict[str, Any]


class Lost(Exception):
    """A record was written once and neither of its twins is whole."""


# --- records on flash: docs/formats/boot-record.md --------------------------------------------------


class Disk(Protocol):
    """As ecu/disk.py's, whose disk that loses power is what this file is tested on."""

    def exists(self, path: str) -> bool: ...
    def size(self, path: str) -> int: ...
    def read(self, path: str) -> bytes: ...
    def create(self, path: str) -> None: ...
    def write_at(self, path: str, offset: int, data: bytes) -> None: ...
    def sync(self, path: str) -> None: ...
    def sync_folder(self, folder: str) -> None: ...
    def rename(self, old: str, new: str) -> None: ...
    def remove(self, path: str) -> None: ...


class Folder:
    """A folder of the computer's file system. Raises OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exists = lambda path: (root / path).exists()
        self.size = lambda path: (root / path).stat().st_size
        self.read = lambda path: (root / path).read_bytes()
        self.rename = lambda old, new: os.rename(root / old, root / new)
        self.remove = lambda path: os.unlink(root / path)

    def create(self, path: str) -> None:
        os.close(os.open(self.root / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))

    def write_at(self, path: str, offset: int, data: bytes) -> None:
        with open(self.root / path, "r+b", buffering=0) as file:
            if os.pwrite(file.fileno(), data, offset) != len(data):
                raise OSError(f"{path} can't be written whole")

    def sync(self, path: str) -> None:
        fd = os.open(self.root / path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def sync_folder(self, folder: str) -> None:
        self.sync(folder)


class Twin:
    """One record in two files, `name`.0 and `name`.1, written and read as ecu/twin.py does. Raises Lost, OSError."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name

    def read(self) -> bytes | None:
        """The newest payload; None when there never was one."""
        newest = self._newest()
        return newest[1] if newest else None

    def write(self, payload: bytes) -> None:
        """Durable in both files when it returns."""
        newest = self._newest()
        if newest is not None:
            # Whoever wrote it may have been killed before its sync, and the other file is overwritten next.
            self._lay_down(*newest)
            self._disk.sync_folder(self._name.rpartition("/")[0])
        self._write_from(newest[0] + 1 if newest else 0, payload)

    def start_anew(self, payload: bytes) -> None:
        """As `write`, where both are lost and what they said isn't missed."""
        self._write_from(0, payload)

    def _write_from(self, number: int, payload: bytes) -> None:
        if _HEAD.size + _BODY.size + len(payload) > BLOCK:
            raise OSError(f"{self._name}: {len(payload)} bytes don't fit")
        self._lay_down(number, payload)
        self._lay_down(number + 1, payload)

    def _newest(self) -> tuple[int, bytes] | None:
        there = [f"{self._name}.{twin}" for twin in (0, 1) if self._disk.exists(f"{self._name}.{twin}")]
        whole = [block for path in there if (block := self._whole(path)) is not None]
        if there and not whole:
            raise Lost(f"neither twin of {self._name} is whole")
        return max(whole, default=None)

    def _whole(self, path: str) -> tuple[int, bytes] | None:
        try:
            data = self._disk.read(path)
        except OSError:
            return None
        return decode(data, int(path[-1]))

    def _lay_down(self, number: int, payload: bytes) -> None:
        path, block = f"{self._name}.{number % 2}", encode(number, payload)
        if self._disk.exists(path) and self._disk.size(path) >= BLOCK:
            self._disk.write_at(path, 0, block)
            self._disk.sync(path)
            return
        beside = f"{path}.tmp"
        if self._disk.exists(beside):
            self._disk.remove(beside)
        self._disk.create(beside)
        self._disk.write_at(beside, 0, block)
        self._disk.sync(beside)
        self._disk.rename(beside, path)
        self._disk.sync_folder(self._name.rpartition("/")[0])


def encode(number: int, payload: bytes) -> bytes:
    body = _BODY.pack(number, len(payload)) + payload
    return (_HEAD.pack(b"OTWN", 1, zlib.crc32(body)) + body).ljust(BLOCK, b"\0")


def decode(data: bytes, twin: int) -> tuple[int, bytes] | None:
    """The number and payload of a block that belongs into that twin; None when it isn't whole."""
    if len(data) < _HEAD.size + _BODY.size:
        return None
    number, length = _BODY.unpack_from(data, _HEAD.size)
    body = data[_HEAD.size : _HEAD.size + _BODY.size + length]
    if _HEAD.unpack_from(data) != (b"OTWN", 1, zlib.crc32(body)) or number % 2 != twin:
        return None
    return number, body[_BODY.size :]


def packed(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def unpacked(payload: bytes | None) -> Record:
    """{} for what isn't a record: then all of it has the value of one that was never written."""
    try:
        record = json.loads(payload or b"{}")
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


# --- what to start: pure ---------------------------------------------------------------------------


def digest_in(record: Record, slot: object) -> str:
    """Of what lies whole in a slot; "" where nothing does."""
    slots = record.get("slots")
    installed = slots.get(slot) if isinstance(slots, dict) and slot in ("a", "b") else None
    return str(installed.get("digest", "")) if isinstance(installed, dict) else ""


def is_to_be_tried(record: Record) -> bool:
    attempts = record.get("attempts")
    return (
        record.get("state") in ("armed", "trial")
        and bool(digest_in(record, record.get("trial")))
        and isinstance(attempts, int)
        and 0 <= attempts < ATTEMPTS
    )


def begun(record: Record, boot_id: str) -> Record:
    """As it is to be durable before an attempt begins."""
    boots = [*(_boots(record) if record["attempts"] else []), {"boot_id": boot_id, "ended": ""}]
    return {**record, "state": "trial", "attempts": record["attempts"] + 1, "boots": boots[-MOST_BOOTS:]}


def ended(record: Record, how: str) -> Record | None:
    """As it is once the attempt under way has ended; None where none is."""
    boots = _boots(record)
    if record.get("state") != "trial" or not boots or boots[-1].get("ended"):
        return None
    return {**record, "boots": [*boots[:-1], {**boots[-1], "ended": how[:60]}]}


def _boots(record: Record) -> list[Record]:
    boots = record.get("boots")
    return [boot for boot in boots if isinstance(boot, dict)] if isinstance(boots, list) else []


def kept(record: Record) -> list[str]:
    """The slots that may be started but for a trial, the best first: what is good, was good before, was shipped."""
    good, trial = record.get("good"), record.get("trial")
    others = [slot for slot in ("a", "b") if digest_in(record, slot) and slot not in (good, trial)]
    return [*([good] if good in ("a", "b") else []), *(others if good in ("a", "b") else []), "factory"]


def why_only_updates(record: Record, slot: str) -> str:
    """Empty unless a release that was kept says that the one in the slot may not run any more, but to be updated."""
    slots, least = record.get("slots"), record.get("bootable_from")
    installed = slots.get(slot) if isinstance(slots, dict) else None
    release = installed.get("release") if isinstance(installed, dict) else 0
    if not isinstance(least, int) or (isinstance(release, int) and release >= least):
        return ""
    return f"what is left is release {release}, and one that was kept since lets none below {least} run"


def starts_of(book: Record, release: str) -> list[Record]:
    """Those that the launcher noted of a release, the oldest first. Whatever else the book holds was never there."""
    starts = book.get("starts")
    return [
        start
        for start in (starts if isinstance(starts, list) else [])
        if isinstance(start, dict)
        and start.get("of") == release
        and all(isinstance(start.get(key), str) for key in ("boot_id", "rescue", "ended"))
        and all(isinstance(start.get(key), (int, float)) for key in ("began_s", "at_s", "ran_s"))
    ]


def is_crash(start: Record) -> bool:
    """Whether a start of what is good ended by itself, or was cut before it was ready."""
    return start["ended"] not in ("ready", "stopped", "again")


def why_rescue(starts: list[Record], boot_id: str, now_s: float) -> str:
    """Empty where `starts`, of what is good now and the oldest first, are no reason for rescue mode.

    It lasts for this boot, or until somebody stops it in order. Another boot tries again, and one crash is enough then.
    """
    over = [start["ran_s"] >= WITHIN_S or bool(start["rescue"] and start["ended"] == "stopped") for start in starts]
    last = starts[-1] if starts else None
    if last and last["boot_id"] == boot_id and last["rescue"] and last["ended"] != "stopped":
        return str(last["rescue"])
    since = starts[len(over) - over[::-1].index(True) :] if True in over else starts
    crashes = [start for start in since if is_crash(start)]
    here = [start for start in crashes if start["boot_id"] == boot_id and now_s - start["at_s"] < WITHIN_S]
    # How long ago another boot was nobody knows.
    before = [start for start in crashes if start["boot_id"] != boot_id and now_s < WITHIN_S]
    if len(here) + min(len(before), CRASHES - 1) >= CRASHES:
        ends = ", ".join(start["ended"] or "cut" for start in [*before, *here][-CRASHES:])
        return f"it ended {CRASHES} times within ten minutes: {ends}"
    if len(since) >= CUTS and not any(start["ended"] for start in since[-CUTS:]):
        return f"its last {CUTS} starts were cut before it was ready"
    return ""


def backoff_s(crashes: int, base_s: float) -> float:
    return min(MOST_BACKOFF_S, base_s * 2.0 ** min(crashes, 16)) if crashes else 0.0


# --- a slot's bytes --------------------------------------------------------------------------------


def damage(folder: Path, digest: str) -> str:
    """What is wrong with a slot; "" when every byte is as it was signed, and there is nothing else."""
    try:
        manifest = (folder / "bundle.json").read_bytes()
        if hashlib.sha256(manifest).hexdigest() != digest:
            return "its manifest isn't the one that was installed"
        wanted = {entry["path"]: entry["sha256"] for entry in json.loads(manifest)["files"]}
        there = {str(path.relative_to(folder / "files")): path for path in _files_in(folder / "files")}
        if set(there) != set(wanted):
            return f"other files lie there than were installed, such as {min(set(there) ^ set(wanted))}"
        return next((f"{name} isn't as it was" for name in sorted(there) if _hash(there[name]) != wanted[name]), "")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"it can't be read: {error}"


def _files_in(folder: Path) -> list[Path]:
    """Whatever lies there, folders apart; a link is a file that has no hash."""
    found: list[Path] = []
    for at, folders, names in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(at, name))]
        found += [Path(at, name) for name in [*names, *links]]
    return found


def _raise(error: OSError) -> None:
    raise error


def _hash(path: Path) -> str:
    if not stat.S_ISREG(path.lstat().st_mode):
        return "not a file"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- processes -------------------------------------------------------------------------------------


def descendants(of: int) -> set[int]:
    """Of a process, those of processes that have ended included: it is their reaper."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                after_name = Path("/proc", name, "stat").read_text("latin-1").rpartition(")")[2].split()
            except OSError:
                continue
            if after_name[0] not in "ZX":
                children.setdefault(int(after_name[1]), []).append(int(name))
    found, look = set[int](), [of]
    while look:
        of_one = children.get(look.pop(), [])
        found.update(of_one)
        look += of_one
    return found


def end_all(of: int) -> None:
    """Ends every descendant. All are stopped first: one that is killed alone may leave others it has just made."""
    stopped = set[int]()
    while new := descendants(of) - stopped:
        for pid in new:
            _send(pid, signal.SIGSTOP)
        stopped |= new
    for pid in stopped:
        _send(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


class Family:
    """One run of the runtime: a session of its own, all of whose processes end with it. What it says is heard from its
    first process alone."""

    def __init__(self, command: list[str], environment: dict[str, str], processes: int | None) -> None:
        self.status: int | None = None
        self._hears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._hears.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._hears.bind("")  # a name that the kernel chooses (unix(7), autobind)
        environment["NOTIFY_SOCKET"] = "@" + self._hears.getsockname()[1:].decode()
        parent = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _become(command, environment, parent, processes)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def fileno(self) -> int:
        return self._hears.fileno()

    def heard(self) -> set[str]:
        """What its first process has said since it was asked last (sd_notify(3))."""
        said = set[str]()
        while True:
            try:
                data, ancillary, _, _ = self._hears.recvmsg(4096, socket.CMSG_SPACE(12))
            except BlockingIOError:
                return said
            if any(struct.unpack("3i", value)[0] == self.pid for _, _, value in ancillary):
                said.update(data.decode("utf-8", "replace").splitlines())

    def reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status

    def end(self) -> None:
        """None of it runs any more when this returns, but what the kernel itself won't let go."""
        until = time.monotonic() + 10.0
        # Again and again: one whose parent ended while it was looked for may have been missed.
        while descendants(os.getpid()) and time.monotonic() < until:
            end_all(os.getpid())
            time.sleep(0.01)
            self.reap()
        self.reap()
        self._hears.close()


def _become(command: list[str], environment: dict[str, str], parent: int, processes: int | None) -> None:
    """Between fork and exec; never returns."""
    try:
        for number in (*_PASSED_ON, *_ASKED, signal.SIGCHLD, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if processes is not None:
            # Of the whole user, threads among them; root isn't bound by it, and is counted by its descendants.
            _lower(resource.RLIMIT_NPROC, 4 * processes)
            _lower(resource.RLIMIT_FSIZE, FILE_BYTES)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execvpe(command[0], command, environment)
    except OSError as error:
        os.write(2, f"launcher: can't start {command[0]}: {error}\n".encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _lower(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


class Watch:
    """What is demanded of one run, and by when; times are of one clock, in seconds. Pure."""

    def __init__(self, ready_s: float, progress_s: float, stop_s: float, now_s: float) -> None:
        self.is_ready = False
        self.is_asked = False
        self._progress_s, self._stop_s = progress_s, stop_s
        self.due_s = now_s + ready_s

    def hear(self, said: set[str], now_s: float) -> None:
        self.is_ready = self.is_ready or "READY=1" in said
        if self.is_ready and not self.is_asked and said & {"READY=1", "WATCHDOG=1"}:
            self.due_s = now_s + self._progress_s

    def ask(self, now_s: float) -> None:
        """It was asked to end."""
        if not self.is_asked:
            self.is_asked = True
            self.due_s = now_s + self._stop_s

    def late(self, now_s: float) -> str:
        if now_s < self.due_s:
            return ""
        return "ignored SIGTERM" if self.is_asked else "watchdog" if self.is_ready else "not ready"

    def how_it_ended(self, status: int) -> str:
        in_order = os.WEXITSTATUS(status) == 0 if os.WIFEXITED(status) else os.WTERMSIG(status) == signal.SIGTERM
        if self.is_asked and in_order:
            return "stopped"
        return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


# --- the launcher ----------------------------------------------------------------------------------


class Launcher:
    """`run` returns when somebody asked for it by SIGTERM or SIGINT."""

    def __init__(self, options: argparse.Namespace, home: Path, environment: dict[str, str]) -> None:
        self._options = options
        self._environment = environment
        self._home = home
        self._scratch = home / "scratch"
        self._record, self._book = Twin(Folder(home), "boot"), Twin(Folder(home), "launcher")
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._starts: list[Record] = []
        self._is_asked = False
        self._is_told = False
        self._came, wakes = socket.socketpair()
        self._came.setblocking(False)
        wakes.setblocking(False)
        self._wakes = wakes
        signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
        for number in (*_PASSED_ON, *_ASKED, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def run(self) -> None:
        while not self._is_asked:
            record = self._read(self._record)
            if self._may_try(record):
                self._try(record)
            else:
                self._ride(record)
        self._tell("STOPPING=1")

    # --- a trial ----------------------------------------------------------------------------------

    def _may_try(self, record: Record) -> bool:
        """Whether an attempt is counted in both twins, and what it tries is whole. If not, what is good is started."""
        if not is_to_be_tried(record):
            return False
        try:
            self._record.write(packed(begun(record, self._boot_id)))
        except (OSError, Lost) as error:
            self._say(f"an attempt can't be counted, so it isn't made: {error}")
            return False
        wrong = damage(self._home / record["trial"], digest_in(record, record["trial"]))
        if wrong:
            self._say(f"slot {record['trial']} isn't tried: {wrong}")
            # They stay so: the other attempts are used up with this one.
            self._note_end("damaged", {"attempts": ATTEMPTS})
        return not wrong

    def _try(self, record: Record) -> None:
        self._empty_scratch()
        with contextlib.suppress(OSError):
            self._scratch.mkdir(mode=0o700, exist_ok=True)
        attempt = str(record["attempts"] + 1)
        marks = {"OUTRIDER_TRIAL": attempt, "TMPDIR": str(self._scratch)}
        has_room = self._free() > FREE_BYTES
        how = self._live(record["trial"], marks, has_room)
        self._empty_scratch()
        self._say(f"attempt {attempt} of slot {record['trial']} has ended: {how}")
        self._note_end(how)

    def _note_end(self, how: str, more: Record | None = None) -> None:
        """Unless the release itself has ended its trial, kept or not."""
        record = ended(self._read(self._record), how)
        if record is not None:
            self._write(self._record, record | (more or {}))

    def _too_much(self, has_room: bool) -> str:
        """What a release under trial uses that it must not."""
        if len(descendants(os.getpid())) > self._options.processes:
            return "too many processes"
        return "disk full" if has_room and self._free() < FREE_BYTES else ""

    def _is_trying(self) -> bool:
        return ended(self._read(self._record), "") is not None

    def _free(self) -> int:
        try:
            room = os.statvfs(self._home)
        except OSError:
            return FREE_BYTES
        return room.f_bavail * room.f_frsize

    def _empty_scratch(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    # --- what is good -----------------------------------------------------------------------------

    def _ride(self, record: Record) -> None:
        slots = [slot for slot in kept(record) if self._is_whole(record, slot)]
        of = f"{slots[0]} {digest_in(record, slots[0])}".strip()
        self._starts = starts_of(self._read(self._book), of)
        why = why_rescue(self._starts, self._boot_id, _now_s())
        here = [start for start in self._starts if start["boot_id"] == self._boot_id and is_crash(start)]
        if self._wait(backoff_s(len(here), self._options.backoff_s)):
            return
        in_vain = sum(bool(start["rescue"]) for start in here) if why else 0
        slot = slots[min(in_vain, len(slots) - 1)]
        why = why or why_only_updates(record, slot)
        if why:
            self._say(f"slot {slot} is started in rescue mode: {why}")
        self._starts.append({"boot_id": self._boot_id, "of": of, "rescue": why, "began_s": _now_s()})
        self._note_start("")
        how = self._live(slot, {"OUTRIDER_RESCUE": why} if why else {}, None)
        self._say(f"slot {slot} has ended: {how}")
        self._note_start(how)

    def _is_whole(self, record: Record, slot: str) -> bool:
        wrong = damage(self._home / slot, digest_in(record, slot)) if slot != "factory" else ""
        if wrong:
            self._say(f"slot {slot} isn't started: {wrong}")
        return not wrong

    def _note_start(self, how: str) -> None:
        now_s, last = _now_s(), self._starts[-1]
        last |= {"ended": how[:60], "at_s": now_s, "ran_s": now_s - last["began_s"]}
        self._starts = self._starts[-MOST_BOOTS:]
        self._write(self._book, {"starts": self._starts})

    # --- one run ----------------------------------------------------------------------------------

    def _live(self, slot: str, marks: dict[str, str], tried_with_room: bool | None) -> str:
        """Runs a slot and says how it ended; nothing of it is left. `tried_with_room` is None for what is good."""
        options, is_trial = self._options, tried_with_room is not None
        try:
            family = Family(options.command, self._environment_of(slot, marks), options.processes if is_trial else None)
        except OSError as error:
            self._say(f"no process can be made: {error}")
            return "hindered"
        watch = Watch(options.ready_s, options.progress_s, options.stop_s, time.monotonic())
        how = ""
        try:
            while not how:
                self._hear(family, watch, is_trial)
                if family.status is not None:
                    how = watch.how_it_ended(family.status)
                    if how == f"exit {AGAIN}" and watch.is_ready and not is_trial:
                        how = "again"
                else:
                    how = watch.late(time.monotonic())
                if not how and tried_with_room is not None:
                    how = self._too_much(tried_with_room)
                    how = how if how and self._is_trying() else ""
        finally:
            family.end()
        return how

    def _hear(self, family: Family, watch: Watch, is_trial: bool) -> None:
        """Waits until something happens to it, for a tick at most, and takes note of what did."""
        for number in self._await(TICK_S if is_trial or not watch.is_ready else watch.due_s - time.monotonic(), family):
            if number in _ASKED:
                watch.ask(time.monotonic())
                _send(family.pid, signal.SIGTERM)
            elif number in _PASSED_ON:
                _send(family.pid, number)
        said, was_ready = family.heard(), watch.is_ready
        watch.hear(said, time.monotonic())
        if watch.is_ready and not was_ready:
            self._tell("READY=1")
            if not is_trial:
                self._note_start("ready")
        if "WATCHDOG=1" in said or not watch.is_ready:
            self._tell("WATCHDOG=1")
        family.reap()

    def _environment_of(self, slot: str, marks: dict[str, str]) -> dict[str, str]:
        ours = ("NOTIFY_SOCKET", "WATCHDOG_PID", "OUTRIDER_TRIAL", "OUTRIDER_RESCUE")
        environment = {name: value for name, value in self._environment.items() if name not in ours}
        environment |= {
            "OUTRIDER_SLOT": slot,
            "OUTRIDER_PARENT_PID": str(os.getpid()),
            "WATCHDOG_USEC": str(int(self._options.progress_s * 1e6)),
            "PYTHONSAFEPATH": "1",
            # What a release under trial wrote there would be run by each that comes after it.
            "PYTHONNOUSERSITE": "1",
        }
        if slot != "factory":
            # Python would write its bytecode beside what is hashed.
            path = [str(self._home / slot / "files"), self._environment.get("PYTHONPATH", "")]
            environment |= {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONDONTWRITEBYTECODE": "1"}
        return environment | marks

    def _await(self, within_s: float, family: Family | None = None) -> list[int]:
        """The signals that came."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._came, selectors.EVENT_READ)
            if family is not None:
                selector.register(family, selectors.EVENT_READ)
            selector.select(max(0.0, within_s))
        try:
            came = list(self._came.recv(4096))
        except BlockingIOError:
            came = []
        self._is_asked = self._is_asked or any(number in _ASKED for number in came)
        return came

    def _wait(self, for_s: float) -> bool:
        """Whether somebody asked it to end meanwhile."""
        until = time.monotonic() + for_s
        while not self._is_asked and time.monotonic() < until:
            self._tell("WATCHDOG=1")
            self._await(min(TICK_S, until - time.monotonic()))
        return self._is_asked

    # --- records and words ------------------------------------------------------------------------

    def _read(self, twin: Twin) -> Record:
        """{} where it can't be read: what was shipped is started."""
        try:
            return unpacked(twin.read())
        except (OSError, Lost) as error:
            self._say(str(error))
            return {}

    def _write(self, twin: Twin, record: Record) -> None:
        """Where it can't be written nothing else is held up by it."""
        try:
            twin.write(packed(record))
        except Lost:
            if twin is self._book:
                twin.start_anew(packed(record))
        except OSError as error:
            self._say(str(error))

    def _tell(self, state: str) -> None:
        """To systemd, where it listens. It watches the launcher, and the launcher the runtime."""
        address = self._environment.get("NOTIFY_SOCKET", "")
        if not address or (state == "READY=1" and self._is_told):
            return
        self._is_told = self._is_told or state == "READY=1"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end, contextlib.suppress(OSError):
            end.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)

    def _say(self, words: str) -> None:
        with contextlib.suppress(OSError):  # whoever reads them may be gone
            sys.stderr.write("launcher: " + "".join(c if c.isprintable() else "?" for c in words) + "\n")
            sys.stderr.flush()


def _now_s() -> float:
    """Powered time and suspend, since this boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _home(state: str) -> Path:
    """Where the records and slots lie. One that can't be made is no reason to start nothing."""
    home = Path(state).absolute() / "updates" / "runtime"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        sys.stderr.write(f"launcher: {error}\n")
    return home


def _is_alone(home: Path) -> bool:
    """Whether no other launcher runs here, nor will until this one has ended."""
    try:
        lock = os.open(home / "launcher.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="launcher.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--state", required=True, help="the agent's state folder")
    parser.add_argument("--ready-s", type=float, default=120.0, help="until it says READY=1")
    parser.add_argument("--progress-s", type=float, default=60.0, help="between two WATCHDOG=1")
    parser.add_argument("--stop-s", type=float, default=30.0, help="from SIGTERM until it is killed")
    parser.add_argument("--backoff-s", type=float, default=1.0, help="before the second start; doubles up to 60 s")
    parser.add_argument("--processes", type=int, default=256, help="that a release under trial may have")
    parser.add_argument("command", nargs="+", help="starts what the vehicle was shipped with")
    options = parser.parse_args()
    home = _home(options.state)
    if not _is_alone(home):
        parser.exit(3, f"Another launcher runs with {options.state}. Stop it first, or name another --state.\n")
    Launcher(options, home, dict(os.environ)).run()


if __name__ == "__main__":
    main()
