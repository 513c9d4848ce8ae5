"""Forged and stale offers to the vehicle's own update code: each refused by its name, and its honest twin taken.

Every vehicle here has looked at an honest repository before. It is then offered the attack, and after that, by the same
process over the same folder, what differs from the attack in nothing but the defect.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from ecu.clock import SECOND_NS, Clock, OffsetClock
from ecu.disk import state_folder
from ota.errors import Attack, OtaError, TrustError
from ota.kinds import Kind
from ota.layout import file_path
from ota.machine import State
from ota.manifest import BLOCK_BYTES, BundleManifest
from ota.repository import KeyFolder
from ota.source import PART_BYTES, FolderSource, Source
from ota.trust import ANY_HARDWARE, Roots, Vehicle
from ota.updates import Updates
from simulator.demo.signing import SigningDesk

CAR: Final = "demo-bench"
OTHER_CAR: Final = "demo-bench-2"
EXPIRED_AFTER_DAYS: Final = 8
SEED: Final = 1605
_RELEASE_BYTES: Final = 2 * BLOCK_BYTES + 12_345
_AUDIT: Final = ("audit", "audit.old")
_DAY_NS: Final = 86_400 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Refusal:
    """What came of one offer. `refused_as` is the attack's name, or what else stopped it, and None when it was taken;
    `changed` are the files, but for the audit, whose bytes are others afterwards; `is_audited`: the audit's last entry
    names the attack."""

    what: str
    attack: Attack
    refused_as: str | None
    changed: tuple[str, ...]
    is_audited: bool
    twin_taken: bool

    @property
    def holds(self) -> bool:
        return self.refused_as == self.attack and not self.changed and self.is_audited and self.twin_taken


@dataclass(frozen=True, slots=True)
class Offering:
    """An attack and its twin, to a vehicle that begins with the folder `seen`; `days` is how far its clock has gone
    on when the attack comes."""

    what: str
    attack: Attack
    seen: Path
    forged: Source
    honest: Source
    days: int = 0


def refusals(root: Path, clock: Clock) -> tuple[Refusal, ...]:
    """All six, in the folder `root`."""
    fleet = _Fleet(root, clock)
    return tuple(
        _refusal(offering, fleet.desk.roots, root / f"car-{number}", clock)
        for number, offering in enumerate(fleet.offerings())
    )


def _refusal(offering: Offering, roots: Roots, folder: Path, clock: Clock) -> Refusal:
    shutil.copytree(offering.seen, folder)
    wall = OffsetClock(clock)
    car = _car(folder, roots, wall)
    before = _contents(folder)
    wall.correct(clock.wall_ns() + offering.days * _DAY_NS)
    refused_as = _offer(car, offering.forged)
    changed = _changed(before, _contents(folder))
    last = car.audit().entries()[-1:]
    is_audited = any(entry.detail.startswith(f"{offering.attack}: ") for entry in last)
    wall.correct(clock.wall_ns())
    taken = _offer(car, offering.honest) is None and car.status()[0].state is State.STAGED
    return Refusal(offering.what, offering.attack, refused_as, changed, is_audited, taken)


def _car(folder: Path, roots: Roots, clock: Clock) -> Updates:
    return Updates(state_folder(folder), roots, Vehicle(CAR, ANY_HARDWARE), clock, lambda notice: None)


def _offer(car: Updates, source: Source) -> str | None:
    """The attack that it is refused as, or what else went wrong with it; None when all of it was taken."""
    try:
        for offer in car.check(source):
            car.install(source, offer, lambda progress: None)
    except TrustError as refusal:
        return refusal.attack
    except OtaError as trouble:
        return type(trouble).__name__
    return None


def _contents(folder: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> tuple[str, ...]:
    names = sorted(before.keys() | after.keys())
    return tuple(name for name in names if name not in _AUDIT and before.get(name) != after.get(name))


class _Fleet:
    """A desk that has published twice, and a vehicle's folder as each publication left it after one look."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self.desk = SigningDesk(root / "desk", clock)
        self._root = root
        self._publish(self.desk, 1)
        self._seen_first = self._look("seen-first", clock)
        self._first = root / "first"
        shutil.copytree(self.desk.fleet, self._first)
        self._release = self._publish(self.desk, 2)
        self._seen_second = self._look("seen-second", clock)
        self._stranger = SigningDesk(root / "stranger", clock)
        for number in (1, 2):
            self._publish(self._stranger, number)

    def offerings(self) -> tuple[Offering, ...]:
        first, second = self._seen_first, self._seen_second
        honest = FolderSource(self.desk.fleet, CAR)
        block = file_path(self._release.files[0].sha256)
        return (
            Offering(
                "a flipped byte in its second block", Attack.TAMPERED, second,
                Changed(honest, lambda path, data: _flipped(data) if path == block else data), honest,
            ),
            Offering(
                "expired metadata", Attack.FREEZE, first, honest, honest, EXPIRED_AFTER_DAYS,
            ),
            Offering("an old release", Attack.ROLLBACK, second, FolderSource(self._first, CAR), honest),
            Offering(
                "another vehicle's metadata", Attack.WRONG_VEHICLE, first,
                FolderSource(self.desk.fleet, OTHER_CAR), honest,
            ),
            Offering(
                "a stranger's signature", Attack.WRONG_SIGNER, first,
                FolderSource(self._stranger.fleet, CAR), honest,
            ),
            Offering(
                "a model signed by the campaign key", Attack.WRONG_SIGNER, first,
                signed_by(honest, self.desk.keys, Kind.CAMPAIGN), signed_by(honest, self.desk.keys, Kind.MODEL),
            ),
        )  # fmt: skip

    def _publish(self, desk: SigningDesk, number: int) -> BundleManifest:
        folder = self._root / f"release-{number}"
        folder.mkdir(exist_ok=True)
        (folder / "weights").write_bytes(Random(SEED + number).randbytes(_RELEASE_BYTES))
        release = desk.release(folder, Kind.MODEL, "drive", f"{number}.0", number)
        desk.assign([CAR, OTHER_CAR], [release])
        return release

    def _look(self, name: str, clock: Clock) -> Path:
        folder = self._root / name
        _car(folder, self.desk.roots, clock).check(FolderSource(self.desk.fleet, CAR))
        return folder


class Changed:
    """A source whose every file is as `change(path, content)` makes it."""

    def __init__(self, source: Source, change: Callable[[str, bytes], bytes]) -> None:
        self._source = source
        self._change = change

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        whole = self._change(path, b"".join(self._source.read(path, 0, 1 << 40)))[offset : offset + most]
        yield from (whole[at : at + PART_BYTES] for at in range(0, len(whole), PART_BYTES))

    def close(self) -> None:
        self._source.close()


def signed_by(source: Source, keys: KeyFolder, signer: Kind) -> Source:
    """The source with its models' metadata signed by another kind's key in place of whoever signed it."""
    key = keys.signer(signer)

    def change(path: str, data: bytes) -> bytes:
        if not re.fullmatch(r"image/\d+\.model\.json", path):
            return data
        content = json.loads(data)
        # Canonical JSON, for what has no character that it writes in another way.
        payload = json.dumps(content["signed"], sort_keys=True, separators=(",", ":")).encode()
        return json.dumps({**content, "signatures": [key.sign(payload).to_dict()]}).encode()

    return Changed(source, change)


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
