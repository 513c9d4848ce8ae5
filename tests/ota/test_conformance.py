"""The contract of TUF's conformance suite, walked by a repository of our own: what is trusted, fetched, and neither."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFull
from ota.artifacts import Artifact, fetch_artifact, is_kept
from ota.conformance import Client, HttpSource, NoTarget, main, run
from ota.errors import Attack, FetchError, Flaw, NotThere, OtaError, TrustError
from tests.ota.fleet import NOW_NS
from tests.ota.onerepo import TOP, OneRepository

ALL = (Root.type, *TOP)


class Car:
    """A client's folders, and what happens in them."""

    def __init__(self, folder: Path, repo: OneRepository) -> None:
        self.repo = repo
        self.metadata, self.targets = folder / "metadata", folder / "targets"
        self.clock = SteppingClock(wall_ns=NOW_NS)
        self.init(repo.published[Root.type][0])

    def init(self, root: bytes) -> None:
        path = self.metadata.with_name("first.json")
        path.write_bytes(root)
        run(["--metadata-dir", str(self.metadata), "init", str(path)], self.clock)

    def refresh(self) -> None:
        Client(self.metadata, self.repo, self.clock).refresh()

    def download(self, *names: str) -> None:
        Client(self.metadata, self.repo, self.clock).download(names, self.targets)

    def refused(self, flaw: Flaw, act: Callable[[], None] | None = None) -> str:
        with pytest.raises(TrustError) as refusal:
            (act or self.refresh)()
        assert refusal.value.flaw is flaw, refusal.value
        return str(refusal.value)

    def trusted(self) -> dict[str, int]:
        files = sorted(self.metadata.glob("*.json"))
        return {path.stem: Metadata.from_bytes(path.read_bytes()).signed.version for path in files}

    def kept(self) -> list[bytes]:
        files = [path for path in self.targets.rglob("*") if path.is_file()] if self.targets.exists() else []
        return sorted(path.read_bytes() for path in files)

    def pass_days(self, days: float) -> None:
        self.clock.set_wall(self.clock.wall_ns() + int(timedelta(days=days).total_seconds() * 10**9))


@pytest.fixture
def repo() -> OneRepository:
    return OneRepository()


@pytest.fixture
def car(tmp_path: Path, repo: OneRepository) -> Car:
    return Car(tmp_path, repo)


def versions(root: int, timestamp: int = 0, snapshot: int = 0, targets: int = 0) -> dict[str, int]:
    all_four = {"root": root, "snapshot": snapshot, "targets": targets, "timestamp": timestamp}
    return {role: version for role, version in all_four.items() if version}


# --- what a look asks for and keeps -----------------------------------------------------------------


def test_a_first_look_asks_for_each_role_once_and_keeps_its_very_bytes(car: Car, repo: OneRepository) -> None:
    repo.put(Timestamp.type, repo.published[Timestamp.type].pop() + b" ")
    car.refresh()
    assert repo.asked == [("root", 2), ("timestamp", None), ("snapshot", 1), ("targets", 1)]
    for role in ALL:
        assert (car.metadata / f"{role}.json").read_bytes() == repo.published[role][-1]


def test_nothing_is_asked_with_a_root_that_doesnt_hold(car: Car, repo: OneRepository) -> None:
    whole = json.loads(repo.published[Root.type][0])
    del whole["signed"]["version"]
    unsigned = json.loads(repo.published[Root.type][0])
    unsigned["signatures"][0]["sig"] = "00" * 64
    for broken in (b"", b"{", json.dumps(whole).encode(), json.dumps(unsigned).encode()):
        car.init(broken)
        with pytest.raises(TrustError):
            car.refresh()
    assert repo.asked == []


