"""Laws of admission at the database: a token is burnt once, whoever else is at it in the same moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Engine, event

from ecu.clock import SECOND_NS
from ecu.keys import MemoryKeyStore
from receiver import admission
from receiver.admission import CERTIFICATES_AT_ONCE, NotAdmitted, TooOften
from receiver.pki import Identity
from receiver.tables import schema
from tests.receiver.fleet import VEHICLE
from tests.receiver.test_pki import authority

NOW, LATER = 1_800_000_000 * SECOND_NS, 1_800_000_060 * SECOND_NS
BURN = "update enrolment set used_by = ? where used_by is null"


def a_database() -> Engine:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        schema.create_all(connection)
        admission.enrol(connection, VEHICLE, "token", NOW, LATER)
    return engine


def a_csr() -> bytes:
    return MemoryKeyStore().begin_identity().csr("x")


@pytest.mark.parametrize("statement", range(3))
def test_two_receivers_on_one_database_never_both_burn_a_token(tmp_path: Path, statement: int) -> None:
    engine, burnt_by_other, seen = a_database(), list[bool](), list[object]()

    def other_receiver(_connection: object, cursor: Any, *_: object) -> None:
        if len(seen) == statement:
            burnt_by_other.append(cursor.connection.cursor().execute(BURN, [b"other"]).rowcount == 1)
        seen.append(cursor)

    with engine.begin() as connection:
        event.listen(connection, "after_cursor_execute", other_receiver)
        admission.pair(connection, authority(tmp_path), "token", a_csr(), NOW)
        assert burnt_by_other == [False]


def test_a_token_burnt_by_another_key_or_out_of_time_pairs_nobody(tmp_path: Path) -> None:
    issuer = authority(tmp_path)
    with a_database().begin() as connection:
        with pytest.raises(NotAdmitted, match="has expired"):
            admission.pair(connection, issuer, "token", a_csr(), LATER)
        connection.exec_driver_sql(BURN, (b"other",))
        with pytest.raises(NotAdmitted, match="was used already"):
            admission.pair(connection, issuer, "token", a_csr(), NOW)


def test_a_token_is_answered_again_as_often_as_its_vehicle_may_renew(tmp_path: Path) -> None:
    issuer, csr = authority(tmp_path), a_csr()
    with a_database().begin() as connection:
        for _ in range(CERTIFICATES_AT_ONCE):
            assert admission.pair(connection, issuer, "token", csr, NOW).vehicle == VEHICLE
        with pytest.raises(TooOften):
            admission.pair(connection, issuer, "token", csr, NOW)
        # What the operator handed out anew is granted all the same.
        admission.enrol(connection, VEHICLE, "another", NOW, LATER)
        assert admission.pair(connection, issuer, "another", csr, NOW).vehicle == VEHICLE


def test_a_certificate_recorded_for_one_vehicle_admits_no_other(tmp_path: Path) -> None:
    with a_database().begin() as connection:
        issued = admission.pair(connection, authority(tmp_path), "token", a_csr(), NOW)
        before = issued.not_after_ns - 1
        assert admission.check(connection, Identity(VEHICLE, issued.serial), before) == issued.not_after_ns
        with pytest.raises(NotAdmitted, match="isn't one of this receiver's"):
            admission.check(connection, Identity("veh-002", issued.serial), before)
