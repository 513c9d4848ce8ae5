"""The chain of roots: who may say whose keys count from now on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from ota.errors import Flaw
from ota.floors import Floors
from tests.ota.corpus.base import Json
from tests.ota.corpus.case import Act, Case
from tests.ota.corpus.draft import Draft
from tests.ota.corpus.metadata import both, file_of, signed, unsigned_change, without
from tests.ota.fleet import Unsynced

NEW: Final = ["new-1", "new-2", "new-3"]
TOO_MANY: Final = 512_001


def root_cases() -> Iterator[Case]:
    for repository in ("director", "image"):
        yield from _of_signers(repository)
        yield from _of_form(repository)
        yield from _of_roles(repository)
        yield _case(
            repository, "older than was seen", Flaw.ROOT_ROLLBACK, _hidden(repository), words="version 1, seen 2"
        )


def _case(repository: str, defect: str, expected: Flaw, act: Act, **more: Any) -> Case:
    return Case(f"{repository}/root {defect}", expected, act, **{"given": _rotated(repository), **more})


def _old(repository: str) -> list[str]:
    return [f"{repository}-root-{number}" for number in (1, 2)]


def _rotated(repository: str) -> Act:
    """Root 2 has three other root keys, and both sides signed it."""

    def given(draft: Draft) -> None:
        draft.new_root(repository, lambda root: draft.keyed(root, "root", NEW, 2), [*_old(repository), *NEW[:2]])

    return given


def _twice(repository: str) -> Act:
    """And root 3 comes after it, by the new keys."""
    return both(_rotated(repository), lambda draft: draft.new_root(repository, lambda root: None, NEW[:2]))


def _signers(*names: str) -> Act:
    """Of the newest root."""

    def act(draft: Draft) -> None:
        repository, version, root, _ = draft.newer_roots[-1]
        draft.newer_roots[-1] = (repository, version, root, list(names))

    return act


def _of_signers(repository: str) -> Iterator[Case]:
    old, case = _old(repository), partial(_case, repository)
    for words, flaw, names in (
        ("by the old keys alone", Flaw.ROOT_BY_OLD_KEYS, old),
        ("by the new keys alone", Flaw.ROOT_BY_NEW_KEYS, NEW[:2]),
        ("by a stranger", Flaw.STRANGERS_ROOT, ["stranger"]),
        ("that nobody signed", Flaw.STRANGERS_ROOT, []),
        ("by the keys that are online", Flaw.STRANGERS_ROOT, [f"{repository}-targets", f"{repository}-timestamp"]),
        ("by one old key", Flaw.TOO_FEW_SIGNERS, [old[0], *NEW[:2]]),
        ("by one new key", Flaw.TOO_FEW_SIGNERS, [*old, NEW[0]]),
        ("by one of each", Flaw.TOO_FEW_SIGNERS, [old[0], NEW[0]]),
        ("by one old key, who signed twice", Flaw.NOT_METADATA, [old[0], old[0], *NEW[:2]]),
    ):
        yield case(words, flaw, _signers(*names))
    other = "image" if repository == "director" else "director"
    yield case("by the other repository's root keys", Flaw.STRANGERS_ROOT, _signers(*_old(other)))
    again = partial(_case, repository, given=_twice(repository))
    yield again("after the next by keys that are rotated out", Flaw.STRANGERS_ROOT, _signers(*old))
    yield again("after the next by one key", Flaw.TOO_FEW_SIGNERS, _signers(NEW[0]))
    yield again("after the next that is the first again", Flaw.ROOT_OUT_OF_ORDER, _replaced(repository, 3, 2))


def _replaced(repository: str, number: int, by: int) -> Act:
    def edit(files: dict[str, bytes]) -> None:
        folder = f"{repository}/metadata"
        files[f"{folder}/{number}.root.json"] = files[f"{folder}/{by}.root.json"]

    return lambda draft: draft.edit("files", edit)


def _of_form(repository: str) -> Iterator[Case]:
    role, case = f"{repository}/root", partial(_case, repository)
    yield case("changed after it was signed", Flaw.CHANGED_ROOT, unsigned_change(role, _later))
    yield case("with a strange signature by the right name", Flaw.CHANGED_ROOT, _wrong_signature(role))
    yield case("expired", Flaw.ROOT_EXPIRED, signed(role, expires="2026-12-31T00:00:00Z"), words="2026-12-31")
    yield case("of a higher version", Flaw.ROOT_OUT_OF_ORDER, signed(role, version=3))
    yield case("of a lower version", Flaw.ROOT_OUT_OF_ORDER, signed(role, version=1))
    yield case("that is the first again", Flaw.ROOT_OUT_OF_ORDER, _replaced(repository, 2, 1))
    yield case("whose version is a truth", Flaw.ROOT_OUT_OF_ORDER, signed(role, version=True))
    yield case("of another role", Flaw.OTHER_TYPE, _other_role(repository))
    yield case("longer than any may be", Flaw.ENDLESS_METADATA, file_of(role, lambda data: data.ljust(TOO_MANY)))
    for words, act in {
        "cut short": file_of(role, lambda data: data[:-1]),
        "with bytes behind its end": file_of(role, lambda data: data + b"{}"),
        "that isn't JSON": file_of(role, lambda data: b"<html>"),
        "with a key twice": file_of(role, lambda data: data.replace(b'"_type"', b'"version": 9, "_type"', 1)),
        "nested without end": file_of(role, lambda data: b"[" * 9_000),
        "whose version is words": signed(role, version="2"),
        "whose version is negative": signed(role, version=-2),
        "without an end": without(role, "expires"),
        "of another specification": signed(role, spec_version="3.0.0"),
        "without roles": without(role, "roles"),
        "without keys": without(role, "keys"),
    }.items():
        yield case(words, Flaw.NOT_METADATA, act)


def _other_role(repository: str) -> Act:
    def act(draft: Draft) -> None:
        other = {**draft.signed[f"{repository}/timestamp"], "version": 2}
        draft.edit(f"{repository}/root", lambda _: other)

    return act


def _wrong_signature(role: str) -> Act:
    def edit(signatures: list[Json]) -> None:
        signatures[0]["sig"] = signatures[1]["sig"]

    return lambda draft: draft.edit(f"{role} signatures", edit)


def _later(content: Json) -> None:
    content["signed"]["expires"] = "2099-01-01T00:00:00Z"


def _of_roles(repository: str) -> Iterator[Case]:
    role, case = f"{repository}/root", partial(_case, repository)

    def roles(edit: Callable[[Json], object]) -> Act:
        return lambda draft: draft.edit(role, lambda its: edit(its["roles"]) and None)

    for words, edit in {
        "without a timestamp's keys": lambda its: its.pop("timestamp"),
        "without a root's keys": lambda its: its.pop("root"),
        "with a role too many": lambda its: its.update(mirrors=its["timestamp"]),
        "that wants no signature": lambda its: its["timestamp"].update(threshold=0),
        "that wants less than none": lambda its: its["timestamp"].update(threshold=-1),
        "that wants a signature in words": lambda its: its["timestamp"].update(threshold="1"),
        "that counts a key twice": lambda its: its["root"]["keyids"].append(its["root"]["keyids"][0]),
    }.items():
        yield case(words, Flaw.NOT_METADATA, roles(edit))
    yield case(
        "that names no key for the snapshot", Flaw.STRANGERS_KEY, roles(lambda its: its["snapshot"].update(keyids=[]))
    )
    yield case(
        "that wants two for the timestamp", Flaw.TOO_FEW_SIGNERS,
        roles(lambda its: its["timestamp"].update(threshold=2)),
    )  # fmt: skip


def _hidden(repository: str) -> Act:
    """The newer root isn't there any more, for a vehicle that has seen it and lost its copies."""

    def act(draft: Draft) -> None:
        draft.edit("files", lambda files: files.pop(f"{repository}/metadata/2.root.json") and None)
        draft.edit("state", lambda state: _seen(state, f"{repository}/root"))

    return act


def _seen(state: Path, role: str) -> None:
    Floors(Unsynced(state)).raise_metadata({role: 2}, 0)