@pytest.mark.parametrize(
    ("role", "trusted"),
    [("root", versions(1)), ("timestamp", versions(2)), ("snapshot", versions(2, 2)), ("targets", versions(2, 2, 2))],
)
def test_what_is_before_an_unsigned_role_is_trusted_and_nothing_after_it(
    car: Car, repo: OneRepository, role: str, trusted: dict[str, int]
) -> None:
    repo.signers[role].pop()
    repo.publish(Root.type, *TOP)
    car.refused(Flaw.STRANGERS_ROOT if role == "root" else Flaw.UNSIGNED)
    assert car.trusted() == trusted


@pytest.mark.parametrize("role", TOP)
def test_a_missing_file_of_any_role_is_no_attack_and_keeps_what_came_before(
    car: Car, repo: OneRepository, role: str
) -> None:
    car.refresh()
    repo.publish(*TOP)
    repo.published[role][-1:] = []
    if role == Timestamp.type:
        repo.published[role].clear()
    with pytest.raises(FetchError):
        car.refresh()
    assert car.trusted()[role] == 1


def test_a_timestamp_changed_without_a_new_version_is_left_aside(car: Car, repo: OneRepository) -> None:
    car.refresh()
    repo.of(Timestamp.type).snapshot_meta.version = 100
    repo.begin_anew(Timestamp.type)
    repo.publish(Timestamp.type)
    car.refresh()
    assert repo.asked[-1] == ("timestamp", None)
    assert car.trusted() == versions(1, 1, 1, 1)


@pytest.mark.parametrize("role", [Snapshot.type, Targets.type])
def test_a_hash_that_was_promised_is_held_to(car: Car, repo: OneRepository, role: str) -> None:
    repo.has_hashes = True
    repo.publish(*TOP)
    car.refresh()
    repo.publish(*TOP)
    content = json.loads(repo.published[role].pop())
    turned = {"signed": content["signed"], "signatures": content["signatures"]}
    repo.put(role, json.dumps(turned, separators=(",", ":")).encode())  # as long, as rightly signed
    car.refused(Flaw.SNAPSHOT_HASH if role == Snapshot.type else Flaw.TARGETS_HASH)
    assert car.trusted()[role] == 2


@pytest.mark.parametrize("place", ["metadata", "key", "role"])
def test_what_nobody_knows_in_metadata_is_signed_with_it_and_otherwise_left_alone(
    car: Car, repo: OneRepository, place: str
) -> None:
    car.refresh()
    owners: dict[str, Any] = {
        "metadata": repo.root,
        "key": repo.signers[Snapshot.type][0].public_key,
        "role": repo.root.roles[Snapshot.type],
    }
    owners[place].unrecognized_fields["keyid_hash_algorithms"] = ["md5", {"deep": 1}]
    repo.publish(Root.type)
    car.refresh()
    assert car.trusted()["root"] == 2


# --- signatures and thresholds ----------------------------------------------------------------------


def test_a_threshold_is_met_by_different_keys_alone(car: Car, repo: OneRepository) -> None:
    repo.rotate(Snapshot.type, threshold=2, keys=3)
    repo.publish(Root.type, *TOP)
    car.refresh()
    repo.signers[Snapshot.type][1:] = []
    repo.publish(Snapshot.type, Timestamp.type)
    car.refused(Flaw.TOO_FEW_SIGNERS)

    def twice(content: dict[str, list[object]]) -> None:
        content["signatures"] *= 2

    repo.edited(Snapshot.type, twice)
    with pytest.raises(TrustError):
        car.refresh()
    assert car.trusted()["snapshot"] == 2


def test_a_key_that_a_role_names_often_counts_once(car: Car, repo: OneRepository) -> None:
    repo.root.roles[Snapshot.type].threshold = 3
    repo.publish(Root.type)

    def often(content: dict[str, dict[str, dict[str, dict[str, list[str]]]]]) -> None:
        content["signed"]["roles"]["snapshot"]["keyids"] *= 3

    repo.edited(Root.type, often)
    with pytest.raises(TrustError):
        car.refresh()
    assert "snapshot" not in car.trusted()


