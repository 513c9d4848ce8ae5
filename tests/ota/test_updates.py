"""All that is signed on one vehicle: what a refusal leaves behind, and what is never tried twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ecu.crashdisk import Call, CrashDisk, CrashState, violation
from ecu.disk import DiskError, DiskFault, DiskFull, DiskStarved, RealDisk
from ecu.twin import TwinRecord
from ota.audit import Audit
from ota.errors import Attack, DoesNotFit, NoRoomForUpdate, TrustError
from ota.facts import Peer, Runtime
from ota.fitness import Host
from ota.floors import Floors, FloorsLost
from ota.kinds import Kind
from ota.machine import Event, State
from ota.manifest import BLOCK_BYTES
from ota.runtime import FACTS_NAME, RuntimeFacts, write_facts
from ota.slots import BootRecord, Slot, Slots
from ota.trust import Vehicle
from ota.updates import TAKEN, Notice, Updates
from tests.ota.changed import Changed
from tests.ota.fleet import CAR, HARDWARE, Fleet


def opened(fleet: Fleet, state: Path | CrashDisk, notices: list[Notice]) -> Updates:
    if isinstance(state, Path):
        state.mkdir(exist_ok=True)
    disk = RealDisk(state) if isinstance(state, Path) else state
    updates = Updates(disk, fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, notices.append)
    updates.begin()
    return updates


def install(fleet: Fleet, updates: Updates, *events: Event) -> None:
    for offer in updates.check(fleet.source()):
        updates.install(fleet.source(), offer, lambda progress: None)
    for event in events:
        updates.handle(Kind.MODEL, event, "")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


KEPT = (Event.LOADED, Event.PASSED, Event.PROVEN)


def test_a_release_below_what_was_kept_is_refused_with_its_numbers_and_changes_only_the_audit(
    fleet: Fleet, state: Path
) -> None:
    notices: list[Notice] = []
    older, newer = fleet.release("1.0", 3), fleet.release("2.0", 5)
    fleet.assign(newer)
    updates = opened(fleet, state, notices)
    install(fleet, updates, *KEPT)
    fleet.assign(older)
    before = contents(state)
    for _ in range(2):
        with pytest.raises(TrustError, match="rollback: offered release 3, installed 5") as refusal:
            updates.check(fleet.source())
        assert refusal.value.attack is Attack.ROLLBACK
    after = contents(state)
    assert {name for name in after if after[name] != before.get(name)} == {"audit"}
    assert [notice.attack for notice in notices if notice.what == "refused"] == [Attack.ROLLBACK], "told once"


def test_a_bundle_with_one_flipped_byte_leaves_nothing_of_itself_and_is_taken_once_it_is_right(
    fleet: Fleet, state: Path
) -> None:
    content = Random(7).randbytes(2 * BLOCK_BYTES + 5)

    def flipped(path: str, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if path.startswith("files/") else data

    fleet.assign(fleet.release("1.0", 1, content))
    updates = opened(fleet, state, [])
    (offer,) = updates.check(fleet.source())
    before = contents(state)
    with pytest.raises(TrustError, match="tampered: block 2 of"):
        updates.install(Changed(fleet.source(), flipped), offer, lambda progress: None)
    assert {name for name, data in contents(state).items() if data != before.get(name)} == {"audit"}
    step = updates.install(fleet.source(), offer, lambda progress: None)
    assert step is not None
    assert step.state is State.STAGED


def test_what_was_found_worse_is_never_offered_again_also_after_a_restart(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    updates = opened(fleet, state, [])
    install(fleet, updates, Event.LOADED, Event.FAILED)
    assert updates.check(fleet.source()) == ()
    assert opened(fleet, state, []).check(fleet.source()) == ()


def test_what_decided_nothing_is_tried_again_after_the_next_start_and_not_before(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    updates = opened(fleet, state, [])
    install(fleet, updates, Event.LOADED, Event.UNDECIDED)
    assert updates.check(fleet.source()) == ()
    assert len(opened(fleet, state, []).check(fleet.source())) == 1


def test_a_labelled_set_comes_before_the_model_that_it_judges_and_is_taken_at_once(fleet: Fleet, state: Path) -> None:
    fleet.assign(fleet.release("1.0", 1), fleet.release("1.0", 1, kind=Kind.EVALUATION))
    updates = opened(fleet, state, [])
    offers = updates.check(fleet.source())
    assert [offer.kind for offer in offers] == [Kind.EVALUATION, Kind.MODEL]
    install(fleet, updates)
    told = {status.kind: status for status in updates.status()}
    model, evaluation = told[Kind.MODEL], told[Kind.EVALUATION]
    assert evaluation.good is not None
    assert model.trial is not None
    floors = Floors(RealDisk(state))
    assert (floors.release(Kind.EVALUATION), floors.release(Kind.MODEL)) == (1, 0)


def test_a_start_that_changes_nothing_about_a_trial_tells_nothing(fleet: Fleet) -> None:
    fleet.assign(fleet.release("1.0", 1))
    disk = CrashDisk()
    notices: list[Notice] = []
    install(fleet, opened(fleet, disk, []))
    updates = opened(fleet, disk, notices)
    assert notices == []
    # Back from further on is told.
    updates.handle(Kind.MODEL, Event.LOADED, "")
    opened(fleet, disk, notices)
    assert [notice.what for notice in notices] == ["shadow", "staged"]


def test_what_the_fleet_still_wants_is_known_from_the_start_and_anew_after_each_look(fleet: Fleet) -> None:
    fleet.assign(fleet.release("1.0", 1))
    disk = CrashDisk()
    install(fleet, opened(fleet, disk, []))
    updates = opened(fleet, disk, [])
    assert updates.is_trial_wanted
    assert updates.check(fleet.source()) == ()
    assert updates.is_trial_wanted
    fleet.assign()
    assert updates.check(fleet.source()) == ()
    assert not updates.is_trial_wanted


def test_while_one_is_tried_no_other_is_offered_and_the_last_answer_stands(fleet: Fleet) -> None:
    fleet.assign(fleet.release("1.0", 1))
    updates = opened(fleet, CrashDisk(), [])
    install(fleet, updates, Event.LOADED)
    fleet.assign(fleet.release("2.0", 2))
    assert updates.check(fleet.source()) == ()
    updates.handle(Kind.MODEL, Event.CANCELLED, "")
    assert [offer.release for offer in updates.check(fleet.source())] == [2]


def test_the_same_refusal_is_told_again_after_a_look_that_held(fleet: Fleet) -> None:
    fleet.assign(fleet.release("1.0", 1))
    notices: list[Notice] = []
    updates = opened(fleet, CrashDisk(), notices)
    for _ in range(2):
        with pytest.raises(TrustError):
            updates.check(Changed(fleet.source(), lambda path, data: b"{}"))
        updates.check(fleet.source())
    assert [notice.what for notice in notices] == ["refused", "refused"]


# --- damage -----------------------------------------------------------------------------------------


def with_two_kept(fleet: Fleet, kind: Kind = Kind.MODEL) -> CrashDisk:
    """Release 1 in slot a, and release 2, the good one, in slot b."""
    disk = CrashDisk()
    for release in (1, 2):
        fleet.assign(fleet.release(f"{release}.0", release, bytes([release]) * 5_000, kind=kind))
        install(fleet, opened(fleet, disk, []), *(KEPT if kind is Kind.MODEL else ()))
    return disk


def good_release(updates: Updates, kind: Kind) -> int | None:
    return next(status.good.release if status.good else None for status in updates.status() if status.kind is kind)


@pytest.mark.parametrize("kind", [Kind.MODEL, Kind.EVALUATION])
def test_what_was_kept_and_then_damaged_is_told_of_and_comes_again(fleet: Fleet, kind: Kind) -> None:
    disk = with_two_kept(fleet, kind)
    disk.flip_bit(f"{kind}/b/files/model.onnx", 8)
    notices: list[Notice] = []
    updates = opened(fleet, disk, notices)
    assert good_release(updates, kind) == 1
    ((what, told_kind, release, words),) = [(n.what, n.kind, n.release, n.words) for n in notices]
    assert (what, told_kind) == ("damaged", kind)
    assert release is not None
    assert release.release == 2
    assert "model.onnx in slot b" in words
    assert "slot a takes its place" in words.lower()
    # The very release below which nothing is taken: what is missing of it is fetched, and it is kept again.
    install(fleet, updates, *(KEPT if kind is Kind.MODEL else ()))
    assert good_release(updates, kind) == 2
    notices.clear()
    assert opened(fleet, disk, notices).check(fleet.source()) == ()
    assert notices == []


def test_a_boot_record_that_is_lost_is_told_of_and_what_it_named_comes_again(fleet: Fleet) -> None:
    disk = with_two_kept(fleet)
    for twin in (0, 1):
        disk.flip_bit(f"model/boot.{twin}", 200)
    notices: list[Notice] = []
    updates = opened(fleet, disk, notices)
    assert good_release(updates, Kind.MODEL) is None
    assert [(notice.what, notice.release, notice.words) for notice in notices] == [
        ("damaged", None, "both boot records were damaged")
    ]
    install(fleet, updates, *KEPT)
    assert not updates.slots(Kind.MODEL).lost
    assert good_release(opened(fleet, disk, []), Kind.MODEL) == 2


def test_another_release_with_the_number_of_the_kept_one_is_a_rollback(fleet: Fleet, tmp_path: Path) -> None:
    disk = CrashDisk()
    fleet.assign(fleet.release("1.0", 1))
    other = fleet.copy(tmp_path / "other")
    fleet.assign(fleet.release("2.0", 2))
    updates = opened(fleet, disk, [])
    install(fleet, updates, *KEPT)
    twin = other.release("2.1", 2, b"other weights")
    other.release("3.0", 3)
    for _ in range(3):
        other.assign(twin)
    with pytest.raises(TrustError, match="offered release 2, installed 2"):
        updates.check(other.source())


BLOCKED = ("model/b/files/model.onnx", "model/b/bundle.json", "audit", "denied")


@pytest.mark.parametrize("path", BLOCKED)
def test_a_file_that_cant_be_read_keeps_no_start_from_an_allowed_slot(fleet: Fleet, path: str) -> None:
    disk = with_two_kept(fleet)
    fleet.assign(fleet.release("3.0", 3))
    install(fleet, opened(fleet, disk, []), Event.LOADED, Event.FAILED)
    fleet.assign(fleet.release("4.0", 4))
    install(fleet, opened(fleet, disk, []), Event.LOADED)
    disk.fail(lambda call: call.act in ("read", "read_at") and call.path == path, DiskFault("bad sector"))
    updates = Updates(disk, fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, lambda notice: None)
    slot, step = updates.begin()[Kind.MODEL]
    assert slot is (Slot.FACTORY if path.startswith("model/b") else Slot.B)
    assert step is not None
    assert step.state is State.STAGED


@pytest.mark.parametrize("path", ["model/b/files/model.onnx", "model/b/bundle.json"])
def test_a_folder_where_a_file_was_is_damage_too(fleet: Fleet, path: str) -> None:
    disk = with_two_kept(fleet)
    disk.remove(path)
    disk.make_folder(path)
    assert good_release(opened(fleet, disk, []), Kind.MODEL) == 1


def test_an_audit_that_cant_be_read_is_put_aside_and_goes_on(fleet: Fleet) -> None:
    disk = with_two_kept(fleet)
    disk.fail(lambda call: call.act == "read" and call.path == "audit", DiskFault("bad sector"))
    updates = opened(fleet, disk, [])
    updates.audit().add("update_refused", "later")
    disk.heal()
    assert [entry.detail for entry in Audit(disk, fleet.clock, CAR).entries()] == ["later"]
    assert disk.exists("audit.old")


def test_what_cant_be_told_from_a_denied_release_is_not_installed(fleet: Fleet) -> None:
    disk = with_two_kept(fleet)
    fleet.assign(fleet.release("3.0", 3))
    install(fleet, opened(fleet, disk, []), Event.LOADED, Event.FAILED)
    disk.fail(lambda call: call.act == "read" and call.path == "denied", DiskFault("bad sector"))
    with pytest.raises(DiskFault):
        opened(fleet, disk, []).check(fleet.source())


def test_lost_floors_refuse_releases_and_no_start(fleet: Fleet) -> None:
    disk = with_two_kept(fleet)
    fleet.assign(fleet.release("3.0", 3))
    updates = opened(fleet, disk, [])
    install(fleet, updates, Event.LOADED, Event.PASSED)
    for twin in (0, 1):
        disk.flip_bit(f"floors.release.{twin}", 200)
    assert good_release(opened(fleet, disk, []), Kind.MODEL) == 2
    updates = opened(fleet, disk, [])
    updates.handle(Kind.MODEL, Event.LOADED, "")
    updates.handle(Kind.MODEL, Event.PASSED, "")
    assert updates.handle(Kind.MODEL, Event.PROVEN, "").state is State.COMMITTED
    fleet.assign(fleet.release("4.0", 4))
    with pytest.raises(FloorsLost):
        updates.check(fleet.source())


def test_a_trial_whose_bytes_changed_on_flash_isnt_begun_again_and_denies_nothing(fleet: Fleet) -> None:
    disk = with_two_kept(fleet)
    fleet.assign(fleet.release("3.0", 3))
    install(fleet, opened(fleet, disk, []), Event.LOADED)
    disk.flip_bit("model/a/files/model.onnx", 8)
    notices: list[Notice] = []
    updates = opened(fleet, disk, notices)
    assert [notice.what for notice in notices] == ["inconclusive"]
    assert "model.onnx in slot a" in notices[0].words
    install(fleet, updates, *KEPT)
    assert good_release(updates, Kind.MODEL) == 3


@pytest.mark.parametrize("kind", [Kind.MODEL, *TAKEN])
def test_a_start_reads_each_kept_release_once_and_tells_of_its_damage_once(fleet: Fleet, kind: Kind) -> None:
    disk = with_two_kept(fleet, kind)
    path = f"{kind}/b/files/model.onnx"
    before = len(disk.calls)
    opened(fleet, disk, [])
    reads = [call for call in disk.calls[before:] if call.act == "read_at" and call.path == path]
    assert len(reads) == 2, "what it holds, and its end"
    disk.flip_bit(path, 8)
    notices: list[Notice] = []
    opened(fleet, disk, notices)
    assert [(notice.what, notice.kind) for notice in notices] == [("damaged", kind)]


def test_a_set_that_was_taken_when_the_power_went_is_its_floor_at_the_next_start(fleet: Fleet) -> None:
    disk = with_two_kept(fleet, Kind.EVALUATION)
    for twin in (0, 1):
        disk.remove(f"floors.release.{twin}")
    opened(fleet, disk, [])
    assert Floors(disk).release(Kind.EVALUATION) == 2


# --- a full disk ------------------------------------------------------------------------------------


def test_on_a_full_disk_a_trial_is_left_and_the_good_slot_boots_and_the_audit_follows(fleet: Fleet) -> None:
    disk = with_two_kept(fleet)
    fleet.assign(fleet.release("3.0", 3))
    install(fleet, opened(fleet, disk, []), Event.LOADED, Event.PASSED)
    disk.fail(lambda call: call.path.startswith("audit") and call.act in ("create", "write_at"), DiskFull("no space"))
    notices: list[Notice] = []
    fleet.pass_days(1)
    happened_ns = fleet.clock.wall_ns()
    updates = Updates(disk, fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, notices.append)
    assert updates.begin()[Kind.MODEL][0] is Slot.B
    assert updates.handle(Kind.MODEL, Event.CANCELLED, "").effects
    assert [notice.what for notice in notices] == ["staged", "inconclusive"]
    disk.heal()
    fleet.pass_days(1)
    fleet.assign(fleet.release("4.0", 4))
    install(fleet, updates)
    audit = Audit(disk, fleet.clock, CAR)
    assert [entry.event for entry in audit.entries()][-3:] == ["update_staged", "update_inconclusive", "update_staged"]
    assert [entry.wall_ns for entry in audit.entries()][-3:-1] == [happened_ns] * 2
    assert audit.first_break() is None


def test_on_a_full_disk_what_is_found_worse_is_denied_all_the_same(fleet: Fleet) -> None:
    disk = with_two_kept(fleet)
    fleet.assign(fleet.release("3.0", 3))
    updates = opened(fleet, disk, [])
    install(fleet, updates, Event.LOADED)

    def takes_space(call: Call) -> bool:
        return call.act == "create" or (call.act == "write_at" and call.path == "audit")

    size = disk.size("denied")
    disk.fail(takes_space, DiskFull("no space"))
    assert updates.handle(Kind.MODEL, Event.FAILED, "worse").state is State.ROLLED_BACK
    assert disk.size("denied") == size
    assert updates.check(fleet.source()) == ()


def test_on_a_full_disk_the_first_release_is_kept_all_the_same(fleet: Fleet) -> None:
    fleet.assign(fleet.release("1.0", 1))
    disk = CrashDisk()
    updates = opened(fleet, disk, [])
    install(fleet, updates, Event.LOADED, Event.PASSED)
    disk.fail(lambda call: call.act == "create" or call.path == "audit", DiskFull("no space"))
    updates.handle(Kind.MODEL, Event.PROVEN, "")
    assert Floors(disk).release(Kind.MODEL) == 1


@pytest.mark.parametrize("error", [DiskFull("no space"), DiskFault("worn")])
def test_a_floor_that_cant_be_raised_now_keeps_no_start_and_nothing_older_is_taken(
    fleet: Fleet, error: DiskError, tmp_path: Path
) -> None:
    disk = CrashDisk()
    fleet.assign(oldest := fleet.release("1.0", 1))
    other = fleet.copy(tmp_path / "other")
    fleet.assign(fleet.release("2.0", 2))
    install(fleet, opened(fleet, disk, []), *KEPT)
    for twin in (0, 1):
        disk.remove(f"floors.release.{twin}")
    disk.fail(lambda call: call.act in ("create", "write_at") and call.path.startswith("floors.release"), error)
    updates = opened(fleet, disk, [])
    assert good_release(updates, Kind.MODEL) == 2
    other.release("3.0", 3)
    for _ in range(3):
        other.assign(oldest)
    with pytest.raises(TrustError, match="offered release 1, installed"):
        updates.check(other.source())


def test_a_trial_that_couldnt_be_denied_isnt_begun(fleet: Fleet) -> None:
    disk = with_two_kept(fleet)
    fleet.assign(fleet.release("3.0", 3))
    updates = opened(fleet, disk, [])
    disk.fail(lambda call: call.path == "denied", DiskFull("no space"))
    with pytest.raises(DiskFull):
        install(fleet, updates)
    disk.heal()
    assert good_release(opened(fleet, disk, []), Kind.MODEL) == 2
    install(fleet, updates, *KEPT)
    assert good_release(updates, Kind.MODEL) == 3


def test_a_refusal_that_found_no_room_in_the_audit_is_still_a_refusal(fleet: Fleet) -> None:
    fleet.assign(fleet.release("1.0", 1), vehicle="car-2")
    disk = CrashDisk()
    notices: list[Notice] = []
    updates = opened(fleet, disk, notices)
    disk.fail(lambda call: call.path == "audit", DiskFull("no space"))
    for _ in range(2):
        with pytest.raises(TrustError, match="wrong-vehicle"):
            updates.check(fleet.source("car-2"))
    assert [notice.what for notice in notices] == ["refused"]


def test_a_disk_that_is_full_before_a_release_is_whole_gives_its_space_back(fleet: Fleet) -> None:
    disk = with_two_kept(fleet)
    fleet.assign(fleet.release("3.0", 3))
    updates = opened(fleet, disk, [])
    disk.fail(lambda call: call.act == "create" and "bundle.json" in call.path, DiskFull("no space"))
    with pytest.raises(NoRoomForUpdate, match="the installed release goes on"):
        install(fleet, updates)
    assert disk.names("model/a/files") == []
    disk.heal()
    install(fleet, updates, *KEPT)
    assert good_release(updates, Kind.MODEL) == 3


def test_words_of_a_trial_are_short_and_printable_wherever_they_go(fleet: Fleet) -> None:
    fleet.assign(fleet.release("1.0", 1))
    disk = CrashDisk()
    notices: list[Notice] = []
    updates = opened(fleet, disk, notices)
    install(fleet, updates)
    updates.handle(Kind.MODEL, Event.UNFIT, "\x1b[2J" + "x" * 100_000)
    assert notices[-1].words.isprintable()
    assert len(notices[-1].words) <= 400
    assert disk.size("audit") < 5_000


class Signs:
    """An identity whose signature nobody looks at here."""

    def sign(self, message: bytes) -> bytes:
        return b"signed"


class Short(RealDisk):
    """Of descriptors, from some time on, for what lies in a slot."""

    is_short = False

    def read(self, path: str) -> bytes:
        if self.is_short and path.endswith("bundle.json"):
            raise DiskStarved("Can't read: too many open files.")
        return super().read(path)


@pytest.mark.parametrize("trouble", ["starved", "folder"])
def test_a_step_is_told_though_what_lies_in_a_slot_cant_be_read_now(fleet: Fleet, state: Path, trouble: str) -> None:
    state.mkdir()
    disk, notices = Short(state), list[Notice]()
    fleet.assign(fleet.release("1.0", 1))
    updates = Updates(disk, fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, notices.append, signer=Signs())
    updates.begin()
    install(fleet, updates, *KEPT)
    assert notices[-1].manifest
    fleet.assign(fleet.release("2.0", 2))
    install(fleet, updates, Event.LOADED)
    if trouble == "folder":
        disk.remove("model/a/bundle.json")
        disk.make_folder("model/a/bundle.json")
    disk.is_short = trouble == "starved"
    step = updates.handle(Kind.MODEL, Event.PASSED, "")
    assert step is not None
    assert notices[-1].what == step.state
    assert bool(notices[-1].manifest) is (trouble == "folder")


# --- power cuts -------------------------------------------------------------------------------------


def test_at_any_instant_of_taking_a_set_the_one_before_or_the_new_one_is_whole_and_the_floor(fleet: Fleet) -> None:
    disk = CrashDisk()
    fleet.assign(fleet.release("1.0", 1, b"first", kind=Kind.EVALUATION))
    install(fleet, opened(fleet, disk, []))
    fleet.assign(fleet.release("2.0", 2, b"second", kind=Kind.EVALUATION))

    def takes(disk: CrashDisk) -> None:
        install(fleet, opened(fleet, disk, []))
        disk.mark("taken")

    def one_of_them_is_whole(state: CrashState) -> None:
        updates = opened(fleet, state.disk, [])
        slots = updates.slots(Kind.EVALUATION)
        assert slots.damage is None
        release = good_release(updates, Kind.EVALUATION)
        assert release in ((2,) if state.acknowledged else (1, 2))
        assert Floors(state.disk).release(Kind.EVALUATION) == release
        assert updates.audit().first_break() is None

    assert violation(takes, one_of_them_is_whole, disk.after_shutdown()) is None


def test_while_one_kind_is_tried_no_release_of_another_is_offered_for_trial(fleet: Fleet, state: Path) -> None:
    model, states = (fleet.release("1.0", 1, kind=kind) for kind in (Kind.MODEL, Kind.STATE))
    fleet.assign(model)
    updates = opened(fleet, state, [])
    install(fleet, updates)
    fleet.assign(model, states, fleet.release("1.0", 1, kind=Kind.CROPS))
    assert [offer.kind for offer in updates.check(fleet.source())] == [Kind.CROPS]
    updates.handle(Kind.MODEL, Event.CANCELLED, "nobody wants it")
    assert Kind.STATE in {offer.kind for offer in updates.check(fleet.source())}


# --- what fits --------------------------------------------------------------------------------------

HOST = Host(hardware=HARDWARE, python="3.11.7", outrider="0.1.0", onnxruntime="1.23.0")


def fitted(fleet: Fleet, disk: CrashDisk, host: Host = HOST) -> Updates:
    updates = Updates(disk, fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, lambda notice: None, host)
    updates.begin()
    return updates


def keep_state(fleet: Fleet, updates: Updates, release: int, *conflicts: Peer) -> None:
    fleet.assign(fleet.release(f"{release}.0", release, kind=Kind.STATE, conflicts=conflicts))
    install(fleet, updates)
    for event in KEPT:
        updates.handle(Kind.STATE, event, "")


def test_what_nothing_here_can_run_is_left_before_any_of_it_is_fetched_and_taken_once_it_can(fleet: Fleet) -> None:
    disk = CrashDisk()
    fleet.assign(fleet.release("1.0", 1, runtime=Runtime(onnxruntime=">=1.24")))
    updates = fitted(fleet, disk)
    (offer,) = updates.check(fleet.source())
    source = Changed(fleet.source())
    with pytest.raises(DoesNotFit, match=r"needs ONNX Runtime >=1.24, here is 1.23.0"):
        updates.install(source, offer, lambda progress: None)
    assert not [path for path, _, _ in source.asked if path.startswith("files/")]
    assert updates.slots(Kind.MODEL).record == BootRecord()
    install(fleet, fitted(fleet, disk, replace(HOST, onnxruntime="1.24.1")))
    assert Slots(disk, Kind.MODEL).record.state is State.STAGED


def test_a_release_waits_for_what_it_requires(fleet: Fleet) -> None:
    disk = CrashDisk()
    state = Peer(kind=Kind.STATE, name="drive", least=2)
    model = fleet.release("1.0", 1, requires=(state,))
    updates = fitted(fleet, disk)
    for release in (1, 2):
        keep_state(fleet, updates, release)
        fleet.assign(model)
        (offer,) = updates.check(fleet.source())
        if release == 1:
            with pytest.raises(DoesNotFit, match="requires state drive"):
                updates.install(fleet.source(), offer, lambda progress: None)
        else:
            updates.install(fleet.source(), offer, lambda progress: None)


def test_nothing_takes_the_place_of_what_another_kept_release_requires_or_comes_beside_what_one_cannot_stand(
    fleet: Fleet,
) -> None:
    disk = CrashDisk()
    updates = fitted(fleet, disk)
    keep_state(fleet, updates, 1, Peer(kind=Kind.MODEL, name="drive", least=2))
    fleet.assign(fleet.release("1.0", 2))
    (offer,) = updates.check(fleet.source())
    with pytest.raises(DoesNotFit, match="can't be beside model drive"):
        updates.install(fleet.source(), offer, lambda progress: None)


# --- below what may run -----------------------------------------------------------------------------


def test_once_a_release_is_kept_nothing_below_what_it_says_runs_but_to_be_updated(fleet: Fleet) -> None:
    disk = CrashDisk()
    for release in (1, 2):
        its = fleet.release(f"{release}.0", release, bytes([release]) * 5_000, minimum_bootable=release)
        fleet.assign(its)
        install(fleet, opened(fleet, disk, []), *KEPT)
    assert opened(fleet, disk, []).below_bootable() == ""
    assert Floors(disk).bootable_from(Kind.MODEL) == 2
    disk.flip_bit("model/b/files/model.onnx", 8)
    updates = opened(fleet, disk, [])
    assert good_release(updates, Kind.MODEL) == 1
    assert "none below 2 may run" in updates.below_bootable()
    # Both boot records lost: the floors know it still.
    for number in (0, 1):
        disk.flip_bit(f"model/boot.{number}", 100)
    assert "the factory's model" in opened(fleet, disk, []).below_bootable()
    install(fleet, opened(fleet, disk, []))
    assert opened(fleet, disk, []).below_bootable() == ""


def test_a_release_under_trial_says_nothing_yet_about_what_may_run(fleet: Fleet) -> None:
    disk = CrashDisk()
    fleet.assign(fleet.release("1.0", 1, minimum_bootable=1))
    install(fleet, opened(fleet, disk, []))
    assert opened(fleet, disk, []).below_bootable() == ""
    updates = opened(fleet, disk, [])
    for event in KEPT[:-1]:
        updates.handle(Kind.MODEL, event, "")
        assert (updates.below_bootable(), Floors(disk).bootable_from(Kind.MODEL)) == ("", 0)
    updates.handle(Kind.MODEL, KEPT[-1], "")
    assert Floors(disk).bootable_from(Kind.MODEL) == 1


# --- runtimes ---------------------------------------------------------------------------------------


def with_runtimes(fleet: Fleet, disk: CrashDisk) -> None:
    """Release 1 in slot a, and release 2, the good one, in slot b."""
    for release, running in ((1, Slot.A), (2, Slot.B)):
        fleet.assign(fleet.release(f"{release}.0", release, bytes([release]) * 500, kind=Kind.RUNTIME))
        install(fleet, opened(fleet, disk, []))
        opened(fleet, disk, []).handle(Kind.RUNTIME, Event.ALLOWED, "")
        started = Updates(disk, fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, lambda notice: None)
        started.begin(running)
        started.handle(Kind.RUNTIME, Event.PROVEN, "")


def running_from(fleet: Fleet, disk: CrashDisk, slot: Slot, notices: list[Notice]) -> Updates:
    updates = Updates(disk, fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, notices.append)
    updates.begin(slot)
    return updates


def test_the_slot_that_runs_in_the_good_ones_place_is_never_written(fleet: Fleet) -> None:
    disk = CrashDisk()
    with_runtimes(fleet, disk)
    fleet.assign(fleet.release("3.0", 3, kind=Kind.RUNTIME))
    updates = running_from(fleet, disk, Slot.A, [])
    (offer,) = updates.check(fleet.source())
    before = disk.read("runtime/a/files/model.onnx")
    with pytest.raises(DoesNotFit, match="slot a is the only one for another runtime, and runs just now"):
        updates.install(fleet.source(), offer, lambda progress: None)
    assert disk.read("runtime/a/files/model.onnx") == before


def test_where_the_launcher_gave_up_the_good_runtime_the_one_that_runs_is_good_from_then_on(fleet: Fleet) -> None:
    disk, notices = CrashDisk(), list[Notice]()
    with_runtimes(fleet, disk)
    updates = running_from(fleet, disk, Slot.A, notices)
    updates.keep_running("slot a runs, since what was good can't: exit 1")
    assert Slots(disk, Kind.RUNTIME).record.good is Slot.A
    assert [(notice.what, notice.release.release) for notice in notices if notice.release] == [("damaged", 2)]
    # The same release again, and it is tried as if it had never been kept; nothing older is.
    (offer,) = updates.check(fleet.source())
    step = updates.install(fleet.source(), offer, lambda progress: None)
    assert step is not None
    assert (step.state, Slots(disk, Kind.RUNTIME).record.trial) == (State.STAGED, Slot.B)
    assert Floors(disk).release(Kind.RUNTIME) == 2


@pytest.mark.parametrize("slot", [Slot.B, Slot.FACTORY])
def test_nothing_is_given_up_by_what_is_good_itself(fleet: Fleet, slot: Slot) -> None:
    disk = CrashDisk()
    if slot is Slot.B:
        with_runtimes(fleet, disk)
    running_from(fleet, disk, slot, []).keep_running("it runs")
    assert Slots(disk, Kind.RUNTIME).record.good is slot


def test_a_runtime_for_other_libraries_is_fetched_and_never_staged(fleet: Fleet) -> None:
    facts = RuntimeFacts("cpython-311", {"numpy": "99.0"})
    fleet.assign(fleet.release("1.0", 1, kind=Kind.RUNTIME, files={FACTS_NAME: write_facts(facts)}))
    disk = CrashDisk()
    updates = Updates(
        disk, fleet.roots, Vehicle(CAR, HARDWARE), fleet.clock, lambda notice: None,
        why_unfit=lambda wanted: f"it needs {wanted.wheels}",
    )  # fmt: skip
    updates.begin()
    (offer,) = updates.check(fleet.source())
    with pytest.raises(DoesNotFit, match=r"it needs .*numpy"):
        updates.install(fleet.source(), offer, lambda progress: None)
    assert Slots(disk, Kind.RUNTIME).record == BootRecord()


def test_a_record_that_nobody_understands_is_taken_for_lost() -> None:
    disk = CrashDisk()
    disk.make_folder("model")
    TwinRecord(disk, "model/boot").write_both(b'{"good": 5}')
    slots = Slots(disk, Kind.MODEL)
    assert (slots.lost, slots.record.good) == (True, Slot.FACTORY)
    slots.write(BootRecord(words="anew"))
    assert Slots(disk, Kind.MODEL).record.words == "anew"
