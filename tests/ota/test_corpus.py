"""The corpus of bad updates: each is refused as what it is, leaves nothing, and its twin is taken."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest

from ecu.clock import SECOND_NS, SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskError
from ota.errors import Flaw, NotThere, OtaError, TrustError
from ota.layout import published
from ota.manifest import decode_manifest, encode_manifest
from ota.source import PART_BYTES, Source
from ota.trust import Roots, Vehicle
from ota.updates import Updates
from tests.crash.updates.laws import files_below
from tests.ota.changed import Changed, Open
from tests.ota.corpus.base import NOW_S, founded
from tests.ota.corpus.case import Case, Way, nothing
from tests.ota.corpus.cases import CASES
from tests.ota.corpus.draft import CAR, Draft
from tests.ota.corpus.fuzz import broken, canonical, scrambled, strange, valid
from tests.ota.corpus.mutants import MODULES, Verdict, mutants_of, noticed, spoken, verdicts
from tests.ota.corpus.redundant import BREAKS, REDUNDANT
from tests.ota.corpus.vehicle import HOST, bad, complaints, complaints_of_the_twin, way_of
from tests.ota.fleet import HARDWARE

ELSEWHERE = {Flaw.CHANGED_ARTIFACT, Flaw.UNKNOWN_HASH, Flaw.UNKNOWN_NEEDS}
"""What is refused where no release is looked for or installed: see ota/conformance.py and ota/runtime.py."""
NUMBERED = list(enumerate(CASES))


def some() -> list[tuple[int, Case]]:
    """The first of each class, and every fiftieth."""
    first = {case.told: (number, case) for number, case in reversed(NUMBERED)}
    return sorted({*first.values(), *NUMBERED[::50]}, key=lambda its: its[0])


def test_there_are_cases_enough_of_every_class_that_a_vehicle_refuses_and_of_every_way() -> None:
    names = Counter(case.name for case in CASES)
    assert len(names) == len(CASES) >= 400
    classes = {case.expected for case in CASES if isinstance(case.expected, Flaw)}
    assert classes == set(Flaw) - ELSEWHERE
    assert len(classes) >= 40
    assert {way_of(case, number) for number, case in NUMBERED} == set(Way)


@pytest.mark.parametrize(("number", "case"), some(), ids=lambda its: its.name if isinstance(its, Case) else "")
def test_one_defect_is_refused_as_its_class_leaves_nothing_and_the_twin_is_taken(number: int, case: Case) -> None:
    assert complaints(case, founded(), way_of(case, number)) == []


@pytest.mark.soak
@pytest.mark.parametrize("way", Way)
def test_every_defect_is_refused_every_way(way: Way) -> None:
    found = {case.name: complaints(case, founded(), way) for case in CASES if case.way in (None, way)}
    assert {name: its for name, its in found.items() if its} == {}


@pytest.mark.soak
def test_every_twin_is_taken_by_a_vehicle_that_saw_no_bad_set() -> None:
    found = {case.name: complaints_of_the_twin(case, founded(), way_of(case, number)) for number, case in NUMBERED}
    assert {name: its for name, its in found.items() if its} == {}


def test_every_bad_manifest_is_refused_as_soon_as_it_is_read() -> None:
    flaws = (Flaw.MALFORMED_MANIFEST, Flaw.MANIFEST_NOT_CANONICAL)
    for case in CASES:
        if case.expected in flaws:
            with pytest.raises(TrustError) as refusal:
                decode_manifest(bad(case, founded()).manifest_bytes())
            assert refusal.value.flaw is case.expected, case.name


# --- the oracle notices ------------------------------------------------------------------------------


def test_a_case_without_a_defect_is_complained_of() -> None:
    case = Case("no defect at all", Flaw.CHANGED_BLOCK, nothing)
    assert complaints(case, founded(), Way.FOLDER) == ["is taken: [<Kind.MODEL: 'model'>]"]


def test_a_case_of_another_class_or_with_other_words_is_complained_of() -> None:
    case = next(case for case in CASES if case.expected is Flaw.CHANGED_BLOCK)
    other = Case(case.name, Flaw.CHANGED_MANIFEST, case.act, case.given)
    assert "is told as changed-block" in complaints(other, founded(), Way.FOLDER)[0]
    other = Case(case.name, case.expected, case.act, case.given, words="something else")
    assert "says" in complaints(other, founded(), Way.FOLDER)[0]


def test_what_a_bad_set_leaves_behind_is_complained_of() -> None:
    case = next(case for case in CASES if case.expected is Flaw.TIMESTAMP_EXPIRED)

    def littering(draft: Draft) -> None:
        states: list[Path] = []
        case.act(draft)
        draft.edit("state", states.append)
        draft.through.append(lambda source, clock: Changed(source, lambda path, data: _littered(states[0], data)))

    spoiled = Case(case.name, case.expected, littering)
    assert complaints(spoiled, founded(), Way.FOLDER) == ["leaves ['litter']"]


def _littered(state: Path, data: bytes) -> bytes:
    (state / "litter").touch()
    return data


# --- checks that are switched off --------------------------------------------------------------------

FIRST = (
    ("trust", "if directed.delegations is not None", "director delegates"),
    ("tufclient", "_demand_single_keys(self.last)", "image/model with a key twice"),
    ("fetch", "if hashlib.sha256(data).hexdigest() != offer.sha256", "manifest of zeros after it was signed"),
    ("floors", "if version < floors.get(role, 0)", "image/model older than was seen, and forgotten"),
)


@pytest.mark.parametrize(("module", "what", "name"), FIRST)
def test_a_check_that_is_switched_off_is_noticed(module: str, what: str, name: str) -> None:
    (mutant,) = [its for its in mutants_of(module) if its.what == what]
    assert noticed(mutant, [name], founded()) == Verdict(case=name)


def test_a_mutant_that_changes_nothing_is_not_noticed() -> None:
    (mutant,) = [its for its in mutants_of("trust") if its.what == "if directed.delegations is not None"]
    assert noticed(mutant, [CASES[0].name], founded()) == Verdict()


def test_a_run_that_breaks_is_no_notice() -> None:
    """The planted faults: a case that nobody has, and a mutant that can't be imported."""
    (mutant,) = [its for its in mutants_of("trust") if its.what == "if directed.delegations is not None"]
    assert "KeyError" in noticed(mutant, ["no such case"], founded()).broke
    unfit = replace(mutant, number=10_000)
    assert "can't even be imported" in noticed(unfit, [CASES[0].name], founded()).broke


