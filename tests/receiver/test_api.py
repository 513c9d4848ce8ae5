"""The HTTPS API as a hostile or clumsy client meets it; the vehicle's view is in tests/agent/test_pairing.py."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.pairing import renew
from ecu.clock import SECOND_NS
from ecu.keys import MemoryKeyStore
from receiver import journal
from receiver.admission import CERTIFICATES_AT_ONCE
from receiver.service import Receiver
from telemetry.links.pairing import MAX_MESSAGE_BYTES, PairingFile
from telemetry.links.tls import pinned_context
from tests.receiver.fleet import VEHICLE, Vehicle, a_receiver, a_vehicle, todays_clock


def ask(
    receiver: Receiver,
    method: str,
    path: str,
    body: bytes | None = None,
    context: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any, dict[str, str]]:
    context = context or pinned_context(receiver.authority.pem)
    line = http.client.HTTPSConnection("localhost", receiver.address.https_port, timeout=10, context=context)
    try:
        line.request(method, path, body, headers or {})
        answer = line.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text.startswith(b"{") else text, dict(answer.getheaders())
    finally:
        line.close()


def pairing(file: PairingFile, csr: bytes | None = None) -> bytes:
    csr = csr or MemoryKeyStore().begin_identity().csr("x")
    return json.dumps({"token": file.token, "csr": csr.decode()}).encode()


async def test_a_token_pairs_one_key_once_and_the_same_key_again_when_its_answer_was_lost(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        csr = MemoryKeyStore().begin_identity().csr("x")
        for _ in range(2):
            status, answer, _ = await asyncio.to_thread(ask, receiver, "POST", "/v1/pair", pairing(file, csr))
            assert (status, answer["vehicle"]) == (200, VEHICLE)
        status, answer, _ = await asyncio.to_thread(ask, receiver, "POST", "/v1/pair", pairing(file))
        assert (status, answer) == (
            403,
            {"error": f"This token of {VEHICLE} was used already. Ask the operator for a new pairing file."},
        )


async def test_a_request_that_proves_nothing_does_not_burn_the_token(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        assert (await asyncio.to_thread(ask, receiver, "POST", "/v1/pair", pairing(file, b"junk")))[0] == 400
        assert (await asyncio.to_thread(ask, receiver, "POST", "/v1/pair", pairing(file)))[0] == 200


async def test_two_devices_with_one_token_at_the_same_moment_get_one_certificate(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        file = await receiver.operator.enrol(VEHICLE)
        bodies = [pairing(file) for _ in range(4)]
        answers = await asyncio.gather(*(asyncio.to_thread(ask, receiver, "POST", "/v1/pair", body) for body in bodies))
        assert sorted(status for status, _, _ in answers) == [200, 403, 403, 403]
        assert [member.certificates for member in await receiver.operator.fleet()] == [1]


async def test_a_token_expires_is_replaced_and_ends_with_revocation(tmp_path: Path) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock, enrolment_minutes=1) as receiver:

        async def answer_to(file: PairingFile) -> str:
            status, answer, _ = await asyncio.to_thread(ask, receiver, "POST", "/v1/pair", pairing(file))
            return "paired" if status == 200 else str(answer["error"])

        replaced = await receiver.operator.enrol(VEHICLE)
        expired = await receiver.operator.enrol(VEHICLE)
        assert "none of this receiver's" in await answer_to(replaced)
        clock.advance(61 * SECOND_NS)
        assert "has expired" in await answer_to(expired)
        spent = await receiver.operator.enrol(VEHICLE)
        assert await answer_to(spent) == "paired"
        await receiver.operator.revoke(VEHICLE)
        assert "none of this receiver's" in await answer_to(spent)


NONSENSE = [
    (b"", 400),
    (b"[]", 400),
    (b'{"token":1,"csr":""}', 400),
    (b'{"token":"","csr":"","more":1}', 400),
    (b"[" * MAX_MESSAGE_BYTES, 400),
    (b'{"token":"\xff","csr":""}', 400),
    (bytes(MAX_MESSAGE_BYTES + 1), 413),
]


async def test_a_body_that_makes_no_sense_is_said_to(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        for body, status in NONSENSE:
            told, answer, _ = await asyncio.to_thread(ask, receiver, "POST", "/v1/pair", body)
            assert told == status
            assert answer["error"]


async def test_guessing_tokens_is_throttled_by_address(tmp_path: Path) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock, refusals_at_once=3, refusals_per_minute=6) as receiver:
        good = await receiver.operator.enrol(VEHICLE)
        guess = pairing(PairingFile(**{**_fields(good), "token": "guess"}))
        told = [await asyncio.to_thread(ask, receiver, "POST", "/v1/pair", guess) for _ in range(4)]
        assert [status for status, _, _ in told] == [403, 403, 403, 429]
        assert told[-1][2]["retry-after"] == "11"
        clock.advance(11 * SECOND_NS)
        assert (await asyncio.to_thread(ask, receiver, "POST", "/v1/pair", guess))[0] == 403


async def test_refusals_of_one_keep_nobody_at_the_same_address_from_pairing_or_renewing(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, refusals_at_once=1) as receiver:
        paired, revoked = await a_vehicle(receiver, tmp_path), await a_vehicle(receiver, tmp_path, "veh-002")
        await receiver.operator.revoke("veh-002")

        async def told(path: str, body: bytes, vehicle: Vehicle | None = None) -> int:
            context = vehicle.context() if vehicle else None
            return (await asyncio.to_thread(ask, receiver, "POST", path, body, context))[0]

        assert [await told("/v1/pair", b"nonsense") for _ in range(3)] == [400, 429, 429]
        # By the vehicle: this one hears why, though its address has used up its share.
        assert [await told("/v1/renew", renewal(), revoked) for _ in range(2)] == [403, 429]
        assert await told("/v1/renew", renewal(), paired) == 200
        assert await told("/v1/pair", pairing(await receiver.operator.enrol("veh-003"))) == 200


async def test_nobody_is_taken_for_the_address_that_a_header_names(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, refusals_at_once=1) as receiver:
        told = []
        for n in range(3):
            named = {"x-forwarded-for": f"10.0.0.{n}"}
            told.append((await asyncio.to_thread(ask, receiver, "POST", "/v1/pair", b"", None, named))[0])
        assert told == [400, 429, 429]


def renewal() -> bytes:
    return json.dumps({"csr": MemoryKeyStore().begin_identity().csr("x").decode()}).encode()


def _fields(file: PairingFile) -> dict[str, Any]:
    return {name: getattr(file, name) for name in file.__struct_fields__}


async def test_renewal_needs_the_certificate_that_is_welcome_now(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)

        async def told(context: ssl.SSLContext | None) -> int:
            return (await asyncio.to_thread(ask, receiver, "POST", "/v1/renew", renewal(), context))[0]

        assert await told(None) == 403
        assert await told(vehicle.context()) == 200
        await receiver.operator.revoke(VEHICLE)
        assert await told(vehicle.context()) == 403
        assert receiver.counters.renewed == 1


async def test_a_certificate_is_welcome_until_it_is_revoked_and_without_one_nobody_is(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)

        async def told(context: ssl.SSLContext | None) -> tuple[int, Any]:
            return (await asyncio.to_thread(ask, receiver, "GET", "/v1/welcome", None, context))[:2]

        assert (await told(None))[0] == 403
        assert await told(vehicle.context()) == (200, {"vehicle": VEHICLE})
        await receiver.operator.revoke(VEHICLE)
        assert (await told(vehicle.context()))[0] == 403


async def test_a_vehicle_is_given_so_many_certificates_within_an_hour_and_no_more(tmp_path: Path) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock) as receiver:
        greedy = await a_vehicle(receiver, tmp_path, clock=clock)
        other = await a_vehicle(receiver, tmp_path, "veh-002", clock=clock)

        async def told(vehicle: Vehicle) -> tuple[int, str | None]:
            status, _, headers = await asyncio.to_thread(
                ask, receiver, "POST", "/v1/renew", renewal(), vehicle.context()
            )
            return status, headers.get("retry-after")

        clock.advance(60 * SECOND_NS)
        answers = [await told(greedy) for _ in range(CERTIFICATES_AT_ONCE)]
        assert answers == [(200, None)] * (CERTIFICATES_AT_ONCE - 1) + [(429, "3541")]
        assert await told(other) == (200, None)
        clock.advance(3601 * SECOND_NS)
        assert await told(greedy) == (200, None)
        assert (await told(greedy))[0] == 429


async def test_short_lived_certificates_can_be_renewed_in_time(tmp_path: Path) -> None:
    clock, life_s = todays_clock(), 120
    async with a_receiver(tmp_path, clock, certificate_days=life_s / 86_400) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path, clock=clock)
        for n in range(1, 1 + 2 * CERTIFICATES_AT_ONCE):
            clock.advance(n * life_s * SECOND_NS * 2 // 3)
            await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, clock)
            vehicle.keys.retire_previous()
        assert receiver.counters.renewed == 2 * CERTIFICATES_AT_ONCE


async def test_a_strangers_certificate_does_not_get_past_tls(tmp_path: Path) -> None:
    async with a_receiver(tmp_path / "ours") as ours, a_receiver(tmp_path / "theirs") as theirs:
        stranger: Vehicle = await a_vehicle(theirs, tmp_path)
        context = stranger.context()
        context.load_verify_locations(cadata=ours.authority.pem)
        with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):
            await asyncio.to_thread(ask, ours, "GET", "/v1/health", None, context)
        assert ours.counters.tls_refused == 1


async def test_time_is_signed_for_a_fit_nonce_only(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        for nonce in ("", "xyz", "ab" * 15, "AB" * 16, "ab" * 33):
            assert (await asyncio.to_thread(ask, receiver, "GET", f"/v1/time?nonce={nonce}"))[0] == 400
        status, answer, _ = await asyncio.to_thread(ask, receiver, "GET", f"/v1/time?nonce={'ab' * 16}")
        assert (status, answer["nonce"]) == (200, "ab" * 16)


async def test_health_answers_and_nothing_else_is_there(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        assert (await asyncio.to_thread(ask, receiver, "GET", "/v1/health"))[:2] == (200, {"ok": True})
        assert (await asyncio.to_thread(ask, receiver, "GET", "/vehicles"))[0] == 404
        assert (await asyncio.to_thread(ask, receiver, "GET", "/v1/pair"))[0] == 405


async def test_every_certificate_leaves_its_audit_entry(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        await a_vehicle(receiver, tmp_path)
        await receiver.operator.revoke(VEHICLE)
        events = [entry.event for entry in await receiver.store.transact(journal.tail, 10)]
        assert events == ["started", "enrolled", "paired", "revoked"]
        assert (await receiver.operator.audit(10)).broken_at is None
