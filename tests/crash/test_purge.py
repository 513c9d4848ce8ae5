"""A purge through every power cut its disk can have: all of it or nothing, and afterwards no byte decrypts."""

from __future__ import annotations

import contextlib

import pytest

from agent.folders import PRIVACY_FOLDER, SPOOL_FOLDER
from agent.purge import Intent, PurgeLog, Why, unwanted
from ecu.audit import Entry
from ecu.crashdisk import Call, CrashDisk, CrashState, violation
from ecu.disk import DiskFault
from ecu.keys import MemoryKeyStore
from telemetry.records import Purpose
from tests.agent.keepsakes import WAITING, Keepsakes, decrypted, files_of, keys_on, wrapped_on
from tests.crash.test_objects import Forgetful, Killed

KEYS = MemoryKeyStore()
EVERYTHING = frozenset(Purpose)
PURGED = "purged"
PLACED = frozenset({Purpose.DRIVING, Purpose.PERCEPTION})


def filled(purposes: tuple[Purpose, ...] = tuple(Purpose), disk: CrashDisk | None = None) -> CrashDisk:
    disk = disk or CrashDisk()
    Keepsakes(disk, KEYS, purposes).fill()
    return disk.after_shutdown()


def audit_of(disk: CrashDisk) -> tuple[Entry, ...]:
    log = PurgeLog(disk, Keepsakes(disk, KEYS).folders(0).clock, bytes)
    assert log.pending() is None
    audit = log.audit()
    assert audit.first_break() is None
    return audit.entries()


class Story:
    """Purges `purposes` of a filled disk; `law` looks at every disk that a power cut could leave."""

    def __init__(self, purposes: frozenset[Purpose], held: dict[Purpose, int]) -> None:
        self.purposes = purposes
        self.held = held
        self.looked = 0

    def scenario(self, disk: CrashDisk) -> None:
        Keepsakes(disk, KEYS).folders(7).purge(self.purposes, Why.ASKED)
        disk.mark(PURGED)

    def law(self, state: CrashState) -> None:
        self.looked += 1
        kept = Keepsakes(state.disk, KEYS)
        begun = kept.folders(8).settle(EVERYTHING)
        after = kept.readable(9)
        lines = audit_of(state.disk)
        for purpose in EVERYTHING - self.purposes:
            assert after[purpose] == self.held[purpose], f"{purpose.name} wasn't purged"
        gone = {purpose for purpose in self.purposes if not after[purpose]}
        if begun is not None or lines or PURGED in state.acknowledged:
            assert gone == self.purposes, "a purge that was begun isn't finished"
            assert len(lines) == 1, "said once"
        else:
            assert not gone, "erased, and nobody says so"
        assert kept.folders(10).settle(EVERYTHING) is None, "there is nothing left to do"


def held_on(disk: CrashDisk) -> dict[Purpose, int]:
    return Keepsakes(disk.after_shutdown(), KEYS).readable(1)


def look_at_all(purposes: frozenset[Purpose], there: tuple[Purpose, ...]) -> int:
    disk = filled(there)
    story = Story(purposes, held_on(disk))
    if cut := violation(story.scenario, story.law, disk):
        pytest.fail(cut)
    return story.looked


def test_no_power_cut_leaves_half_a_purge() -> None:
    # Mutations: no intent before the first key; the intent taken back before the audit's line.
    assert look_at_all(frozenset({Purpose.PERCEPTION}), (Purpose.PERCEPTION, Purpose.SAFETY)) > 80


@pytest.mark.soak
@pytest.mark.parametrize(
    "purposes", [PLACED, frozenset({Purpose.LEARNING}), EVERYTHING], ids=["two", "learning", "all"]
)
def test_no_power_cut_leaves_half_a_purge_of_anything(purposes: frozenset[Purpose]) -> None:
    assert look_at_all(purposes, tuple(Purpose)) > 90


def look_after_kill(index: int, there: tuple[Purpose, ...], purposes: frozenset[Purpose]) -> int:
    """A purge is killed at that call, and the power goes at any instant of the next start."""
    disk = filled(there)
    story = Story(purposes, held_on(disk))
    disk.fail(index, Killed())
    with contextlib.suppress(Killed):
        story.scenario(disk)
    disk.heal()

    def start(disk: CrashDisk) -> None:
        Keepsakes(disk, KEYS).folders(20).settle(EVERYTHING)
        disk.mark("started")

    if cut := violation(start, story.law, disk):
        pytest.fail(f"killed at call {index}; {cut}")
    return story.looked


