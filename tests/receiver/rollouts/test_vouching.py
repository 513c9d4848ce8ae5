"""Success is what a vehicle signs to have, and its hardware what it signs to be."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ota.manifest import BundleManifest
from receiver.rollouts.answers import StartRequest
from receiver.rollouts.approval import RolloutRefused
from tests.ota.fleet import Fleet
from tests.receiver.rollouts.rig import CARS, RULES, Car, Rig, a_rig, digest_of
from tests.receiver.rollouts.test_desk import begun, releases


async def lie(rig: Rig, vehicle: str, release: BundleManifest, how: str) -> bytes:
    """A manifest that proves nothing of this release, though the report beside it says that it is kept."""
    car, digest = rig.cars[vehicle], digest_of(release)
    match how:
        case "none":
            return b""
        case "without the digest":
            car.keeps(release, "cd" * 32)
            return car.manifest()
        case "another vehicle's":
            # It has the release itself; that is another one's word.
            other = rig.cars[next(name for name in CARS if name != vehicle)]
            other.keeps(release, digest)
            return other.manifest()
        case "another vehicle's key":
            forger = Car(vehicle)
            forger.keeps(release, digest)
            return forger.manifest()
        case "replayed":
            car.keeps(release, digest)
            old = car.manifest()
            car.holds.clear()
            await rig.report(vehicle, releases(rig)[0], "rolled_back", car.manifest())
            return old
        case _:
            return b"\xc1 is no MessagePack"


LIES = ["none", "without the digest", "another vehicle's", "another vehicle's key", "replayed", "nonsense"]


async def test_what_a_vehicle_doesnt_sign_to_have_it_hasnt_and_becomes_silence(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        release, turn = await begun(rig, msgspec.structs.replace(RULES, waves=(100.0,), first_percent=100.0))
        liars = dict(zip(LIES, turn, strict=False))
        for how, vehicle in liars.items():
            rig.desk.served(vehicle, f"targets/model/{digest_of(release)}.drive-2.0.json")
            await rig.report(vehicle, release, "committed", await lie(rig, vehicle, release, how))
        await rig.report(turn[-1], release)
        await rig.hours(0)
        its = (await rig.line()).strata[0]
        assert (its.exposed, its.committed, its.failed) == (len(LIES) + 1, 1, 0)
        assert rig.counters.rollout_reports_unproven == len(LIES)
        await rig.hours(3)
        assert (await rig.line()).strata[0].silent == len(LIES)


async def test_a_manifest_that_is_right_doesnt_vouch_for_a_report_with_another_one(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        release, turn = await begun(rig, msgspec.structs.replace(RULES, waves=(100.0,), first_percent=100.0))
        one, other = rig.cars[turn[0]], rig.cars[turn[1]]
        before, forger = one.manifest(), Car(turn[0])
        for car in (one, other, forger):
            car.keeps(release, digest_of(release))
        await rig.report(turn[0], release, "shadow")  # its newest manifest has the release
        for wrong in (before, other.manifest(), forger.manifest()):
            await rig.report(turn[0], release, "committed", wrong)
        await rig.hours(0)
        assert (await rig.line()).strata[0].committed == 0
        assert rig.counters.rollout_reports_unproven == 3
        await rig.report(turn[0], release)
        await rig.hours(0)
        assert (await rig.line()).strata[0].committed == 1


# --- hardware -------------------------------------------------------------------------------------


async def says(rig: Rig, vehicle: str, hardware: str) -> None:
    """Any report brings a manifest, and that says what the vehicle is."""
    rig.cars[vehicle].reporter._hardware = hardware
    await rig.report(vehicle, releases(rig)[0], "refused")


async def test_strata_are_what_vehicles_sign_to_be_and_unknown_where_they_never_did(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        for vehicle in CARS[:4]:
            await says(rig, vehicle, "x86_64")
        line = await rig.start(releases(rig)[1])
        assert {its.stratum: its.size for its in line.strata} == {"unknown": 6, "x86_64": 4}


async def test_vehicles_of_other_hardware_are_never_listed(tmp_path: Path, published: Fleet) -> None:
    async with a_rig(tmp_path, published) as rig:
        for vehicle in CARS[:4]:
            await says(rig, vehicle, "aarch64")
        release = releases(rig)[1]
        with pytest.raises(RolloutRefused, match="other hardware"):
            await rig.desk.start(StartRequest("r0", release.target, "anna", RULES, {CARS[0]: "any", CARS[5]: "any"}))
        line = await rig.start(release)
        assert {its.stratum: its.size for its in line.strata} == {"unknown": 6}


async def test_a_vehicle_that_says_what_it_is_before_its_turn_has_it_in_that_stratum(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        _, turn = await begun(rig)
        await says(rig, turn[5], "x86_64")
        await says(rig, turn[6], "aarch64")
        await says(rig, turn[0], "x86_64")  # it had its turn: it stays where it was counted
        await rig.hours(0)
        strata = {its.stratum: (its.size, its.listed) for its in (await rig.line()).strata}
        # Of each hardware one at least is in the first wave.
        assert strata == {"unknown": (8, 2), "x86_64": (1, 1)}
        assert sorted(rig.listed()) == sorted([*turn[:2], turn[5]])


async def test_a_listed_vehicle_of_other_hardware_counts_for_nothing_and_gets_back_what_it_had(
    tmp_path: Path, published: Fleet
) -> None:
    async with a_rig(tmp_path, published) as rig:
        old = releases(rig)[0]
        for vehicle in CARS:
            rig.fleet.assign(old, vehicle=vehicle)
        release, turn = await begun(rig)
        rig.cars[turn[0]].reporter._hardware = "aarch64"
        await rig.report(turn[0], release, "refused")
        await rig.hours(0)
        its = (await rig.line()).strata[0]
        assert (its.exposed, its.failed, its.size) == (0, 0, 9)
        assert rig.listed()[turn[0]] == (old.target,)
