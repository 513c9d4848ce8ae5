"""The witness: an independent process that hears of each record the moment it is durable, and writes it down.

    python -m simulator.witness --out FILE [--socket PATH] [--fd N]

Agents come and go on the socket; the witness outlives their restarts and never answers. With `--fd` it hears that
channel too, and ends when its other end closes; otherwise it ends on SIGTERM. Either way it first reads all that was
sent. `compare` then holds what was confirmed against what the receiver stored.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecu.channel import BadMessage, Channel, ChannelClosed, pair
from ecu.clock import Clock, SystemClock
from ecu.errors import EXIT_ENVIRONMENT, EnvironmentFault, OutriderError
from ecu.process import enter_child
from telemetry.confirmations import Confirmation, Confirmations

READY: Final = "listening"
_UNREADABLE: Final = "!"


class UnfitWitness(OutriderError):
    """The witness' log isn't whole, so nothing can be concluded from it."""


# --- the judgement ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WitnessReport:
    """What became of the confirmed records. `extra` were stored but never confirmed: their agent died before it could
    tell, which harms nobody."""

    confirmed: int
    stored: int
    missing: int
    duplicates: int
    altered: int
    extra: int
    examples: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Every confirmed record is stored once, with its own bytes. A witness who heard nothing proves nothing."""
        return self.confirmed > 0 and self.missing == self.duplicates == self.altered == 0


Key = tuple[int, bytes, int]


def compare(confirmed: Iterable[Confirmation], stored: Iterable[Confirmation]) -> WitnessReport:
    """Records are named by (lane, epoch, seq). `altered` also counts a name that was confirmed for two contents."""
    told, kept = _digests(confirmed), _digests(stored)
    missing = sorted(told.keys() - kept.keys())
    repeated = {key: copies for key, digests in kept.items() if (copies := digests.total()) > 1}
    altered = sorted(key for key, digests in told.items() if len({*digests, *kept.get(key, ())}) > 1)
    return WitnessReport(
        confirmed=len(told),
        stored=len(kept),
        missing=len(missing),
        duplicates=sum(repeated.values()) - len(repeated),
        altered=len(altered),
        extra=len(kept.keys() - told.keys()),
        examples=_examples(missing=missing, duplicate=sorted(repeated), altered=altered),
    )


def _digests(items: Iterable[Confirmation]) -> dict[Key, Counter[bytes]]:
    found: dict[Key, Counter[bytes]] = {}
    for item in items:
        found.setdefault((item.lane, item.epoch, item.seq), Counter())[item.digest] += 1
    return found


def _examples(**faults: list[Key]) -> tuple[str, ...]:
    return tuple(
        f"{fault}: lane P{lane}, epoch {epoch.hex()[:8]}, seq {seq}"
        for fault, keys in faults.items()
        for lane, epoch, seq in keys[:3]
    )


# --- the log ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log: when the witness heard it, on its own clock."""

    heard_boot_ns: int
    confirmation: Confirmation


def read_log(path: Path) -> list[Confirmation]:
    """What the witness heard, in its order. Raises UnfitWitness for a log with anything in it that can't be read."""
    return [entry.confirmation for entry in read_entries(path)]


def read_entries(path: Path) -> Iterator[Entry]:
    """As `read_log`, with the time of hearing. A torn last line, from a killed witness, is left out."""
    text = path.read_text(encoding="ascii")
    for number, line in enumerate(text[: text.rfind("\n") + 1].splitlines(), 1):
        try:
            yield _parsed(line)
        except ValueError as error:
            raise UnfitWitness(
                f"Line {number} of the witness' log {path} can't be read ({error}). Records may have been confirmed"
                " that it didn't note: run again."
            ) from error


def _parsed(line: str) -> Entry:
    heard, lane, epoch, seq, digest = line.split(" ")
    return Entry(int(heard), Confirmation(int(lane), bytes.fromhex(epoch), int(seq), bytes.fromhex(digest)))


def _written(heard_boot_ns: int, items: Iterable[Confirmation]) -> bytes:
    lines = (f"{heard_boot_ns} {c.lane} {c.epoch.hex()} {c.seq} {c.digest.hex()}\n" for c in items)
    return "".join(lines).encode("ascii")


# --- the process -----------------------------------------------------------------------------------------------------