def test_a_run_that_ends_without_a_word_is_done_once_more_and_is_no_notice(tmp_path: Path) -> None:
    def deadly() -> str:
        with (tmp_path / "runs").open("ab") as file:
            file.write(b".")
        os._exit(1)

    assert spoken(deadly) == ""
    assert (tmp_path / "runs").read_bytes() == b".."


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_check_that_is_switched_off_is_noticed_but_those_that_another_stands_behind() -> None:
    found = list(verdicts(MODULES, founded()))
    assert {its.name: verdict.broke for its, verdict in found if verdict.broke and its.name not in BREAKS} == {}
    assert {its.name for its, verdict in found if verdict.broke} == set(BREAKS)
    assert {its.name for its, verdict in found if verdict == Verdict()} == set(REDUNDANT)


# --- chance ------------------------------------------------------------------------------------------


def of_broken_manifests(seed: int, count: int) -> None:
    rng = Random(seed)
    for _ in range(count):
        data, rule = broken(rng)
        with pytest.raises(TrustError) as refusal:
            decode_manifest(data)
        assert refusal.value.flaw in (Flaw.MALFORMED_MANIFEST, Flaw.MANIFEST_NOT_CANONICAL), rule
        assert str(refusal.value).isprintable()


def of_scrambled_manifests(seed: int, count: int) -> int:
    """How many were read all the same: they say what they say in the one way to say it."""
    rng, read = Random(seed), 0
    for _ in range(count):
        data = scrambled(canonical(valid(rng)), rng)
        try:
            manifest = decode_manifest(data)
        except TrustError:
            continue
        assert encode_manifest(manifest) == data
        read += 1
    return read


def test_a_manifest_that_breaks_a_rule_is_refused_and_one_that_breaks_none_is_read() -> None:
    rng = Random(3)
    for _ in range(50):
        decode_manifest(canonical(valid(rng)))
    of_broken_manifests(seed=1, count=2_000)
    of_scrambled_manifests(seed=2, count=300)


@pytest.mark.soak
def test_a_hundred_thousand_manifests_that_break_a_rule_are_refused() -> None:
    of_broken_manifests(seed=10, count=100_000)
    assert of_scrambled_manifests(seed=20, count=20_000) < 10_000


class InMemory(Open):
    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        data = self._files.get(published(path, CAR) or "")
        if data is None:
            raise NotThere(f"There is no {path}.")
        part = data[offset : offset + most]
        yield from (part[at : at + PART_BYTES] for at in range(0, len(part), PART_BYTES))