def test_a_threshold_that_nobody_can_meet_is_met_by_nobody(car: Car, repo: OneRepository) -> None:
    repo.root.roles[Timestamp.type].threshold = 2
    repo.publish(Root.type, *TOP)
    car.refused(Flaw.TOO_FEW_SIGNERS)
    assert car.trusted() == versions(2)


def test_a_wrong_signature_beside_enough_right_ones_does_no_harm(car: Car, repo: OneRepository) -> None:
    extra = repo.signer()
    repo.root.add_key(extra.public_key, Timestamp.type)
    repo.publish(Root.type)
    for nonsense in ("00" * 64, ""):
        repo.signers[Timestamp.type].append(extra)
        repo.publish(Timestamp.type)
        repo.signers[Timestamp.type].pop()
        content = json.loads(repo.published[Timestamp.type].pop())
        content["signatures"][1]["sig"] = nonsense
        repo.put(Timestamp.type, json.dumps(content).encode())
        car.refresh()
    assert car.trusted()["timestamp"] == 3


@pytest.mark.parametrize("role", TOP)
def test_metadata_of_another_role_with_the_right_key_is_no_metadata_of_this_one(
    car: Car, repo: OneRepository, role: str
) -> None:
    other = TOP[TOP.index(role) - 1]
    repo.publish(role)
    repo.published[role][-1] = repo.signed(other, by=repo.signers[role])
    repo.publish(*[its for its in (Snapshot.type, Timestamp.type) if its != role])
    car.refused(Flaw.OTHER_TYPE)


# --- roots ------------------------------------------------------------------------------------------


def chain(repo: OneRepository, links: list[tuple[list[int], int, list[int]]]) -> None:
    """Roots of (keys, threshold, signed by), from the first one on."""
    signers = [repo.signer() for _ in range(6)]
    repo.begin_anew(Root.type)
    for keys, threshold, by in links:
        repo.root.roles[Root.type].keyids.clear()
        repo.root.roles[Root.type].threshold = threshold
        for key in keys:
            repo.root.add_key(signers[key].public_key, Root.type)
        repo.signers[Root.type] = [signers[key] for key in by]
        repo.publish(Root.type)


GOOD = {
    "one key after the other": [([1], 1, [1]), ([2], 1, [2, 1]), ([2], 1, [2])],
    "strangers beside them": [([1], 1, [3, 1, 4]), ([2], 1, [3, 2, 1, 4])],
    "any two of three": [([0, 1, 2], 2, [0, 1]), ([0, 1, 2], 2, [1, 2]), ([0, 1, 3], 2, [0, 1])],
    "more needed": [([1], 1, [1]), ([1, 2], 2, [1, 2])],
    "fewer needed": [([1, 2], 2, [1, 2]), ([1, 2], 1, [1, 2]), ([1, 2], 1, [1])],
}
BAD = {
    "without the old key": ([([1], 1, [1]), ([2], 1, [2, 3])], Flaw.ROOT_BY_NEW_KEYS),
    "without the new key": ([([1], 1, [1]), ([2], 1, [1, 3])], Flaw.ROOT_BY_OLD_KEYS),
    "too few of the old": ([([0, 1, 2], 2, [0, 1]), ([0, 3, 4], 2, [0, 3])], Flaw.TOO_FEW_SIGNERS),
    "too few of the new": ([([0, 1, 2], 2, [0, 1]), ([0, 3, 4], 2, [0, 1])], Flaw.TOO_FEW_SIGNERS),
    "fewer needed, by fewer": ([([1, 2], 2, [1, 2]), ([1, 2], 1, [1])], Flaw.TOO_FEW_SIGNERS),
    "by strangers": ([([1], 1, [1]), ([1], 1, [3])], Flaw.STRANGERS_ROOT),
}


@pytest.mark.parametrize("links", GOOD.values(), ids=GOOD)
def test_each_root_is_followed_that_old_and_new_keys_signed(
    car: Car, repo: OneRepository, links: list[tuple[list[int], int, list[int]]]
) -> None:
    chain(repo, links)
    car.init(repo.published[Root.type][0])
    car.refresh()
    assert car.trusted()["root"] == len(links)


