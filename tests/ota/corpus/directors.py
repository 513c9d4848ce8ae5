"""What the two repositories say of this vehicle and of each other; and what was signed against what is installed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from ota.errors import Flaw
from ota.floors import Floors
from ota.kinds import Kind
from ota.layout import VEHICLE_FIELD
from tests.ota.corpus.base import Json
from tests.ota.corpus.case import Act, Before, Case
from tests.ota.corpus.draft import Draft
from tests.ota.corpus.metadata import edited, signed, without
from tests.ota.fleet import Unsynced

DIRECTED, IMAGE = "director/targets", "image/model"


def director_cases() -> Iterator[Case]:
    yield from _of_the_vehicle()
    yield from _disagreeing()
    yield from _naming_what_isnt_there()
    yield from _of_custom()
    yield from _of_names()
    yield from _of_releases()


def _case(defect: str, expected: Flaw, act: Act, **more: Any) -> Case:
    return Case(f"director {defect}", expected, act, **more)


def _of_the_vehicle() -> Iterator[Case]:
    for named in ("car-2", "CAR-1", "car-1 ", "car-11", "", "car-1\n"):
        yield _case(f"names the vehicle {named!r}", Flaw.OTHER_VEHICLE, signed(DIRECTED, **{VEHICLE_FIELD: named}))
    for value in (1, ["car-1"], True, {"car-1": 1}):
        yield _case(f"names {value!r} for a vehicle", Flaw.NO_VEHICLE, signed(DIRECTED, **{VEHICLE_FIELD: value}))
    yield _case("names no vehicle", Flaw.NO_VEHICLE, without(DIRECTED, VEHICLE_FIELD), words="None.*car-1")
    yield _case("delegates", Flaw.DELEGATING_DIRECTOR, _delegates)
    yield _case(
        "delegates to nobody", Flaw.DELEGATING_DIRECTOR, signed(DIRECTED, delegations={"keys": {}, "roles": []})
    )


def _delegates(draft: Draft) -> None:
    signed(DIRECTED, delegations=copy.deepcopy(draft.signed["image/targets"]["delegations"]))(draft)


# --- targets ----------------------------------------------------------------------------------------


def target(role: str, edit: Callable[[Json], object]) -> Act:
    def change(its: Json) -> None:
        for each in its["targets"].values():
            edit(each)

    return lambda draft: draft.edit(role, change)


def both_targets(edit: Callable[[Json], object]) -> Act:
    """What both repositories say, in agreement."""

    def act(draft: Draft) -> None:
        target(DIRECTED, edit)(draft)
        target(IMAGE, edit)(draft)

    return act


def renamed(*roles: str, to: str, keep: bool = False) -> Act:
    def change(its: Json) -> None:
        ((name, entry),) = its["targets"].items()
        its["targets"] = {**({name: entry} if keep else {}), to: entry}

    def act(draft: Draft) -> None:
        for role in roles:
            draft.edit(role, change)

    return act


def _disagreeing() -> Iterator[Case]:
    for role in (DIRECTED, IMAGE):
        who = role.partition("/")[0]
        for words, flaw, edit in (
            ("a byte more", Flaw.OTHER_LENGTH, lambda its: its.update(length=its["length"] + 1)),
            ("a byte less", Flaw.OTHER_LENGTH, lambda its: its.update(length=its["length"] - 1)),
            ("another hash", Flaw.OTHER_HASH, lambda its: its.update(hashes={"sha256": "0" * 64})),
            ("another kind of hash", Flaw.OTHER_HASH, lambda its: its.update(hashes={"sha512": "0" * 128})),
            ("one hash more", Flaw.OTHER_HASH, lambda its: its["hashes"].update(sha512="0" * 128)),
            ("another release", Flaw.OTHER_CUSTOM, lambda its: its["custom"].update(release=9)),
            ("other hardware", Flaw.OTHER_CUSTOM, lambda its: its["custom"].update(hardware=["any"])),
            ("no custom part", Flaw.OTHER_CUSTOM, lambda its: its.pop("custom")),
        ):
            yield Case(f"{who} alone says {words}", flaw, target(role, edit), words="disagree")


def _naming_what_isnt_there() -> Iterator[Case]:
    other = "model/drive-9.0.json"
    yield _case("names what nobody signed", Flaw.DIRECTOR_ALONE, renamed(DIRECTED, to=other), words="9.0")
    yield _case("names what is in its place no more", Flaw.DIRECTOR_ALONE, renamed(IMAGE, to=other))
    yield _case("names what another kind's key signed", Flaw.DIRECTOR_ALONE, _in_another_role)
    yield _case("names two of a kind", Flaw.TWO_OF_A_KIND, renamed(DIRECTED, IMAGE, to=other, keep=True))
    for path in ("model/../drive-2.0.json", "model/a/drive-2.0.json"):
        yield _case(
            f"names {path!r}, where no kind's key counts", Flaw.DIRECTOR_ALONE, renamed(DIRECTED, IMAGE, to=path)
        )
    for path in ("firmware/drive-2.0.json", "drive-2.0.json", "Model/drive-2.0.json", "/model/drive-2.0.json", ""):
        yield _case(f"names {path!r}", Flaw.UNKNOWN_KIND, renamed(DIRECTED, IMAGE, to=path))


def _in_another_role(draft: Draft) -> None:
    """A model that the campaign's owner signed."""
    held: list[Json] = []

    def put_aside(its: Json) -> None:
        held.append(its["targets"])
        its["targets"] = {}

    draft.edit(IMAGE, put_aside)
    draft.signed = {IMAGE: draft.signed[IMAGE], **draft.signed}
    draft.edit("image/campaign", lambda its: its.update(targets=held[0]))


