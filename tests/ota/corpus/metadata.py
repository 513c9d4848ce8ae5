"""Each role of both repositories, spoiled in every way that TUF knows, and some more."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from ota.apart import JUDGES
from ota.errors import FetchError, Flaw
from tests.ota.corpus.base import SEEN, Json
from tests.ota.corpus.case import Act, Before, Case
from tests.ota.corpus.draft import Draft

TIMESTAMPS: Final = ("director/timestamp", "image/timestamp")
SNAPSHOTS: Final = ("director/snapshot", "image/snapshot")
TARGETS: Final = ("director/targets", "image/targets", "image/model")
ROLES: Final = (*TIMESTAMPS, *SNAPSHOTS, *TARGETS)
TOO_MANY: Final = {"timestamp": 16_385, "snapshot": 2_000_001, "targets": 5_000_001, "model": 5_000_001}
HUGE: Final = 1 << 60
_DEEP: Final = b'"x": ' + b"[" * 5_000 + b"]" * 5_000


def metadata_cases() -> Iterator[Case]:
    for role in ROLES:
        yield from _of_any_role(role)
        yield from _of_signatures(role)
        yield from _of_numbers(role)
        yield from _rolled_back(role)
    yield from _named_from_above()
    yield from _of_content()


def _name(role: str) -> str:
    return role.partition("/")[2]


def _flaw(form: str, role: str) -> Flaw:
    """For "expired", of a timestamp, TIMESTAMP_EXPIRED; what is wrong with a kind's role is told of a delegated one."""
    name = "DELEGATED" if _name(role) == "model" else _name(role).upper()
    return Flaw[form.format(name)]


# --- acts -------------------------------------------------------------------------------------------


def signed(role: str, **fields: Any) -> Act:
    """These fields of the signed part are others, and it is signed so."""
    return lambda draft: draft.edit(role, lambda its: its.update(fields))


def edited(edit: Callable[[Json], object]) -> Act:
    """The manifest, before it is signed for."""
    return lambda draft: draft.edit("manifest", lambda its: edit(its) and None)


def without(role: str, field: str) -> Act:
    return lambda draft: draft.edit(role, lambda its: its.pop(field) and None)


def file_of(role: str, change: Callable[[bytes], bytes]) -> Act:
    return lambda draft: draft.edit(f"{role} bytes", change)


def unsigned_change(role: str, change: Callable[[Json], object]) -> Act:
    """After it was signed."""

    def edit(data: bytes) -> bytes:
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return file_of(role, edit)


def by(role: str, *names: str) -> Act:
    def act(draft: Draft) -> None:
        draft.by[role] = list(names)

    return act


def both(*acts: Act) -> Act:
    def act(draft: Draft) -> None:
        for its in acts:
            its(draft)

    return act


# --- any role ---------------------------------------------------------------------------------------


def _of_any_role(role: str) -> Iterator[Case]:
    name = _name(role)
    case = partial(_case, role)
    yield case("expired", _flaw("{}_EXPIRED", role), signed(role, expires="2026-12-31T00:00:00Z"), words="2026-12-31")
    yield case("expired just now", _flaw("{}_EXPIRED", role), signed(role, expires="2027-01-15T07:59:59Z"))
    malformed = {
        "without an end": without(role, "expires"),
        "with an end that is no date": signed(role, expires="tomorrow"),
        "with a date that is a number": signed(role, expires=1),
        "of another specification": signed(role, spec_version="2.0.0"),
        "of no specification": signed(role, spec_version="one"),
        "without a specification": without(role, "spec_version"),
        "of no type": without(role, "_type"),
        "of an unknown type": signed(role, _type="mirrors"),
        "with bytes behind its end": file_of(role, lambda data: data + b"x"),
        "cut short": file_of(role, lambda data: data[:-1]),
        "empty": file_of(role, lambda data: b""),
        "that isn't JSON": file_of(role, lambda data: b"<html>404</html>"),
        "that isn't UTF-8": file_of(role, lambda data: b"\xff\xfe" + data),
        "that is a list": file_of(role, lambda data: b"[" + data + b"]"),
        "nested without end": file_of(role, lambda data: b"[" * 9_000),
        "nested without end inside": file_of(role, lambda data: data.replace(b'"_type"', _DEEP + b', "_type"', 1)),
        "with a lone surrogate": signed(role, x="\ud800"),
        "with a fraction where it is signed": signed(role, x=1.5),
        "without signatures": unsigned_change(role, lambda its: its.pop("signatures")),
        "with signatures that are none": unsigned_change(role, lambda its: its.update(signatures=[7])),
        "with one signature twice": unsigned_change(role, lambda its: its["signatures"].append(its["signatures"][0])),
        "without a signed part": unsigned_change(role, lambda its: its.pop("signed")),
        "with a key twice": file_of(role, lambda data: data.replace(b'{"sig', b'{"signed": {}, "sig', 1)),
        "with a signed key twice": file_of(role, lambda data: data.replace(b'"_type"', b'"version": 1, "_type"', 1)),
        "with a number that is none": file_of(role, lambda data: data.replace(b'"_type"', b'"x": NaN, "_type"', 1)),
    }
    for words, act in malformed.items():
        yield case(words, Flaw.NOT_METADATA, act)
    yield case("longer than any may be", Flaw.ENDLESS_METADATA, file_of(role, lambda data: data.ljust(TOO_MANY[name])))
    yield case("of another role", Flaw.OTHER_TYPE, lambda draft: draft.edit(role, lambda _: _another(draft, role)))