@pytest.mark.parametrize(("links", "flaw"), BAD.values(), ids=BAD)
def test_no_other_root_is_followed(
    car: Car, repo: OneRepository, links: list[tuple[list[int], int, list[int]]], flaw: Flaw
) -> None:
    chain(repo, links)
    car.init(repo.published[Root.type][0])
    car.refused(flaw)
    assert car.trusted() == versions(len(links) - 1)


def test_a_root_that_skips_a_version_is_refused(car: Car, repo: OneRepository) -> None:
    repo.publish(Root.type)
    repo.root.version = 3
    repo.published[Root.type][-1] = repo.signed(Root.type)
    car.refused(Flaw.ROOT_OUT_OF_ORDER)


def test_an_expired_root_between_is_passed_and_one_at_the_end_stops_everything(car: Car, repo: OneRepository) -> None:
    repo.root.expires = repo.soon(-1)
    repo.publish(Root.type)
    repo.root.expires = repo.soon(1)
    repo.publish(Root.type, *TOP)
    car.refresh()
    car.pass_days(2)
    repo.publish(*TOP)
    car.refused(Flaw.ROOT_EXPIRED)
    assert car.trusted() == versions(3, 2, 2, 2)


def test_one_look_follows_256_roots_and_the_next_one_goes_on_there(car: Car, repo: OneRepository) -> None:
    for _ in range(260):
        repo.publish(Root.type)
    car.refresh()
    assert car.trusted()["root"] == 257
    car.refresh()
    assert car.trusted()["root"] == 261


# --- rollbacks, fast-forwards, freezes ---------------------------------------------------------------


def test_an_older_timestamp_is_refused(car: Car, repo: OneRepository) -> None:
    repo.publish(Timestamp.type)
    car.refresh()
    repo.published[Timestamp.type].pop()
    assert car.refused(Flaw.TIMESTAMP_ROLLBACK).endswith("version 1, seen 2")
    assert car.trusted()["timestamp"] == 2


@pytest.mark.parametrize("has_hashes", [False, True])
def test_a_newer_timestamp_names_no_older_snapshot(car: Car, repo: OneRepository, has_hashes: bool) -> None:
    repo.has_hashes = has_hashes
    first = repo.about(Snapshot.type)
    first.version = 1
    repo.publish(Snapshot.type, Timestamp.type)
    car.refresh()
    repo.of(Timestamp.type).snapshot_meta = first
    repo.publish(Timestamp.type)
    car.refused(Flaw.SNAPSHOT_ROLLBACK)
    assert car.trusted() == versions(1, 2, 2, 1)


@pytest.mark.parametrize("has_hashes", [False, True])
def test_a_newer_snapshot_names_no_older_targets(car: Car, repo: OneRepository, has_hashes: bool) -> None:
    repo.has_hashes = has_hashes
    repo.publish(*TOP)
    car.refresh()
    repo.begin_anew(Targets.type)
    repo.publish(*TOP)
    car.refused(Flaw.TARGETS_ROLLBACK)
    assert car.trusted() == versions(1, 3, 2, 2)


def test_a_newer_snapshot_names_no_older_delegated_role_and_forgets_none(car: Car, repo: OneRepository) -> None:
    repo.delegate("a")
    repo.publish("a", *TOP)
    repo.publish("a", *TOP)
    car.refresh()
    repo.of(Snapshot.type).meta["a.json"].version = 1
    repo.publish(Snapshot.type, Timestamp.type)
    car.refused(Flaw.DELEGATED_ROLLBACK)
    del repo.of(Snapshot.type).meta["a.json"]
    repo.publish(Snapshot.type, Timestamp.type)
    car.refused(Flaw.ROLE_WITHDRAWN)


