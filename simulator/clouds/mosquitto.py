"""A real MQTT 5 broker on loopback: Debian's mosquitto with mutual TLS, each client let at its own topics alone.

`%u` is the common name of the client's certificate, so a vehicle publishes and hears under its own name, as AWS IoT
Core's policy variables have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import shutil
import signal
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ecu.errors import EnvironmentFault
from telemetry.links.pahoclient import PahoConnection, TlsDialer

HOST: Final = "localhost"
START_WITHIN_S: Final = 10.0
STOP_WITHIN_S: Final = 5.0
MAX_PACKET_BYTES: Final = 128 * 1024
"""AWS IoT Core's."""
RECEIVER: Final = "outrider-receiver"
_RULES: Final = f"""\
user {RECEIVER}
topic read outrider/v1/+/up/#
topic write outrider/v1/+/down/#
"""
_EACH: Final = """\
pattern write outrider/v1/%u/up/#
pattern read outrider/v1/%u/down/#
pattern readwrite $aws/things/%u/#
"""


def find_mosquitto(path: str | None = None) -> str | None:
    """Where the broker is installed; None where it isn't. Debian keeps it outside a user's usual path."""
    return shutil.which("mosquitto", path=path) or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def demand_mosquitto() -> str:
    """Raises EnvironmentFault where it isn't installed."""
    if (found := find_mosquitto()) is None:
        raise EnvironmentFault("mosquitto isn't installed. Run: apt-get install mosquitto")
    return found


class Mosquitto:
    """A running one. `client_context` proves an outsider to it, whose certificate the authority gave."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, port: int, authority_pem: bytes) -> None:
        self.port = port
        self.words: deque[str] = deque(maxlen=200)
        self.receivers = 0  # subscriptions of receivers so far
        self._process = process
        self._folder = folder
        self._authority_pem = authority_pem
        self._news = asyncio.Condition()
        self._revoked: list[int] = []
        self._cutting: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"mqtts://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def cut(self, client: str, context: ssl.SSLContext) -> None:
        """Ends the client's connection soon: another client takes its id over, and leaves at once."""
        task = asyncio.ensure_future(self._take_over(client, context))
        self._cutting.add(task)
        task.add_done_callback(self._cutting.discard)

    def revoke(self, serial: int) -> None:
        """No connection by that certificate from now on; one that is open stays."""
        self._revoked.append(serial)
        write_crl(self._folder / "revoked.crl", self._authority_pem, self._revoked)
        self._process.send_signal(signal.SIGHUP)

    async def settled(self) -> None:
        """What `cut` began is done."""
        await asyncio.gather(*self._cutting)

    async def stop(self) -> None:
        """Once more is nothing."""
        await self.settled()
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def listen_to(self, stream: asyncio.StreamReader, running: asyncio.Event) -> None:
        """Keeps what it says, and notes when it runs."""
        while line := await stream.readline():
            self.words.append(line.decode(errors="replace").strip())
            if " running" in self.words[-1]:
                running.set()
            if f" {RECEIVER} " in self.words[-1] and "$share/" in self.words[-1]:
                async with self._news:
                    self.receivers += 1
                    self._news.notify_all()

    async def receiver_there(self, times: int) -> None:
        """Returns when a receiver has subscribed so many times."""
        async with self._news:
            await self._news.wait_for(lambda: self.receivers >= times)

    async def _take_over(self, client: str, context: ssl.SSLContext) -> None:
        greeted = _Greeted()
        line = PahoConnection(client, TlsDialer(context, START_WITHIN_S, lambda _: None), 1, greeted)
        await asyncio.to_thread(line.open, HOST, self.port, 30)
        await greeted.done
        await asyncio.to_thread(line.end)


class _Greeted:
    """Events of which only the greeting matters (pahoclient.Events)."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connected(self, *_: Any) -> None:
        if not self.done.done():
            self.done.set_result(None)

    lost = connected

    def subscribed(self, *_: Any) -> None: ...

    def acknowledged(self, *_: Any) -> None: ...

    def arrived(self, *_: Any) -> None: ...


@contextlib.asynccontextmanager
async def running_mosquitto(
    folder: Path, authority_pem: bytes, server_pem: Path, rules: Mapping[str, str] | None = None, port: int = 0
) -> AsyncIterator[Mosquitto]:
    """`authority_pem` holds the certificates of those who let clients in; where there is one, and its key too, `revoke`
    works. `server_pem` is the broker's own key and certificate, `rules` further ACL lines by user.

    Raises EnvironmentFault when it isn't installed or doesn't start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    _write_settings(folder, authority_pem, server_pem, port, rules or {})
    process = await asyncio.create_subprocess_exec(
        demand_mosquitto(), "-c", str(folder / "mosquitto.conf"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    broker = Mosquitto(process, folder, port, authority_pem)
    assert process.stdout is not None
    running = asyncio.Event()
    listening = asyncio.ensure_future(broker.listen_to(process.stdout, running))
    try:
        await _started(broker, running, listening)
        yield broker
    finally:
        await broker.stop()
        await listening


async def _started(broker: Mosquitto, running: asyncio.Event, listening: asyncio.Future[None]) -> None:
    is_running = asyncio.ensure_future(running.wait())
    either: set[asyncio.Future[Any]] = {is_running, listening}
    await asyncio.wait(either, timeout=START_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    is_running.cancel()
    if not running.is_set():
        raise EnvironmentFault(f"mosquitto didn't start: {' / '.join(broker.words) or 'it said nothing'}.")


def _write_settings(folder: Path, authority_pem: bytes, server_pem: Path, port: int, rules: Mapping[str, str]) -> None:
    authorities = x509.load_pem_x509_certificates(authority_pem)
    (folder / "ca.crt").write_bytes(b"".join(a.public_bytes(serialization.Encoding.PEM) for a in authorities))
    if revokes := b"PRIVATE KEY" in authority_pem:
        write_crl(folder / "revoked.crl", authority_pem, [])
    more = "".join(f"user {user}\n{lines}" for user, lines in rules.items())
    _private(folder / "acl", f"{_RULES}{more}{_EACH}".encode())
    _private(folder / "server.pem", server_pem.read_bytes())
    settings = {
        "set_tcp_nodelay": "true",
        "allow_anonymous": "false",
        "persistence": "false",
        "max_queued_messages": "100000",
        "max_inflight_messages": "100",
        "max_packet_size": str(MAX_PACKET_BYTES),
        "log_dest": "stderr",
        "log_type": "all",
        "acl_file": str(folder / "acl"),
        # Started by root it would become another user, who can't read these files.
        **({"user": "root"} if os.geteuid() == 0 else {}),
        "listener": f"{port} 127.0.0.1",
        "cafile": str(folder / "ca.crt"),
        "certfile": str(folder / "server.pem"),
        "keyfile": str(folder / "server.pem"),
        **({"crlfile": str(folder / "revoked.crl")} if revokes else {}),
        "require_certificate": "true",
        "use_identity_as_username": "true",
    }
    (folder / "mosquitto.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))


def write_crl(path: Path, authority_pem: bytes, serials: list[int]) -> None:
    """The revoked certificates of an authority, whose key and certificate these are (RFC 5280 section 5), PEM."""
    key = serialization.load_pem_private_key(authority_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    authority = x509.load_pem_x509_certificate(authority_pem)
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.subject)
    builder = builder.last_update(now - datetime.timedelta(minutes=5)).next_update(now + datetime.timedelta(days=1))
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    _private(path, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def _private(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