def _of_custom() -> Iterator[Case]:
    for words, custom in (
        ("nothing", None),
        ("no release", {"hardware": ["any"]}),
        ("no hardware", {"release": 2}),
        ("a release in words", {"release": "2", "hardware": ["any"]}),
        ("a release that is a truth", {"release": True, "hardware": ["any"]}),
        ("hardware that is one word", {"release": 2, "hardware": "any"}),
        ("hardware that is numbers", {"release": 2, "hardware": [1]}),
        ("more than is known", {"release": 2, "hardware": ["any"], "canary": True}),
        ("a list", [2, ["any"]]),
    ):
        yield Case(f"target that says {words} of itself", Flaw.NO_CUSTOM, both_targets(_custom(custom)))
    for hardware in (["aarch64", "armv7l"], [], ["X86_64"], ["any "]):
        yield Case(
            f"target for {hardware}", Flaw.OTHER_HARDWARE,
            both_targets(_of_custom_part(hardware=hardware)), words="this is x86_64",
        )  # fmt: skip


def _custom(custom: object) -> Callable[[Json], object]:
    return lambda its: its.pop("custom") if custom is None else its.update(custom=custom)


def _of_names() -> Iterator[Case]:
    for path in ("model/dri ve.json", "model/é.json", "model/drive.zip", "model/"):
        yield Case(f"target named {path!r}", Flaw.UNASKABLE_NAME, renamed(DIRECTED, IMAGE, to=path))
    for words, hashes in (
        ("of another kind", {"sha512": "0" * 128}),
        ("that climbs", {"sha256": "/../" + "0" * 60}),
        ("that ends its line", {"sha256": "0" * 63 + "\n"}),
        ("in capitals", {"sha256": "A" * 64}),
        ("too short", {"sha256": "0" * 63}),
    ):
        yield Case(
            f"target with a hash {words}", Flaw.UNASKABLE_NAME,
            both_targets(_updated(hashes=hashes)),
        )  # fmt: skip
    yield Case(
        "target with an endless manifest", Flaw.ENDLESS_MANIFEST,
        both_targets(lambda its: its.update(length=(4 << 20) + 1)), words=str((4 << 20) + 1),
    )  # fmt: skip


def _updated(**changes: Any) -> Callable[[Json], object]:
    return lambda its: its.update(changes)


def _of_custom_part(**changes: Any) -> Callable[[Json], object]:
    return lambda its: its["custom"].update(changes)


def _once_kept(draft: Draft) -> None:
    """Release 5 was, and damage brought the vehicle back to release 1."""
    draft.release = 5
    draft.edit("state", lambda state: Floors(Unsynced(state)).raise_release(Kind.MODEL, 5))


def _of_releases() -> Iterator[Case]:
    for number in (1, 0, -3):
        yield Case(
            f"target of release {number}", Flaw.RELEASE_ROLLBACK,
            both_targets(_of_custom_part(release=number)), before=Before.KEPT,
            words=f"offered release {number}, installed 1",
        )  # fmt: skip
    yield Case(
        "target below a release that was kept and lost", Flaw.RELEASE_ROLLBACK,
        both_targets(_of_custom_part(release=3)), _once_kept, Before.KEPT,
        words="offered release 3, installed 5",
    )  # fmt: skip
    for words, flaw, change in (
        ("another release", Flaw.OTHER_RELEASES_MANIFEST, {"release": 3}),
        ("another version", Flaw.OTHER_RELEASES_MANIFEST, {"version": "2.1"}),
        ("another name", Flaw.OTHER_RELEASES_MANIFEST, {"name": "other"}),
        ("another kind", Flaw.OTHER_RELEASES_MANIFEST, {"kind": "config"}),
        ("other hardware", Flaw.OTHER_HARDWARES_MANIFEST, {"hardware": ["aarch64"]}),
        ("more hardware", Flaw.OTHER_HARDWARES_MANIFEST, {"hardware": ["x86_64", "aarch64"]}),
        ("any hardware", Flaw.OTHER_HARDWARES_MANIFEST, {"hardware": ["any"]}),
    ):
        yield Case(f"manifest of {words} than was signed", flaw, edited(_updated(**change)))