def _case(role: str, defect: str, expected: Any, act: Act, **more: Any) -> Case:
    return Case(f"{role} {defect}", expected, act, **more)


def _another(draft: Draft, role: str) -> Json:
    repository = role.partition("/")[0]
    other = f"{repository}/{'snapshot' if _name(role) == 'timestamp' else 'timestamp'}"
    return {**copy.deepcopy(draft.signed[other]), "version": draft.versions[role]}


# --- who signed -------------------------------------------------------------------------------------


def _of_signatures(role: str) -> Iterator[Case]:
    repository, _, name = role.partition("/")
    case = partial(_case, role)
    other = "image" if repository == "director" else "director"
    yield case("that nobody signed", Flaw.UNSIGNED, by(role))
    yield case("by a stranger", Flaw.STRANGERS_KEY, by(role, "stranger"), words="by a stranger")
    yield case(
        "by the other repository's key",
        Flaw.STRANGERS_KEY,
        by(role, f"{other}-{name if name != 'model' else 'targets'}"),
    )
    neighbour = "snapshot" if name != "snapshot" else "timestamp"
    yield case("by another role's key", Flaw.OTHER_ROLES_KEY, by(role, f"{repository}-{neighbour}"), words=neighbour)
    yield case("by a root key", Flaw.OTHER_ROLES_KEY, by(role, f"{repository}-root-1"), words="root")
    changed = _flaw("CHANGED_{}", role)
    yield case("changed after it was signed", changed, unsigned_change(role, _later), words="isn't what its")
    yield case(
        "with a stranger's signature under the right name", changed,
        lambda draft: draft.edit(f"{role} signatures", lambda its: [_as_if(draft, role, its[0]["keyid"])]),
    )  # fmt: skip
    yield case("with an empty signature", changed, _signature(role, ""))
    yield case("with a signature that is no hex", changed, _signature(role, "zz"))
    yield case("with a signature cut short", changed, lambda draft: draft.edit(
        f"{role} signatures", lambda its: [{**its[0], "sig": its[0]["sig"][:-2]}]
    ))  # fmt: skip
    two = _two_signers(role)
    yield case("by one of two", Flaw.TOO_FEW_SIGNERS, lambda draft: draft.by[role].pop(), given=two, words="1 of the 2")
    yield case(
        "by one of two, and a stranger", Flaw.TOO_FEW_SIGNERS,
        lambda draft: draft.by[role].__setitem__(1, "stranger"), given=two,
    )  # fmt: skip
    yield case(
        "by one of two, who signed twice", Flaw.NOT_METADATA,
        lambda draft: draft.by[role].__setitem__(1, draft.by[role][0]), given=two,
    )  # fmt: skip
    yield case("by the key before the last change", Flaw.STRANGERS_KEY, by(role, *_keys(role)), given=_rekeyed(role))


def _keys(role: str) -> tuple[str, ...]:
    return (role.replace("/", "-"),) if _name(role) != "model" else ("model",)


def _later(content: Json) -> None:
    content["signed"]["expires"] = "2099-01-01T00:00:00Z"


def _as_if(draft: Draft, role: str, key_id: str) -> Json:
    return {**draft.signature({**draft.signed[role], "version": draft.versions[role]}, "stranger"), "keyid": key_id}


def _signature(role: str, value: str) -> Act:
    return lambda draft: draft.edit(f"{role} signatures", lambda its: [{**its[0], "sig": value}])


