"""Who connects to AWS IoT Core, and why it failed in words: the SDK names no cause of a broken handshake."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ecu.clock import Clock, SystemClock
from telemetry.links.aws.examine import examine
from telemetry.links.link import LinkError, Unreachable
from telemetry.links.reasons import turned_away
from telemetry.links.tls import broker_context

T = TypeVar("T")


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


async def reason(
    door: Door, name: str, prover: Prover, clock: Clock, failure: tuple[int | None, str], timeout_s: float
) -> LinkError:
    """Why a connection of `name` didn't come about; `failure` is MQTT's code, if there was one, and the SDK's words."""
    code, words = failure
    if code is not None:
        return turned_away(code, words, door.host, name)
    context = broker_context(door.ca_pem)
    prover.load_identity(context)
    # The SDK goes by the computer's clock, whatever else is believed.
    clocks = (clock, SystemClock())
    try:
        await asyncio.to_thread(examine, door.host, door.port, context, clocks, timeout_s)
    except LinkError as error:
        return error
    return Unreachable(f"{door.host} port {door.port} can't be reached: {words}. The link will try again.")