def calls_of_a_purge(there: tuple[Purpose, ...], purposes: frozenset[Purpose]) -> list[Call]:
    whole = filled(there)
    begun = len(whole.calls)
    Story(purposes, {}).scenario(whole)
    return whole.calls[begun:]


def test_a_line_that_a_killed_process_left_in_memory_is_durable_before_the_intent_goes() -> None:
    # Mutation: believing a line that was found.
    there, purposes = (Purpose.SAFETY,), frozenset({Purpose.SAFETY})
    (call,) = [call for call in calls_of_a_purge(there, purposes) if (call.act, call.path) == ("sync", "privacy/audit")]
    assert look_after_kill(call.index, there, purposes) > 20


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_kill_at_any_call_and_a_power_cut_at_any_of_the_next_start_leave_no_half_a_purge() -> None:
    there = tuple(Purpose)
    calls = calls_of_a_purge(there, EVERYTHING)
    assert sum(look_after_kill(call.index, there, EVERYTHING) for call in calls) > 10_000


@pytest.mark.parametrize("kind", ["keys", "purge", "audit"])
def test_a_disk_that_forgets_one_kind_of_file_is_noticed(kind: str) -> None:
    there = (Purpose.PERCEPTION, Purpose.SAFETY)
    whole = filled(there)
    forgetful = Forgetful(kind)
    Keepsakes(forgetful, KEYS, there).fill()
    story = Story(frozenset({Purpose.PERCEPTION}), held_on(whole))
    assert violation(story.scenario, story.law, forgetful) is not None


def test_a_kill_at_any_call_is_finished_by_the_next_start() -> None:
    there = (Purpose.PERCEPTION, Purpose.SAFETY)
    whole = filled(there)
    before = len(whole.calls)
    Story(frozenset({Purpose.PERCEPTION}), {}).scenario(whole)
    for index in range(before, len(whole.calls), 3):
        disk = filled(there)
        story = Story(frozenset({Purpose.PERCEPTION}), held_on(disk))
        disk.fail(index, Killed())
        with contextlib.suppress(Killed):
            story.scenario(disk)
        disk.heal()
        began = PurgeLog(disk, Keepsakes(disk).folders(0).clock, bytes).pending() is not None
        kept = Keepsakes(disk, KEYS)
        told = kept.folders(11).settle(EVERYTHING)
        assert (told is not None) == began
        if told is not None:
            assert (told.records, told.pictures) == (1, 1), "what was taken before the kill counts, too"
        assert kept.readable(12)[Purpose.PERCEPTION] == (0 if began or audit_of(disk) else 2)


def test_flash_that_refuses_leaves_the_intent_and_the_next_one_takes_it_along() -> None:
    disk = filled()
    kept = Keepsakes(disk, KEYS)

    def shredding(call: Call) -> bool:
        return call.path.startswith(f"{SPOOL_FOLDER}/keys") and disk.exists(f"{PRIVACY_FOLDER}/purge.0")

    disk.fail(lambda call: call.act == "write_at" and shredding(call), DiskFault("worn"))
    with pytest.raises(DiskFault):
        kept.folders(2).purge({Purpose.DRIVING}, Why.ASKED)
    disk.heal()
    purged = kept.folders(3).purge({Purpose.SAFETY}, Why.ASKED)
    assert purged.purposes == ("safety", "driving")
    assert purged.records == 2
    assert len(audit_of(disk)) == 1