def _two_signers(role: str) -> Act:
    repository, _, name = role.partition("/")

    def given(draft: Draft) -> None:
        if name == "model":
            draft.add_key(role, "second", 2)
            return
        names = [*_keys(role), "second"]
        _with_root(draft, repository, lambda root: draft.keyed(root, name, names, 2))
        draft.by[role] = names

    return given


def _rekeyed(role: str) -> Act:
    repository, _, name = role.partition("/")

    def given(draft: Draft) -> None:
        if name == "model":
            draft.add_key(role, "new-1", 1)
            entry = next(its for its in draft.signed["image/targets"]["delegations"]["roles"] if its["name"] == name)
            del entry["keyids"][0]
        else:
            _with_root(draft, repository, lambda root: draft.keyed(root, name, ["new-1"]))
        draft.by[role] = ["new-1"]

    return given


def _with_root(draft: Draft, repository: str, edit: Callable[[Json], None]) -> None:
    draft.new_root(repository, edit, [f"{repository}-root-1", f"{repository}-root-2"])


# --- numbers ----------------------------------------------------------------------------------------


def _of_numbers(role: str) -> Iterator[Case]:
    other = {"timestamp": None, "snapshot": Flaw.OTHER_SNAPSHOT, "targets": Flaw.OTHER_TARGETS}
    expected = other.get(_name(role), Flaw.OTHER_DELEGATED)
    case = partial(_case, role)
    for words, value in (("negative", -1), ("nought", 0), ("a fraction", 6.0), ("words", "6")):
        yield case(f"whose version is {words}", Flaw.NOT_METADATA, signed(role, version=value))
    # The library takes nothing for 1, and so for other bytes than were signed.
    yield case("whose version is nothing", _flaw("CHANGED_{}", role), signed(role, version=None))
    yield case("without a version", Flaw.NOT_METADATA, without(role, "version"))
    if expected is None:
        yield case("whose version is huge", Flaw.VERSION_OUT_OF_RANGE, signed(role, version=HUGE))
        yield case("whose version is a truth", Flaw.VERSION_OUT_OF_RANGE, signed(role, version=True))
        return
    yield case("whose version is a truth", expected, signed(role, version=True))
    yield case("of a higher version than is named", expected, signed(role, version=SEEN + 2))
    yield case("of a lower version than is named", expected, signed(role, version=SEEN))
    yield case("whose version is huge", Flaw.VERSION_OUT_OF_RANGE, lambda draft: draft.versions.update({role: HUGE}))


def _rolled_back(role: str) -> Iterator[Case]:
    def older(draft: Draft) -> None:
        draft.versions[role] = SEEN - 1

    case = partial(_case, role)
    numbers = rf"version {SEEN - 1}, seen {SEEN}"
    yield case(
        "older than was seen", _flaw("{}_ROLLBACK", role), older, before=Before.KEPT,
        words=numbers if role in TIMESTAMPS else "",
    )  # fmt: skip
    yield case(
        "older than was seen, and forgotten", Flaw.FORGOTTEN_ROLLBACK, older, before=Before.FORGETFUL, words=numbers
    )


# --- what names them --------------------------------------------------------------------------------


def _named_from_above() -> Iterator[Case]:
    for role in (*SNAPSHOTS, *TARGETS):
        repository, _, name = role.partition("/")
        above = f"{repository}/{'timestamp' if name == 'snapshot' else 'snapshot'}"
        flaw = Flaw.SNAPSHOT_HASH if name == "snapshot" else Flaw.TARGETS_HASH
        case = partial(_case, role)
        for words, expected, edit in (
            ("with another hash than is named", flaw, {"hashes": {"sha256": "0" * 64}}),
            ("with a hash that nobody knows", flaw, {"hashes": {"md4": "0" * 32}}),
            ("shorter than is named", flaw, {"length": 100_000}),
            ("longer than is named", Flaw.ENDLESS_METADATA, {"length": 10}),
            ("of no length", flaw, {"length": 0}),
            ("of less than no length", Flaw.NOT_METADATA, {"length": -5}),
            ("with no hashes", Flaw.NOT_METADATA, {"hashes": {}}),
            ("of version nought", Flaw.NOT_METADATA, {"version": 0}),
            ("of a version in words", Flaw.NOT_METADATA, {"version": "6"}),
        ):
            yield case(words, expected, _meta(above, name, edit), given=_hashed)
        yield case("that isn't there", FetchError, _meta(above, name, {"version": 9}))
        yield case("that isn't named", _unnamed(name), _meta(above, name, None))
        yield case("with a space in another place", flaw, _spaced(role), given=_hashed)
    for role in ("director/targets", "image/targets", "image/model"):
        repository, _, name = role.partition("/")
        yield _case(
            role, "that isn't named any more", Flaw.ROLE_WITHDRAWN, _meta(f"{repository}/snapshot", name, None),
            before=Before.KEPT,
        )  # fmt: skip
    yield Case(
        "image/plan that isn't named any more", Flaw.ROLE_WITHDRAWN, _meta("image/snapshot", "plan", None),
        before=Before.KEPT,
    )  # fmt: skip
    yield Case(
        "image/plan named in an older version", Flaw.DELEGATED_ROLLBACK,
        _meta("image/snapshot", "plan", {"version": 1}), before=Before.KEPT, words="plan",
    )  # fmt: skip