@dataclass(frozen=True)
class Looked:
    """What a new vehicle makes of it: what ended it, what it installed, and which files of its disk, besides the audit,
    are otherwise than before what was refused."""

    fault: Exception | None
    installed: list[str]
    left: list[str]


def looked(files: dict[str, bytes], through: Callable[[Source, CrashDisk], Source] = lambda its, disk: its) -> Looked:
    base, disk = founded(), CrashDisk()
    clock = SteppingClock(wall_ns=NOW_S * SECOND_NS)
    roots = Roots(base.roots["director"], base.roots["image"])
    updates = Updates(disk, roots, Vehicle(CAR, HARDWARE), clock, lambda notice: None, HOST)
    updates.begin()
    source, installed, before = through(InMemory(files), disk), list[str](), on(disk)
    try:
        for offer in updates.check(source):
            before = on(disk)
            updates.install(source, offer, lambda progress: None)
            installed.append(offer.sha256)
    except (OtaError, DiskError) as refusal:
        after = on(disk)
        return Looked(refusal, installed, [name for name in after | before if after.get(name) != before.get(name)])
    return Looked(None, installed, [])


def on(disk: CrashDisk) -> dict[str, bytes]:
    """All of it but the audit."""
    return {path: data for path, data in files_below(disk, "").items() if path != "audit"}


ROLES = (
    "image/root", "image/targets", "image/model", "image/snapshot", "image/timestamp", "director/root",
    "director/targets", "director/snapshot", "director/timestamp",
)  # fmt: skip


READ = ("root.json", "timestamp.json", "snapshot.json", "targets.json", "model.json", "drive-2.0.json")
"""What a look and an installation read: the other kinds' roles are left alone."""


def of_metadata(seed: int, count: int) -> Counter[str]:
    """Changed after it was signed: whatever it is, nothing but what was signed is installed."""
    rng, seen = Random(seed), Counter[str]()
    draft = _with_roots()
    files = draft.published()
    right = looked(files)
    assert right.installed
    assert right.fault is None
    paths = [path for path in files if path.endswith(READ)]
    for _ in range(count):
        path = rng.choice(paths)
        its = looked({**files, path: scrambled(files[path], rng)})
        assert its.installed == ([] if its.fault else right.installed)
        assert its.left == []
        seen["refused" if its.fault else "taken"] += 1
    return seen


def of_signed_metadata(seed: int, count: int) -> Counter[str]:
    """Changed by one who has the keys: it is taken or refused, and nothing else."""
    rng, seen = Random(seed), Counter[str]()
    for _ in range(count):
        draft = _with_roots()
        draft.edit(rng.choice(ROLES), lambda its: strange(its, rng))
        its = looked(draft.published())
        assert its.left == []
        seen["refused" if its.fault else "taken"] += 1
    return seen


def _with_roots() -> Draft:
    """Both with a second root, since the first one comes from the factory."""
    draft = Draft(founded())
    draft.has_hashes = True
    for repository in ("image", "director"):
        draft.new_root(repository, lambda root: None, [f"{repository}-root-1", f"{repository}-root-2"])
    return draft


def test_metadata_that_is_changed_by_chance_gives_what_was_signed_or_nothing() -> None:
    seen = of_metadata(seed=1, count=25)
    assert seen["refused"] > 10
    assert seen["taken"]
    seen = of_signed_metadata(seed=2, count=25)
    assert seen["refused"] > 5
    assert seen["taken"]


def test_what_a_refused_look_leaves_behind_is_seen() -> None:
    def littered(disk: CrashDisk, data: bytes) -> bytes:
        if not disk.exists("litter"):
            disk.create("litter")
        return data

    files = _with_roots().published()
    files |= {path: b"{}" for path in files if path.endswith("snapshot.json")}
    its = looked(files, lambda source, disk: Changed(source, lambda path, data: littered(disk, data)))
    assert its.fault is not None
    assert its.left == ["litter"]


@pytest.mark.soak
def test_thousands_of_metadata_sets_that_are_changed_by_chance_give_what_was_signed_or_nothing() -> None:
    seen = of_metadata(seed=10, count=3_000)
    assert seen["refused"] > 2_000
    assert seen["taken"] > 300
    seen = of_signed_metadata(seed=20, count=6_000)
    assert seen["refused"] > 2_000
    assert seen["taken"] > 1_000
