"""Those who aren't our vehicle: a stranger with a certificate of its own, and whoever throws bytes at the port."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Final

from agent.pairing import KEYS_FOLDER, Paired, load_paired, tls_context
from ecu.clock import Clock
from ecu.disk import RealDisk
from ecu.keys import FileKeyStore, MemoryKeyStore
from ecu.urgency import Urgency, give
from receiver.pki import Authority
from simulator.demo.stage import INTRUDER, VEHICLE, Stage
from simulator.faults.packets import assault, hostile_packets
from telemetry.links.tls import pinned_context

SEED: Final = 1883
KNOCK_S: Final = 3.0


def _paired(state: Path) -> Paired:
    """Where a vehicle's receiver is, as that vehicle itself remembers it."""
    return load_paired(RealDisk(state))


async def try_stranger(stage: Stage, clock: Clock) -> str | None:
    """Knocks with the vehicle's name in a certificate of another authority; the door's own words of refusal.

    None when there were no such words: it was let in, or nobody stood at the door.
    """
    return await asyncio.to_thread(_knock, _paired(stage.places.agent), clock)


def _knock(receiver: Paired, clock: Clock) -> str | None:
    context = _forged(receiver.ca, clock)
    with socket.create_connection((receiver.host, receiver.mqtt_port), KNOCK_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=receiver.host) as secured:
                # In TLS 1.3 the client is done before the server has looked at its certificate: say nothing, listen;
                # an alert is the refusal, silence means that the door is open.
                secured.recv(1)
        except ssl.SSLError as alert:
            return str(alert.reason).lower().replace("_", " ")
        except TimeoutError:
            return None
    return None


def _forged(ca_pem: str, clock: Clock) -> ssl.SSLContext:
    """Trusts the real receiver, and proves to be the vehicle by a certificate that only a stranger signed."""
    keys = MemoryKeyStore()
    with tempfile.TemporaryDirectory(prefix="outrider-stranger-") as folder:
        authority = Authority(RealDisk(Path(folder)), clock, vehicle_days=1.0)
        pending = keys.begin_identity()
        keys.install(pending, authority.issue(pending.csr(VEHICLE), VEHICLE).pem)
    context = pinned_context(ca_pem)
    keys.load_identity(context)
    return context


async def besiege(stage: Stage, packets: int) -> int:
    """A paired vehicle gone bad throws hostile packets at the endpoint; how many it threw.

    Raises TimeoutError when the endpoint no longer answers.
    """
    receiver = _paired(stage.places.intruder)
    context = tls_context(receiver, FileKeyStore.open(stage.places.intruder / KEYS_FOLDER))

    async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            receiver.host, receiver.mqtt_port, ssl=context, server_hostname=receiver.host
        )

    def throw() -> int:
        if stage.shares_the_road:
            # A thread's own: this one ends with the siege.
            give(threading.get_native_id(), Urgency.PATIENT)
        return asyncio.run(assault(dial, hostile_packets(Random(SEED), packets, INTRUDER, VEHICLE))).packets

    with ThreadPoolExecutor(1) as outside:
        return await asyncio.get_running_loop().run_in_executor(outside, throw)