# --- what is left ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purposes", [*({purpose} for purpose in Purpose), EVERYTHING], ids=str)
def test_after_a_purge_no_byte_that_survives_decrypts(purposes: set[Purpose]) -> None:
    # Mutation: Vault.shred writing one twin; leaving out the objects, the examples or the book.
    disk = filled()
    before, keys_before = dict(files_of(disk)), keys_on(disk, KEYS)
    wrapped = wrapped_on(disk, KEYS, frozenset(purposes))
    everything = decrypted(before, keys_before)
    assert everything >= len(Purpose) + 2, "the thief can read all before"
    kept = Keepsakes(disk, KEYS)
    kept.folders(5).purge(purposes, Why.ASKED)
    after, keys_after = dict(files_of(disk)), keys_on(disk, KEYS)
    assert {purpose for _, purpose, _ in keys_after}.isdisjoint(purposes)
    doomed = [key for key in keys_before if key[1] in purposes]
    rest = [key for key in keys_before if key[1] not in purposes]
    assert decrypted(before, keys_after) == decrypted(before, rest) < everything, "even what was copied before"
    assert decrypted(after, [*keys_after, *keys_before]) >= decrypted(after, keys_after)
    for path, data in after.items():
        for sealed in wrapped:
            assert sealed not in data, f"a sealed key is still in {path}"
        for _, _, key in doomed:
            assert key not in data
        if Purpose.LEARNING in purposes:
            assert WAITING not in data
    if purposes == EVERYTHING:
        assert keys_after == []
        assert decrypted(after, keys_after) == 0


def test_the_thief_notices_a_key_that_stayed_in_one_twin() -> None:
    disk = filled()
    wrapped = wrapped_on(disk, KEYS, frozenset({Purpose.DRIVING}))
    stale = disk.read(f"{SPOOL_FOLDER}/keys.1")
    Keepsakes(disk, KEYS).folders(5).purge({Purpose.DRIVING}, Why.ASKED)
    disk.write_at(f"{SPOOL_FOLDER}/keys.1", 0, stale)
    assert any(sealed in data for _, data in files_of(disk) for sealed in wrapped)


def test_a_purge_says_what_it_took_and_proves_it_and_again_it_takes_nothing() -> None:
    disk = filled()
    kept = Keepsakes(disk, KEYS)
    first = kept.folders(2).purge(EVERYTHING, Why.ASKED)
    assert (first.records, first.pictures, first.examples) == (len(Purpose), 1, 1)
    assert first.keys_before.keys() == first.keys_after.keys() == {"spool", "objects", "examples"}
    assert set(first.keys_before.values()).isdisjoint(first.keys_after.values())
    second = kept.folders(3).purge(EVERYTHING, Why.ASKED)
    assert (second.records, second.pictures, second.examples) == (0, 0, 0)
    assert second.name != first.name
    lines = audit_of(disk)
    assert [first.name in line.detail for line in lines] == [True, False]
    assert all(digest in lines[0].detail for digest in (*first.keys_before.values(), *first.keys_after.values()))


@pytest.mark.parametrize("purpose", Purpose)
def test_consent_taken_back_erases_whatever_lies_there_for_it_and_nothing_else(purpose: Purpose) -> None:
    disk = filled()
    held = held_on(disk)
    kept = Keepsakes(disk, KEYS)
    assert kept.folders(2).settle(EVERYTHING) is None
    consents = EVERYTHING - {purpose}
    assert unwanted(disk, KEYS, consents) == {purpose}
    told = kept.folders(3).settle(consents)
    assert told is not None
    assert (told.purposes, told.why) == ((purpose.name.lower(),), "no_consent")
    assert kept.readable(4) == {**held, purpose: 0}
    assert kept.folders(5).settle(consents) is None


def test_an_empty_state_has_nothing_to_purge_and_is_told_so() -> None:
    disk = CrashDisk()
    purged = Keepsakes(disk, KEYS).folders(1).purge(EVERYTHING, Why.ASKED)
    assert (purged.records, purged.pictures, purged.examples, purged.keys_after) == (0, 0, 0, {})


def test_an_intent_that_nobody_can_read_any_more_is_taken_for_all_there_is() -> None:
    disk = filled()
    kept = Keepsakes(disk, KEYS)
    log = PurgeLog(disk, kept.folders(0).clock, bytes)
    intent = log.begin({Purpose.DRIVING}, Why.ASKED, kept.folders(1)._held(None, None))
    assert isinstance(intent, Intent)
    for twin in ("purge.0", "purge.1"):
        disk.flip_bit(f"{PRIVACY_FOLDER}/{twin}", 8 * 30)
    told = kept.folders(2).settle(EVERYTHING)
    assert told is not None
    assert set(told.purposes) == {purpose.name.lower() for purpose in Purpose}
    assert set(kept.readable(3).values()) == {0}
    assert kept.folders(4).settle(EVERYTHING) is None