def _unnamed(name: str) -> Flaw:
    return Flaw.NOT_METADATA if name == "snapshot" else Flaw.UNLISTED_ROLE


def _hashed(draft: Draft) -> None:
    draft.has_hashes = True


def _meta(above: str, name: str, change: Json | None) -> Act:
    def edit(its: Json) -> None:
        if change is None:
            del its["meta"][f"{name}.json"]
        else:
            its["meta"][f"{name}.json"] |= change

    return lambda draft: draft.edit(above, edit)


def _spaced(role: str) -> Act:
    """After its hash was named: as many bytes, and others."""

    def change(files: dict[str, bytes]) -> None:
        name = role.partition("/")[2]
        for path, data in files.items():
            if path.startswith(role.partition("/")[0]) and path.endswith(f".{name}.json"):
                files[path] = data.replace(b", ", b" ,", 1)

    return lambda draft: draft.edit("files", change)


# --- what they say ----------------------------------------------------------------------------------


def _of_content() -> Iterator[Case]:
    delegations = "image/targets"
    for words, edit in {
        "that delegate with a key twice": lambda its: its["roles"][0]["keyids"].append(its["roles"][0]["keyids"][0]),
        "that delegate to two of a name": lambda its: its["roles"].append(its["roles"][0]),
        "that delegate to a role of the four": lambda its: its["roles"][0].update(name="snapshot"),
        "that want no signature": lambda its: its["roles"][0].update(threshold=0),
        "that want a signature in words": lambda its: its["roles"][0].update(threshold="1"),
        "that delegate by nothing": lambda its: its["roles"][0].pop("paths"),
        "that delegate by paths and hashes": lambda its: its["roles"][0].update(path_hash_prefixes=["00"]),
        "that don't say if they end there": lambda its: its["roles"][0].pop("terminating"),
        "that delegate and list no keys": lambda its: its.pop("keys"),
    }.items():
        yield Case(f"{delegations} {words}", Flaw.NOT_METADATA, _delegations(edit))
    yield Case(
        f"{delegations} that name no key of a kind", Flaw.STRANGERS_KEY,
        _delegations(lambda its: _entry(its, "model").update(keyids=[])),
    )  # fmt: skip
    for judged, judge in JUDGES.items():
        words = f"{delegations} that let the {judge} key sign {judged}"
        yield Case(words, Flaw.JUDGE_IN_OWN_CAUSE, _delegations(partial(_share, judged, judge)))
    for kind in ("campaign", "evaluation", "state", "crops", "config", "plan", "runtime", "system"):
        yield Case(f"image/model by the key of {kind}", Flaw.OTHER_KINDS_KEY, by("image/model", kind), words=kind)
    for role in TARGETS:
        changes: dict[str, Json] = {
            "with a length in words": {"length": "5"},
            "with a length below nought": {"length": -1},
            "without a length": {"length": None},
            "with hashes that are none": {"hashes": []},
        }
        for words, change in changes.items():
            if role != "image/targets":
                yield _case(role, f"names a release {words}", Flaw.NOT_METADATA, _target(role, change))


def _delegations(edit: Callable[[Json], object]) -> Act:
    return lambda draft: draft.edit("image/targets", lambda its: edit(its["delegations"]) and None)


def _share(judged: str, judge: str, delegations: Json) -> None:
    _entry(delegations, judged)["keyids"].extend(_entry(delegations, judge)["keyids"])


def _entry(delegations: Json, kind: str) -> Json:
    its: Json = next(entry for entry in delegations["roles"] if entry["name"] == kind)
    return its


def _target(role: str, change: Json) -> Act:
    def edit(its: Json) -> None:
        (target,) = its["targets"].values()
        target.update(change)
        for name in [name for name, value in change.items() if value is None]:
            del target[name]

    return lambda draft: draft.edit(role, edit)
