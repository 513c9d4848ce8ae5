"""Who connects to AWS IoT Core, and why it failed in words: the SDK names no cause of a broken handshake."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from ecu.clock import Clock, SystemClock
from telemetry.links.examine import examine
from telemetry.links.link import LinkError, Unreachable
from telemetry.links.reasons import turned_away
from telemetry.links.tls import broker_context

T = TypeVar("T")

LOOK_AFTER_S: Final = 2.0


class SdkError(Exception):
    """An operation of the SDK failed before the peer answered it; the words are the SDK's."""


class Prover(Protocol):
    """Lends key and certificate (ecu.keys.KeyStore)."""

    def lend_identity(self, use: Callable[[bytes, bytes], T]) -> T: ...

    def load_identity(self, context: ssl.SSLContext) -> None: ...


@dataclass(frozen=True, slots=True, repr=False)
class Claim:
    """A certificate that a batch of vehicles shares, and that lets each of them ask for its own."""

    key_pem: bytes
    certificate_pem: bytes

    def lend_identity(self, use: Callable[[bytes, bytes], T]) -> T:
        return use(self.key_pem, self.certificate_pem)

    def load_identity(self, context: ssl.SSLContext) -> None:
        with os.fdopen(os.memfd_create("claim"), "wb") as file:
            file.write(self.key_pem + self.certificate_pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")


@dataclass(frozen=True, slots=True)
class Door:
    """Where AWS IoT Core is, and how we know it. `ca_pem` None: by the authorities that this computer trusts."""

    host: str
    port: int
    ca_pem: str | None = None


Greeting = asyncio.Future[tuple[int | None, str] | None]
"""None when the broker has let us in; else MQTT's code, if there was one, and the SDK's words."""


async def admitted(greeting: Greeting, door: Door, name: str, prover: Prover, clock: Clock, timeout_s: float) -> None:
    """Returns when the broker has let `name` in. Raises Unreachable, Untrusted, ClockUntrusted or Unauthorized."""
    # After a handshake that failed the SDK says nothing for 10 to 30 s (s2n's blinding): look before it does.
    await asyncio.wait({greeting}, timeout=min(LOOK_AFTER_S, timeout_s / 4))
    if not greeting.done():
        trouble = await _trouble(door, prover, clock, timeout_s)
        if trouble is not None and not (greeting.done() and greeting.result() is None):
            raise trouble
    if (failure := await greeting) is None:
        return
    code, words = failure
    if code is not None:
        raise turned_away(code, words, door.host, name)
    raise await _trouble(door, prover, clock, timeout_s) or Unreachable(
        f"{door.host} port {door.port} can't be reached: {words}. The link will try again."
    )


async def _trouble(door: Door, prover: Prover, clock: Clock, timeout_s: float) -> LinkError | None:
    """What OpenSSL finds wrong with a connection; None when nothing."""
    context = broker_context(door.ca_pem)
    prover.load_identity(context)
    # The SDK goes by the computer's clock, whatever else is believed.
    clocks = (clock, SystemClock())
    try:
        await asyncio.to_thread(examine, door.host, door.port, context, clocks, timeout_s)
    except LinkError as error:
        return error
    return None
