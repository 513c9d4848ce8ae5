"""A rollout from its proposal to its end, over a real store and a real repository."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ecu.errors import UsageFault
from ota.manifest import BundleManifest
from receiver import admission
from receiver.rollouts.answers import SignRequest, StartRequest
from receiver.rollouts.approval import RolloutRefused, make_key, sign
from receiver.rollouts.rules import Rules
from tests.ota.drafting import installs
from tests.ota.fleet import Fleet
from tests.receiver.rollouts.rig import CARS, HOUR_NS, RULES, Rig, a_rig, digest_of


def releases(rig: Rig) -> list[BundleManifest]:
    return sorted(rig.fleet.images.releases(), key=lambda manifest: manifest.release)


async def begun(rig: Rig, rules: Rules = RULES) -> tuple[BundleManifest, list[str]]:
    """By RULES two of ten are to have it."""
    _, manifest, _ = releases(rig)
    await rig.start(manifest, rules=rules)
    await rig.approve()
    return manifest, await rig.turn()


async def test_nobody_has_anything_before_two_different_people_have_signed(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        _, manifest, _ = releases(rig)
        line = await rig.start(manifest)
        assert line.state == "proposed"
        for _ in range(2):
            assert not (await rig.signed("approve", "anna")).happened
            await rig.desk.settle()
            assert rig.listed() == {}
        assert (await rig.signed("approve", "ben")).happened
        await rig.desk.settle()
        first = (await rig.turn())[:2]
        assert rig.listed() == dict.fromkeys(first, (manifest.target,))
        assert rig.hinted == first
        assert (await rig.events()).count("rollout_signed") == 2


async def test_one_key_under_two_names_is_one_person(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        for ending in ("pem", "pub"):
            (tmp_path / f"people/otto.{ending}").write_bytes((tmp_path / f"people/anna.{ending}").read_bytes())
        (tmp_path / "people/otto.pem").chmod(0o600)
        await rig.start(releases(rig)[1])
        await rig.signed("approve", "anna")
        assert not (await rig.signed("approve", "otto")).happened


async def test_a_signature_is_for_one_act_of_one_rollout_by_one_person(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        await rig.start(releases(rig)[1])
        statement = await rig.desk.statement("r1", "approve")
        right = sign(tmp_path / "people/anna.pem", statement)
        make_key("eve", tmp_path / "elsewhere")
        forged = sign(tmp_path / "elsewhere/eve.pem", statement)
        with pytest.raises(RolloutRefused, match="isn't signed"):
            await rig.desk.sign("r1", SignRequest("approve", "ben", right.hex()))
        with pytest.raises(RolloutRefused, match="isn't signed"):
            await rig.desk.sign("r1", SignRequest("approve", "anna", forged.hex()))
        with pytest.raises(RolloutRefused, match="isn't signed"):
            await rig.desk.sign("r1", SignRequest("go-on", "anna", right.hex()))
        with pytest.raises(UsageFault, match=r"eve\.pub"):
            await rig.desk.sign("r1", SignRequest("approve", "eve", forged.hex()))
        assert not (await rig.desk.sign("r1", SignRequest("approve", "anna", right.hex()))).happened


async def test_waves_open_on_evidence_and_after_the_soak_until_all_have_it(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        manifest, turn = await begun(rig)
        for wave in (2, 5, 10):
            assert sorted(rig.fleet.director.vehicles()) == sorted(turn[:wave])
            for vehicle in turn[:wave]:
                # A copy of a report, and one of another release, count for nothing more.
                await rig.report(vehicle, manifest)
                await rig.report(vehicle, releases(rig)[0], "rolled_back")
            await rig.hours(0.5)
            assert (await rig.line()).strata[0].listed == wave
            await rig.hours(0.6)
        line = await rig.line()
        assert (line.state, line.strata[0].committed) == ("done", 10)
        assert set(rig.listed().values()) == {(manifest.target,)}


async def test_written_to_a_slot_is_no_success_and_silence_is_failure(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        manifest, turn = await begun(rig)
        rig.desk.served(turn[0], f"targets/model/{digest_of(manifest)}.drive-2.0.json")
        for what in ("staged", "shadow", "switched"):
            await rig.report(turn[0], manifest, what)
        # The other never came: nobody waits for its word.
        await rig.hours(3)
        its = (await rig.line()).strata[0]
        assert (its.exposed, its.fetched, its.committed, its.silent) == (1, 1, 0, 1)


async def test_a_vehicle_that_was_there_since_its_turn_counts_and_not_before_an_hour_of_this_receiver(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        _, turn = await begun(rig)
        rig.clock.advance(rig.clock.boot_ns() + 1)
        await rig.store.transact(admission.mark_seen, {turn[0]: rig.clock.wall_ns()})
        await rig.desk.settle()
        assert (await rig.line()).strata[0].exposed == 1
        rig.clock.advance(rig.clock.boot_ns() + int(2.5 * HOUR_NS))
        rig.reopened(rig.store)
        await rig.desk.settle()
        assert (await rig.line()).strata[0].silent == 0
        await rig.hours(1)
        assert (await rig.line()).strata[0].silent == 1


async def test_a_halt_ends_the_listing_and_gives_others_back_what_they_had(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        old, manifest, _ = releases(rig)
        for vehicle in CARS:
            rig.fleet.assign(old, vehicle=vehicle)
        assert set(rig.listed().values()) == {(old.target,)}
        _, turn = await begun(rig)
        await rig.report(turn[0], manifest)
        await rig.hours(2)
        for vehicle in turn[1:2]:
            await rig.report(vehicle, manifest)
        await rig.hours(2)
        assert (await rig.line()).step == 1
        for vehicle in turn[2:5]:
            await rig.report(vehicle, manifest, "rolled_back")
        await rig.desk.settle()
        assert (await rig.line()).state == "halted"
        listed = rig.listed()
        assert all(listed[vehicle] == () for vehicle in turn[:5]), "they hold it, or have denied it"
        assert all(listed[vehicle] == (old.target,) for vehicle in turn[5:])
        with pytest.raises(RolloutRefused, match="halted"):
            await rig.signed("resume", "anna")


async def test_a_pause_stops_the_next_wave_and_one_person_resumes(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        manifest, turn = await begun(rig)
        for vehicle in turn[:2]:
            await rig.report(vehicle, manifest)
        await rig.stop("pause")
        await rig.hours(5)
        assert sorted(rig.fleet.director.vehicles()) == sorted(turn[:2])
        assert (await rig.signed("resume", "ben")).happened
        await rig.desk.settle()
        assert sorted(rig.fleet.director.vehicles()) == sorted(turn[:5])
        await rig.stop("cancel")
        assert set(rig.listed().values()) == {()}
        assert (await rig.events())[-1] == "rollout_cancel"


async def test_a_signature_is_good_once_and_counts_for_as_long_as_its_signer_is_an_operator(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        await rig.start(releases(rig)[1])
        await rig.signed("approve", "anna")
        (tmp_path / "people/anna.pub").unlink()
        assert not (await rig.signed("approve", "ben")).happened
        assert (await rig.signed("approve", "carl")).happened
        await rig.stop("pause")
        statement = await rig.desk.statement("r1", "resume")
        asked = SignRequest("resume", "ben", sign(tmp_path / "people/ben.pem", statement).hex())
        assert (await rig.desk.sign("r1", asked)).happened
        await rig.stop("pause")
        with pytest.raises(RolloutRefused, match="isn't signed"):
            await rig.desk.sign("r1", asked)


async def test_two_people_let_a_held_one_go_on_for_one_wave(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        manifest, turn = await begun(rig)
        await rig.report(turn[0], manifest)
        await rig.report(turn[1], manifest, "rolled_back")
        await rig.hours(2)
        assert (await rig.line()).state == "held"
        assert not (await rig.signed("go-on", "ben")).happened
        await rig.hours(1)
        assert sorted(rig.fleet.director.vehicles()) == sorted(turn[:2])
        assert (await rig.signed("go-on", "carl")).happened
        await rig.desk.settle()
        line = await rig.line()
        assert (line.state, line.step) == ("running", 1)
        assert sorted(rig.fleet.director.vehicles()) == sorted(turn[:5])


async def test_the_way_back_is_a_newer_number_for_those_that_had_it(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        manifest, turn = await begun(rig)
        await rig.report(turn[0], manifest)
        await rig.stop("cancel")
        older, _, newer = releases(rig)
        with pytest.raises(RolloutRefused, match="higher"):
            await rig.start(older, "back", of="r1")
        await rig.start(newer, "back", of="r1")
        assert await rig.turn("back") == [turn[0]]


async def test_a_vehicle_is_in_one_rollout_of_a_kind_at_a_time(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        await begun(rig)
        with pytest.raises(RolloutRefused, match="takes part in r1"):
            await rig.start(releases(rig)[2], "r2")
        with pytest.raises(RolloutRefused, match="aren't of this fleet"):
            await rig.desk.start(StartRequest("r3", releases(rig)[2].target, "anna", RULES, {"stranger": "any"}))


async def test_worse_quality_than_without_halts_it(tmp_path: Path, published: Fleet) -> None:
    cars = tuple(f"car-{number:03}" for number in range(45))
    async with a_rig(tmp_path, published, cars) as rig:
        manifest = releases(rig)[1]
        await rig.start(manifest, rules=msgspec.structs.replace(RULES, false_halt=0.2))
        await rig.approve()
        turn = await rig.turn()
        for treated, control in zip(turn[:9], turn[9:18], strict=True):
            await rig.sees(control, 0.9)
            await rig.sees(treated, 1.0)  # of the release before
            await rig.report(treated, manifest)
            for _ in range(2):
                await rig.sees(treated, 0.0)  # counts once
        await rig.desk.settle()
        line = await rig.line()
        assert line.pairs == 9
        assert line.state == "halted"
        assert "quality" in line.words


async def test_assignments_are_signed_again_before_they_end(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        _, turn = await begun(rig)
        before = rig.fleet.director.assignment(turn[0])
        await rig.hours(24 * 5)
        after = rig.fleet.director.assignment(turn[0])
        assert after.targets == before.targets
        assert after.expires > before.expires


async def test_other_bytes_under_the_approved_name_are_listed_for_nobody(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        manifest = releases(rig)[1]
        await rig.start(manifest)
        folder = tmp_path / "other"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"other")
        images, keys = rig.fleet.images, rig.fleet.keys
        images.add(folder, manifest.kind, "drive", "2.0", 9, ["x86_64"])
        images.sign(manifest.kind, [keys.signer("model")])
        rig.fleet.publish()
        await rig.approve()
        assert rig.listed() == {}
        assert rig.counters.rollouts_held_up == 2


async def test_one_vehicles_damaged_folder_keeps_nobody_else_from_a_halt(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        _, turn = await begun(rig)
        stamp = rig.fleet.repo / "director" / "vehicles" / turn[0] / "timestamp.json"
        whole = stamp.read_bytes()
        stamp.write_bytes(b"{}")
        await rig.stop("cancel")
        assert rig.fleet.director.assignment(turn[1]).targets == ()
        assert (await rig.line()).waits_for_director == 1
        stamp.write_bytes(whole)
        await rig.hours(1)
        assert rig.listed() == {turn[0]: (), turn[1]: ()}


async def test_what_the_receiver_lists_a_vehicle_accepts_and_after_a_halt_wants_no_more(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        manifest, turn = await begun(rig)
        assert installs(rig.fleet, tmp_path / "car", turn[0]) == [f"{manifest.target} {manifest.release}"]
        await rig.stop("cancel")
        assert installs(rig.fleet, tmp_path / "car", turn[0]) == []