class Witness:
    """Hears any number of channels and appends each batch to the log in one write."""

    def __init__(self, log: int, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._ears = selectors.DefaultSelector()
        self._lifeline: int | None = None
        self._ended = False

    def listen(self, path: Path) -> None:
        """Raises OSError when `path` can't be bound."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(path))
        listener.listen(16)
        listener.setblocking(False)
        self._ears.register(listener, selectors.EVENT_READ)

    def hear(self, end: socket.socket, *, lifeline: bool = False) -> None:
        """A `lifeline` ends the witness when its other end closes."""
        end.setblocking(False)
        channel = Channel[Confirmations](end, Confirmations)
        self._ears.register(channel, selectors.EVENT_READ, channel)
        if lifeline:
            self._lifeline = channel.fileno()

    def end(self) -> None:
        self._ended = True

    def run(self, wake: int) -> None:
        """Returns after `end` or a closed lifeline, all having been read. Bytes on `wake` make it look up."""
        self._ears.register(wake, selectors.EVENT_READ, wake)
        while not self._ended:
            self._look(None)
        while self._look(0):
            pass

    def _look(self, timeout_s: float | None) -> bool:
        """True when there was anything to hear."""
        heard = False
        for ready, _ in self._ears.select(timeout_s):
            match ready.data:
                case Channel():
                    heard |= self._drain(ready.data)
                case int():
                    os.read(ready.data, 64)
                case _:
                    heard |= self._accept(ready.fileobj)
        return heard

    def _accept(self, listener: object) -> bool:
        assert isinstance(listener, socket.socket)
        with contextlib.suppress(BlockingIOError):
            self.hear(listener.accept()[0])
            return True
        return False

    def _drain(self, channel: Channel[Confirmations]) -> bool:
        """One batch, so that no talkative agent silences another."""
        try:
            message, _ = channel.receive()
        except BlockingIOError:
            return False
        except ChannelClosed:
            self._forget(channel)
            return True
        except BadMessage as error:
            # A line that read_log refuses: what we couldn't understand, we can't vouch for.
            self._append(f"{_UNREADABLE} {error}\n".encode("ascii", "backslashreplace"))
            self._forget(channel)
            return True
        self._append(_written(self._clock.boot_ns(), message.items))
        return True

    def _append(self, lines: bytes) -> None:
        if os.write(self._log, lines) != len(lines):
            raise OSError("the log took only part of a batch")

    def _forget(self, channel: Channel[Confirmations]) -> None:
        self._ended |= channel.fileno() == self._lifeline
        self._ears.unregister(channel)
        channel.close()


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    try:
        _hear_and_write(options.out, options.socket, options.fd)
    except OSError as error:
        fault = f"The witness can't go on: {error}. Check the folder, its space and that the socket's name is free."
        print(fault, file=sys.stderr)
        return EXIT_ENVIRONMENT
    return 0


def _hear_and_write(out: Path, listen_at: Path | None, inherited: int | None) -> None:
    log = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    witness = Witness(log, SystemClock())
    if inherited is not None:
        witness.hear(socket.socket(fileno=inherited), lifeline=True)
    if listen_at is not None:
        witness.listen(listen_at)
    wake = _wake_on_signals(witness, alone=inherited is None)
    print(READY, flush=True)
    witness.run(wake)
    if listen_at is not None:
        listen_at.unlink(missing_ok=True)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("simulator.witness", description="Writes down what agents confirm as durable.")
    parser.add_argument("--out", type=Path, required=True, help="the log; appended to")
    parser.add_argument("--socket", type=Path, help="a Unix socket to listen on; must not exist")
    parser.add_argument("--fd", type=int, help="an inherited channel; the witness ends when its other end closes")
    options = parser.parse_args(argv)
    if options.socket is None and options.fd is None:
        parser.error("give --socket PATH, --fd N or both: there is nobody to hear")
    return options


def _wake_on_signals(witness: Witness, *, alone: bool) -> int:
    """What becomes readable at a signal. Ctrl-C reaches the whole terminal: with a lifeline that isn't for us."""
    wake, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGTERM, lambda *_: witness.end())
    signal.signal(signal.SIGINT, (lambda *_: witness.end()) if alone else signal.SIG_IGN)
    return wake


@contextlib.contextmanager
def running_witness(socket_path: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    """A witness process that already listens; it has read everything and ended when the block is left.

    It dies with us: its lifeline is ours.
    """
    ours, theirs = pair()
    command = [
        sys.executable,
        "-m",
        "simulator.witness",
        "--out",
        log,
        "--socket",
        socket_path,
        "--fd",
        theirs.fileno(),
    ]
    with ours, theirs, _started([str(part) for part in command], theirs.fileno()) as process:
        theirs.close()
        try:
            _await_ready(process)
            yield process
        finally:
            ours.close()


def _started(command: list[str], inherited: int) -> subprocess.Popen[str]:
    return subprocess.Popen(command, pass_fds=[inherited], stdout=subprocess.PIPE, text=True)


def _await_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if process.stdout.readline().strip() != READY:
        raise EnvironmentFault(f"The witness didn't start (exit code {process.wait()}): see its message above.")


if __name__ == "__main__":
    enter_child()
    sys.exit(main())
