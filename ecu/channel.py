"""A message channel between processes of one computer: whole msgpack messages over a Unix SOCK_SEQPACKET socket.

The lockstep handshake is here because every process speaks it: the agent grants `Advance(t_ns)`, a process does all it
has to do up to that instant, sends what came of it, and answers `Done(t_ns)`.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    import asyncio

MAX_MESSAGE_BYTES = 128 * 1024
MAX_DESCRIPTORS = 4

In = TypeVar("In")


class Message(msgspec.Struct, frozen=True, tag_field="m"):
    """Root of what travels on a channel; each subclass has its own tag."""


class Advance(Message, frozen=True, tag="advance"):
    """Lockstep grant: everything up to and including `t_ns` may happen."""

    t_ns: int


class Done(Message, frozen=True, tag="done"):
    """Lockstep answer: everything up to and including `t_ns` has happened and was sent before this."""

    t_ns: int


class ChannelClosed(Exception):
    """The other process is gone. Nothing more will come."""


class BadMessage(Exception):
    """The other process sent what this version doesn't know."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends; hand one to a child by `pass_fds`."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel(Generic[In]):
    """One end. `accepts` is the union of message types that may come in; anything else raises BadMessage.

    Blocking use (`receive`, `send`) in child processes; `attach` in the agent's event loop.
    """

    def __init__(self, end: socket.socket, accepts: Any) -> None:
        self._socket = end
        self._decoder: msgspec.msgpack.Decoder[In] = msgspec.msgpack.Decoder(accepts)
        self._encoder = msgspec.msgpack.Encoder()
        self._loop: asyncio.AbstractEventLoop | None = None

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Raises ChannelClosed; BlockingIOError on a non-blocking end whose reader is far behind.

        A message or a list of descriptors beyond the limits is a bug of ours: ValueError.
        """
        data = self._encoder.encode(message)
        if len(data) > MAX_MESSAGE_BYTES or len(descriptors) > MAX_DESCRIPTORS:
            raise ValueError(
                f"{type(message).__name__}: {len(data)} bytes and {len(descriptors)} descriptors won't fit"
            )
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._socket.sendmsg([data], ancillary)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ChannelClosed from error

    def receive(self) -> tuple[In, list[int]]:
        """The next message and the descriptors that came with it. Raises ChannelClosed or BadMessage."""
        room = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
        try:
            data, ancillary, flags, _ = self._next(room)
        except BlockingIOError:
            raise
        except OSError as error:
            raise ChannelClosed from error
        if not data:
            raise ChannelClosed
        descriptors = _descriptors(ancillary)
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise msgspec.DecodeError(
                    f"it is longer than {MAX_MESSAGE_BYTES} bytes or {MAX_DESCRIPTORS} descriptors"
                )
            return self._decoder.decode(data), descriptors
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            for fd in descriptors:
                os.close(fd)
            raise BadMessage(str(error)) from error

    def _next(self, room: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        try:
            return self._socket.recvmsg(MAX_MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # The other end died with words of ours unread: said once, and before its own last words can be read.
            return self._socket.recvmsg(MAX_MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)

    def attach(
        self,
        on_message: Callable[[In], None],
        on_closed: Callable[[], None],
        batch: int = 64,
        on_bad: Callable[[BadMessage], None] | None = None,
    ) -> None:
        """Delivers messages in the running event loop until the other end closes; at most `batch` a turn.

        A BadMessage closes this end too; `on_bad` is told before, or else it reaches the loop's exception handler.
        """
        # Only who attaches has an event loop: the blocking ends start faster without one.
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._socket.setblocking(False)

        def readable() -> None:
            for _ in range(batch):
                try:
                    message, descriptors = self.receive()
                except BlockingIOError:
                    return
                except ChannelClosed:
                    self.close()
                    on_closed()
                    return
                except BadMessage as bad:
                    self.close()
                    if on_bad is not None:
                        on_bad(bad)
                    on_closed()
                    if on_bad is None:
                        raise
                    return
                for fd in descriptors:
                    os.close(fd)
                on_message(message)
                if self._socket.fileno() < 0:
                    return

        self._loop.add_reader(self._socket, readable)

    def close(self) -> None:
        if self._loop is not None and self._socket.fileno() >= 0:
            with contextlib.suppress(RuntimeError):
                self._loop.remove_reader(self._socket)
        self._socket.close()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    received = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(content[: len(content) - len(content) % received.itemsize])
    return list(received)
