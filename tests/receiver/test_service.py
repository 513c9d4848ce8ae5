"""The receiver as a process: the ports it tells, the signals it obeys, a kill it survives, its operator's verbs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from agent.pairing import Paired, pair, read_pairing_file
from ecu.clock import SECOND_NS, SteppingClock, SystemClock
from ecu.disk import RealDisk
from ecu.errors import EXIT_ENVIRONMENT, EXIT_NO, EXIT_USAGE, EnvironmentFault, OutriderError, UsageFault
from ecu.keys import MemoryKeyStore
from receiver.client import OperatorClient
from receiver.pki import SERVER_FILE, Authority
from receiver.service import keep_certificate
from telemetry.links.link import Unreachable
from telemetry.records import Lane
from tests.receiver.fleet import VEHICLE, Vehicle, a_receiver, a_vehicle, make_block, todays_clock
from tests.verbs import run_verb

OUTRIDER = sys.executable, "-m", "outrider", "receiver"


@dataclass(frozen=True, slots=True)
class Child:
    """A receiver in its own process."""

    process: asyncio.subprocess.Process
    state: Path
    ready: dict[str, object]

    @property
    def operator(self) -> OperatorClient:
        return OperatorClient(self.state)

    async def vehicle(self, folder: Path, name: str = VEHICLE) -> Vehicle:
        file = await asyncio.to_thread(self.operator.enrol, name)
        disk, keys, clock = RealDisk(folder / name), MemoryKeyStore(), SystemClock()
        disk.make_folder("")
        return Vehicle(await asyncio.to_thread(pair, file, keys, disk, clock), keys, clock, disk)

    async def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return await self.process.wait()


@contextlib.asynccontextmanager
async def a_child(folder: Path, text: str = "[receiver]\nmqtt_port = 0\nhttps_port = 0\n") -> AsyncIterator[Child]:
    folder.mkdir(exist_ok=True)
    config, state = folder / "outrider.toml", folder / "state"
    config.write_text(text)
    told, tell = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *OUTRIDER, "run", "--config", str(config), "--state", str(state), "--ready-fd", str(tell),
        pass_fds=[tell], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    os.close(tell)
    with os.fdopen(told, "rb") as pipe:
        line = await asyncio.to_thread(pipe.readline)
    assert line, (await process.communicate())[1].decode()
    try:
        yield Child(process, state, json.loads(line))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def in_a_process(*arguments: object) -> tuple[int, str, str]:
    """As run_verb, but of `outrider receiver ...` in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *OUTRIDER, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_what_was_receipted_survives_a_kill_and_a_clean_stop_exits_0(tmp_path: Path) -> None:
    async with a_child(tmp_path) as child:
        vehicle = await child.vehicle(tmp_path)
        assert vehicle.paired.mqtt_port == child.ready["mqtt_port"]
        link = vehicle.link()
        await link.connect()
        publishing = [asyncio.ensure_future(link.publish(Lane.P1, make_block(3 * n))) for n in range(200)]
        receipted: set[int] = set()
        while len(receipted) < 90:
            for start, end in (await anext(link.receipts())).ranges:
                receipted |= set(range(start, end))
        assert await child.end(signal.SIGKILL) == -signal.SIGKILL
        await asyncio.gather(*publishing, return_exceptions=True)
        with pytest.raises(Unreachable):
            await link.connect()
        await link.close()
    async with a_child(tmp_path) as child:
        (member,) = await asyncio.to_thread(child.operator.fleet)
        assert member.records["P1"] >= len(receipted)
        again = Vehicle(_at(vehicle, child), vehicle.keys, vehicle.clock, vehicle.disk).link()
        await again.connect()
        await asyncio.gather(*(again.publish(Lane.P1, make_block(3 * n)) for n in range(200)))
        (member,) = await asyncio.to_thread(child.operator.fleet)
        assert (member.records["P1"], member.connected) == (600, True)
        assert await child.end(signal.SIGTERM) == 0
        with pytest.raises(Unreachable, match="stopping"):
            await anext(again.hints())
        await again.close()


def _at(vehicle: Vehicle, child: Child) -> Paired:
    return msgspec.structs.replace(vehicle.paired, mqtt_port=child.ready["mqtt_port"])