@pytest.mark.parametrize("rotated", [Timestamp.type, Snapshot.type])
@pytest.mark.parametrize("forward", [Targets.type, Snapshot.type])
def test_other_online_keys_bring_every_role_back_from_a_version_of_the_far_future(
    car: Car, repo: OneRepository, forward: str, rotated: str
) -> None:
    for _ in range(99):
        repo.publish(forward)
    repo.publish(*TOP[TOP.index(forward) + 1 :])
    car.refresh()
    assert car.trusted()[forward] == 100
    repo.rotate(rotated)
    repo.begin_anew(forward)
    repo.publish(Root.type, *TOP[TOP.index(forward) :])
    car.refresh()
    assert car.trusted()[forward] == 1


def test_another_timestamp_key_begins_its_versions_anew(car: Car, repo: OneRepository) -> None:
    for _ in range(99):
        repo.publish(Timestamp.type)
    car.refresh()
    repo.rotate(Timestamp.type)
    repo.begin_anew(Timestamp.type)
    repo.publish(Root.type, Timestamp.type)
    car.refresh()
    assert car.trusted()["timestamp"] == 1


def test_without_other_keys_nothing_comes_back(car: Car, repo: OneRepository) -> None:
    for _ in range(9):
        repo.publish(Targets.type)
    repo.publish(Snapshot.type, Timestamp.type)
    car.refresh()
    repo.begin_anew(Targets.type)
    repo.publish(Root.type, *TOP)
    car.refused(Flaw.TARGETS_ROLLBACK)


def test_a_client_that_lost_its_files_still_knows_their_versions(car: Car, repo: OneRepository) -> None:
    repo.publish(*TOP)
    car.refresh()
    for role in TOP:
        (car.metadata / f"{role}.json").unlink()
        repo.published[role].pop()
    car.refused(Flaw.FORGOTTEN_ROLLBACK)
    assert car.trusted() == versions(1)


@pytest.mark.parametrize(
    ("role", "flaw"),
    [("timestamp", Flaw.TIMESTAMP_EXPIRED), ("snapshot", Flaw.SNAPSHOT_EXPIRED), ("targets", Flaw.TARGETS_EXPIRED)],
)
def test_an_expired_role_is_a_freeze(car: Car, repo: OneRepository, role: str, flaw: Flaw) -> None:
    car.refresh()
    repo.of(role).expires = repo.soon(-1)
    repo.publish(*TOP)
    car.refused(flaw)
    assert car.trusted()["targets"] == 1


def test_an_expired_file_that_is_kept_helps_to_get_the_next_one_and_still_forbids_older_ones(
    car: Car, repo: OneRepository
) -> None:
    repo.of(Timestamp.type).expires = repo.soon(2)
    repo.publish(Timestamp.type)
    car.refresh()
    car.pass_days(5)
    repo.published[Timestamp.type].pop()
    car.refused(Flaw.TIMESTAMP_ROLLBACK)
    repo.publish(Timestamp.type)
    repo.of(Timestamp.type).expires = repo.soon(9)
    repo.publish(*TOP)
    car.refresh()
    assert car.trusted() == versions(1, 3, 2, 2)


# --- delegations ------------------------------------------------------------------------------------

GRAPHS = {
    "one": (["targets>a"], "a"),
    "in order": (["targets>a", "targets>b"], "ab"),
    "depth first": (["targets>a", "targets>b", "a>c", "a>d", "c>e"], "acedb"),
    "a terminating one ends it": (["targets>a", "targets>b", "a>c!", "a>d"], "ac"),
    "with its own below it": (["targets>a", "targets>b", "a>c!", "c>d"], "acd"),
    "others' paths": (["targets>a *.py", "targets>b", "a>c"], "b"),
    "others' paths below": (["targets>a", "targets>b", "a>c *.py", "c>d"], "ab"),
    "a circle": (["targets>a", "targets>b", "b>c", "c>d", "d>b"], "abcd"),
}


