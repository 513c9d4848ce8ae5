"""Laws of the decision when a certificate is renewed, and when that is taken back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.renewal import TIME_FLOOR_WALL_NS, Renewal, due
from ecu.clock import SECOND_NS, SteppingClock
from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from receiver.pki import Authority

DAY_NS = 86_400 * SECOND_NS
TODAY_NS = 1_800_000_000 * SECOND_NS
days = st.floats(-30, 60, allow_nan=False).map(lambda day: TODAY_NS + int(day * DAY_NS))


@pytest.fixture(scope="module")
def twelve_days(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A certificate from today on."""
    return certificate(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def before_it(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The certificate before: eight days older."""
    return certificate(tmp_path_factory.mktemp("authority"), TODAY_NS - 8 * DAY_NS)


def certificate(folder: Path, from_ns: int = TODAY_NS) -> bytes:
    keys, disk = MemoryKeyStore(), RealDisk(folder)
    authority = Authority(disk, SteppingClock(wall_ns=from_ns), vehicle_days=12.0)
    return authority.issue(keys.begin_identity().csr("veh-001"), "veh-001").pem


@given(wall_ns=days)
def test_where_the_link_doesnt_tell_the_receiver_is_asked_until_it_answers(
    twelve_days: bytes, before_it: bytes, wall_ns: int
) -> None:
    assert due(twelve_days, before_it, False, wall_ns, link_tells=False) is Renewal.PROVE
    for refused in (False, True):
        alone = due(twelve_days, None, refused, wall_ns)
        assert due(twelve_days, None, refused, wall_ns, link_tells=False) is alone
    assert due(twelve_days, before_it, True, wall_ns, link_tells=False) is due(twelve_days, before_it, True, wall_ns)


def test_renewal_falls_due_after_two_thirds_of_the_certificates_life(twelve_days: bytes) -> None:
    assert due(twelve_days, None, False, TODAY_NS + 7 * DAY_NS) is Renewal.NONE
    assert due(twelve_days, None, False, TODAY_NS + 9 * DAY_NS) is Renewal.RENEW
    assert due(twelve_days, None, True, TODAY_NS + 20 * DAY_NS) is Renewal.RENEW


@given(wall_ns=days)
def test_a_renewal_that_hasnt_connected_yet_is_neither_repeated_nor_taken_back_unless_refused(
    twelve_days: bytes, before_it: bytes, wall_ns: int
) -> None:
    assert due(twelve_days, before_it, False, wall_ns) is Renewal.NONE


@given(wall_ns=days)
@example(wall_ns=TODAY_NS + 4 * DAY_NS - 1)
@example(wall_ns=TODAY_NS + 4 * DAY_NS)
def test_a_refused_renewal_is_taken_back_only_while_the_one_before_still_holds(
    twelve_days: bytes, before_it: bytes, wall_ns: int
) -> None:
    decided = due(twelve_days, before_it, True, wall_ns)
    assert decided is (Renewal.REVERT if wall_ns < TODAY_NS + 4 * DAY_NS else Renewal.NONE)


@given(wall_ns=st.integers(0, TIME_FLOOR_WALL_NS - 1))
@example(wall_ns=TIME_FLOOR_WALL_NS - 1)
def test_nothing_is_decided_by_a_clock_that_lies_before_this_software(
    twelve_days: bytes, before_it: bytes, wall_ns: int
) -> None:
    assert due(twelve_days, before_it, True, wall_ns) is Renewal.NONE


def test_at_the_floor_a_clock_is_believed(twelve_days: bytes, before_it: bytes) -> None:
    assert due(twelve_days, before_it, True, TIME_FLOOR_WALL_NS) is Renewal.REVERT


def test_without_a_certificate_there_is_nothing_to_renew() -> None:
    assert due(None, None, False, TODAY_NS) is Renewal.NONE