async def test_the_operators_verbs_speak_for_people_and_for_scripts(tmp_path: Path) -> None:
    async with a_child(tmp_path) as child:
        out = tmp_path / "veh.json"
        code, text, err = await run_verb("enrol", VEHICLE, "--state", child.state, "--out", out)
        assert (code, text) == (0, "")
        assert "outrider pair veh.json" in err
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert read_pairing_file(out.read_bytes()).vehicle == VEHICLE
        code, text, _ = await run_verb("fleet", "revoke", VEHICLE, "--state", child.state)
        assert (code, "Revoked 0 certificates" in text) == (0, True)
        answers = [
            await in_a_process("fleet", "--state", child.state),
            await run_verb("fleet", "--state", child.state, "--json"),
            await run_verb("audit", "--state", child.state, "--json"),
        ]
        assert [code for code, _, _ in answers] == [0, 0, 0]
        table, fleet, audit = answers[0][1], json.loads(answers[1][1]), json.loads(answers[2][1])
        assert VEHICLE in table
        assert fleet[0]["vehicle"] == VEHICLE
        assert audit["broken_at"] is None
        assert [entry["event"] for entry in audit["entries"]] == ["started", "enrolled", "revoked"]


async def test_a_wrong_key_a_busy_port_and_a_second_receiver_are_told_in_words(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[receiver]\nmqtt_prot = 1\n")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = tmp_path / "taken.toml"
        port = busy.getsockname()[1]
        taken.write_text(f"[receiver]\nhttps_port = 0\nmqtt_port = {port}\n")
        answers = [
            await run_verb("run", "--config", wrong, "--state", tmp_path / "a"),
            await in_a_process("run", "--config", taken, "--state", tmp_path / "b"),
            await run_verb("fleet", "--state", tmp_path / "c"),
        ]
    (code, _, words) = answers[0]
    assert (code, words) == (EXIT_USAGE, f"{wrong}:2: receiver.mqtt_prot is unknown. Did you mean mqtt_port?\n")
    (code, _, words) = answers[1]
    assert code == EXIT_ENVIRONMENT
    assert f"port {port}: Address already in use" in words
    assert "[receiver] mqtt_port" in words
    (code, _, words) = answers[2]
    assert code == EXIT_ENVIRONMENT
    assert "outrider receiver run" in words


async def test_one_state_folder_has_one_receiver_and_a_killed_ones_socket_is_no_obstacle(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        assert stat.S_IMODE(receiver.socket.stat().st_mode) == 0o600
        with pytest.raises(EnvironmentFault, match="Another receiver runs"):
            async with a_receiver(tmp_path):
                pass
    assert not receiver.socket.exists()
    receiver.socket.touch()
    async with a_receiver(tmp_path) as receiver:
        assert await asyncio.to_thread(OperatorClient(receiver.socket.parent).stats)


async def test_a_state_that_is_no_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "receiver").touch()
    with pytest.raises(EnvironmentFault, match="Choose another --state"):
        async with a_receiver(tmp_path):
            pass


async def test_a_state_folder_too_deep_for_a_socket_is_said(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="shorter --state"):
        async with a_receiver(tmp_path / ("x" * 120)):
            pass


async def test_the_operators_client_and_the_operator_agree(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        client = OperatorClient(receiver.socket.parent)
        vehicle = await a_vehicle(receiver, tmp_path)
        link = vehicle.link()
        await link.connect()
        assert await asyncio.to_thread(client.hint, VEHICLE, "look")
        assert (await anext(link.hints())).kind == "look"
        assert await asyncio.to_thread(client.fleet) == await receiver.operator.fleet()
        assert (await asyncio.to_thread(client.stats))["sessions"] == 1
        for name in ("no", "Not a name", "../../x"):
            with pytest.raises(UsageFault, match="no vehicle id"):
                await asyncio.to_thread(client.enrol, name)
        with pytest.raises(OutriderError, match="no vehicle veh-404") as caught:
            await asyncio.to_thread(client.revoke, "veh-404")
        assert caught.value.exit_code == EXIT_NO
        revoked = await asyncio.to_thread(client.revoke, VEHICLE)
        assert (revoked.certificates, revoked.connections_cut) == (1, 1)
        assert not await asyncio.to_thread(client.hint, VEHICLE, "look")
        await link.close()


async def test_a_certificate_that_cannot_be_renewed_just_now_is_tried_again_and_ends_nothing(tmp_path: Path) -> None:
    clock, disk = todays_clock(), RealDisk(tmp_path)
    authority = Authority(disk, clock, 14)
    context = authority.server_context(("localhost",), ssl.CERT_OPTIONAL)
    file = disk.root / SERVER_FILE
    file.unlink()
    file.mkdir()  # nothing can be read there, nor put in its place
    keeping = asyncio.create_task(keep_certificate(authority, ("localhost",), clock, context))
    await pass_an_hour(clock)
    assert not keeping.done()
    file.rmdir()
    await pass_an_hour(clock)
    assert file.is_file()
    keeping.cancel()
    await asyncio.wait({keeping})


async def pass_an_hour(clock: SteppingClock) -> None:
    for _ in range(3):  # to its sleep, and from it
        await asyncio.sleep(0)
    clock.advance(clock.boot_ns() + 3600 * SECOND_NS)
    for _ in range(3):
        await asyncio.sleep(0)