@pytest.mark.parametrize(("edges", "order"), GRAPHS.values(), ids=GRAPHS)
def test_delegations_are_walked_in_their_order(car: Car, repo: OneRepository, edges: list[str], order: str) -> None:
    for edge in edges:
        names, _, path = edge.partition(" ")
        by, _, to = names.partition(">")
        repo.delegate(to.rstrip("!"), [path or "*"], by, terminating=to.endswith("!"))
    repo.publish(*dict.fromkeys(order), *(set(repo.roles) - {*ALL, *order}), *TOP)
    with pytest.raises(NoTarget):
        car.download("missing")
    assert [role for role, _ in repo.asked[4:]] == list(order)


def test_a_target_is_found_where_everybody_on_the_way_trusts_it_and_nowhere_else(car: Car, repo: OneRepository) -> None:
    repo.delegate("b", ["releases/*/*"])
    repo.delegate("c", ["releases/x/*"], by="b")
    repo.add("releases/x/1", b"x of c", "c")
    repo.add("releases/z/1", b"z of c", "c")
    repo.publish("c", "b", *TOP)
    car.download("releases/x/1")
    with pytest.raises(NoTarget):
        car.download("releases/z/1")
    assert car.kept() == [b"x of c"]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_role_that_one_delegator_vouches_for_isnt_believed_for_another(
    car: Car, repo: OneRepository, at_once: bool
) -> None:
    for name in "ab":
        repo.delegate(name, [f"{name}/*"], terminating=True)
        repo.delegate("c", [f"{name}/*"], by=name, terminating=True)  # b names another key than a does
        repo.add(f"{name}/x", name.encode(), "c")
    repo.publish("c", "a", "b", *TOP)
    asked = [("a/x", "b/x")] if at_once else [("a/x",), ("b/x",)]
    if not at_once:
        car.download(*asked.pop(0))
    car.refused(Flaw.STRANGERS_KEY, lambda: car.download(*asked[0]))
    assert b"b" not in car.kept()


def test_what_one_delegator_vouched_for_is_asked_of_it_anew_after_another_has(car: Car, repo: OneRepository) -> None:
    for name in "ab":
        repo.delegate(name, [f"{name}/*"], terminating=True)
    signer = {name: repo.signer() for name in "ab"}
    for name in "ab":
        repo.delegate("c", [f"{name}/*"], by=name, terminating=True)
        repo.of(name).add_key(signer[name].public_key, "c")
    repo.add("a/x", b"1", "c")
    repo.signers["c"] = [signer["a"]]
    repo.publish("c", "a", "b", *TOP)
    honest = repo.published["c"][-1]
    repo.add("b/x", b"2", "c")
    repo.add("a/evil", b"3", "c")
    forged = repo.signed("c", by=[signer["b"]])

    class Turncoat(OneRepository):
        """Gives the honest file once, and then the other delegator's."""

        def __init__(self) -> None: ...

        def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
            yield from repo.read(path, offset, most)
            if path.endswith(".c.json"):
                repo.published["c"][-1] = forged

    assert repo.published["c"][-1] == honest
    client = Client(car.metadata, Turncoat(), car.clock)
    car.refused(Flaw.STRANGERS_KEY, lambda: client.download(["a/x", "b/x", "a/evil"], car.targets))
    assert car.kept() == []


@pytest.mark.parametrize("role", ["?", "#", "/role", "../role", ".", "..", "a b", "%2F", "\u00fc", "1.root"])
def test_a_roles_name_leads_nowhere_it_shouldnt(car: Car, repo: OneRepository, role: str) -> None:
    repo.delegate(role)
    repo.publish(role, *TOP)
    with pytest.raises(NoTarget):
        car.download("missing")
    assert repo.asked[-1] == (role, 1)
    assert len(car.trusted()) == 5
    assert {path.name for path in car.metadata.parent.iterdir()} <= {"metadata", "targets", "first.json"}


def test_an_expired_delegated_role_signs_nothing_any_more(car: Car, repo: OneRepository) -> None:
    repo.delegate("a")
    repo.add("first", b"1", "a")
    repo.add("second", b"2", "a")
    repo.of("a").expires = repo.soon(3)
    repo.publish("a", *TOP)
    car.download("first")
    car.pass_days(5)
    car.refused(Flaw.DELEGATED_EXPIRED, lambda: car.download("second"))
    repo.of("a").expires = repo.soon(20)
    repo.publish("a", *TOP)
    car.download("second")
    assert car.kept() == [b"1", b"2"]


def test_a_delegated_role_that_the_snapshot_doesnt_name_is_refused(car: Car, repo: OneRepository) -> None:
    repo.delegate("a")
    repo.publish(*TOP)
    car.refused(Flaw.UNLISTED_ROLE, lambda: car.download("x"))


# --- artifacts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain.txt", "path/to/a/file.txt", "..", "../up", ".hidden", "a b?c#d", "x" * 200])
@pytest.mark.parametrize("consistent", [True, False])
def test_an_artifact_lies_in_its_folder_whatever_its_name(tmp_path: Path, name: str, consistent: bool) -> None:
    repo = OneRepository()
    repo.root.consistent_snapshot = consistent
    repo.publish(Root.type)
    car = Car(tmp_path, repo)
    repo.add(name, b"content")
    repo.publish(*TOP)
    car.download(name)
    assert car.kept() == [b"content"]
    assert repo.fetched == [name]
    assert {path.name for path in tmp_path.iterdir()} == {"metadata", "targets", "first.json"}


def test_what_is_there_isnt_fetched_again_and_what_changed_takes_its_name(car: Car, repo: OneRepository) -> None:
    for content in (b"one", b"two"):
        repo.add("a", content)
        repo.publish(*TOP)
        for _ in range(2):
            car.download("a")
        assert car.kept() == [content]
    assert len(repo.fetched) == 2


@pytest.mark.parametrize(
    ("served", "flaw"),
    [(b"other!!", Flaw.CHANGED_ARTIFACT), (b"content and more", Flaw.ENDLESS_FILE), (b"conten", None)],
)
def test_other_bytes_than_were_signed_leave_nothing_and_what_was_there_stays(
    car: Car, repo: OneRepository, served: bytes, flaw: Flaw | None
) -> None:
    repo.add("a", b"before")
    repo.publish(*TOP)
    car.download("a")
    repo.add("a", b"content")
    repo.publish(*TOP)
    repo.files["a"] = served
    with pytest.raises(OtaError) as refusal:
        car.download("a")
    assert getattr(refusal.value, "flaw", None) is flaw
    assert car.kept() == [b"before"]


@pytest.mark.parametrize("hashes", [["sha256"], ["sha512"], ["sha512", "sha256"]])
def test_every_hash_that_was_signed_is_checked(car: Car, repo: OneRepository, hashes: list[str]) -> None:
    target = repo.add("a", b"content", hashes=hashes)
    repo.publish(*TOP)
    car.download("a")
    target.hashes[hashes[-1]] = "0" * len(target.hashes[hashes[-1]])
    repo.publish(*TOP)
    car.refused(Flaw.CHANGED_ARTIFACT, lambda: car.download("a"))
    target.hashes["crc32"] = "00000000"
    repo.publish(*TOP)
    car.refused(Flaw.UNKNOWN_HASH, lambda: car.download("a"))


def test_an_artifact_is_whole_or_not_there_whenever_the_power_goes() -> None:
    content = bytes(range(256)) * 7
    repo = OneRepository()
    target = repo.add("a", content)
    artifact = Artifact("a", target.length, target.hashes)
    disk = CrashDisk()
    fetch_artifact(repo, f"targets/{'0' * 64}.a", disk, "a", artifact)
    afters = [state.disk for state in disk.after_crash()]
    assert {is_kept(after, "a", artifact) for after in afters} == {True, False}
    assert all(not after.exists("a") or after.read("a") == content for after in afters)


def test_an_artifact_whose_bytes_arent_synced_is_found_by_a_power_cut() -> None:
    """The oracle of the test before notices it."""
    disk = CrashDisk()
    disk.without_sync(0)
    repo = OneRepository()
    target = repo.add("a", b"content" * 9)
    fetch_artifact(repo, f"targets/{'0' * 64}.a", disk, "a", Artifact("a", target.length, target.hashes))
    afters = [state.disk for state in disk.after_crash()]
    assert any(after.exists("a") and after.read("a") != b"content" * 9 for after in afters)


def test_a_full_disk_leaves_nothing_behind() -> None:
    repo = OneRepository()
    target = repo.add("a", b"content")
    disk = CrashDisk()
    disk.fail(lambda call: call.act == "write_at", DiskFull("no space"))
    with pytest.raises(DiskFull):
        fetch_artifact(repo, f"targets/{'0' * 64}.a", disk, "a", Artifact("a", 7, target.hashes))
    assert disk.names("") == []


# --- the command itself -----------------------------------------------------------------------------


@pytest.fixture
def served(repo: OneRepository) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                data = b"".join(repo.read(unquote(self.path[1:]), 0, 1 << 30))
            except NotThere:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_command_looks_downloads_and_tells_by_its_exit(
    tmp_path: Path, repo: OneRepository, served: str, capfd: pytest.CaptureFixture[str]
) -> None:
    repo.add("path/a b", b"content")
    repo.publish(*TOP)
    root, metadata, targets = tmp_path / "root.json", tmp_path / "metadata", tmp_path / "targets"
    root.write_bytes(repo.published[Root.type][0])
    clock = SteppingClock(wall_ns=NOW_NS)
    both = ["--metadata-dir", str(metadata), "--metadata-url", f"{served}/metadata"]
    names = ["--target-name", "path/a b", "--target-base-url", f"{served}/targets/", "--target-dir", str(targets)]
    assert main([*both, "refresh"], clock) == 1  # no root yet
    assert main(["--metadata-dir", str(metadata), "init", str(root)], clock) == 0
    assert main([*both, "refresh"], clock) == 0
    assert main([*both, *names, "download"], clock) == 0
    assert [path.read_bytes() for path in targets.iterdir()] == [b"content"]
    assert main([*both, *names, "--target-name", "missing", "download"], clock) == 1
    repo.publish(Timestamp.type)
    repo.edited(Timestamp.type, lambda content: content["signed"].update(version=9))
    assert main([*both, "refresh"], clock) == 1
    assert f"{Attack.TAMPERED}: metadata/timestamp.json isn't what its timestamp key signed" in capfd.readouterr().err


def test_a_source_that_is_away_or_ends_early_is_a_fetch_error(served: str) -> None:
    for url in ("http://127.0.0.1:1/metadata", f"{served}/nothing"):
        with pytest.raises(FetchError):
            list(HttpSource({"metadata": url}, timeout_s=5).read("metadata/timestamp.json", 0, 100))


def test_an_answer_that_isnt_read_whole_keeps_no_connection(served: str, repo: OneRepository) -> None:
    repo.publish(*TOP)
    source, port = HttpSource({"metadata": f"{served}/metadata"}, timeout_s=5), int(served.rpartition(":")[2])
    with pytest.raises(NotThere) as kept:
        list(source.read("metadata/9.root.json", 0, 100))
    part = source.read("metadata/timestamp.json", 0, 1)
    assert len(b"".join(part)) == 1
    assert connections_to(port) == 0
    assert kept.value, "it, and what it went through, is still there"


def connections_to(port: int) -> int:
    """Sockets that this process still holds to there: proc(5), tcp's remote address and inode."""
    held = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and f"socket:[{row[9]}]" in held for row in rows)


def test_it_runs_as_a_module(tmp_path: Path, repo: OneRepository) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(repo.published[Root.type][0])
    command = [sys.executable, "-m", "ota.conformance", "--metadata-dir", str(tmp_path / "metadata"), "init", str(root)]
    assert subprocess.run(command, check=False).returncode == 0
    assert (tmp_path / "metadata/root.json").read_bytes() == root.read_bytes()
