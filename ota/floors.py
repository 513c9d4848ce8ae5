"""What must never sink: versions of metadata, the release that is installed, and the time.

python-tuf remembers versions in files that a power cut may empty; these are kept in twins. Both twins unreadable means
that updates are refused until the vehicle is provisioned anew: it never means zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ecu.disk import Disk
from ecu.twin import TwinLost, TwinRecord
from ota.errors import Flaw, OtaError, TrustError
from ota.kinds import Kind

_CAPACITY: Final = 16 * 1024
_MOST_ROLES: Final = 128
_BOOTABLE: Final = "bootable/"


class FloorsLost(OtaError):
    """Neither twin of a floor is whole and understood: what was the newest can't be known."""


class _Metadata(msgspec.Struct, frozen=True):
    versions: dict[str, int] = {}
    signed_at_s: int = 0


class Floors:
    """`metadata` rises with each verified refresh, `release` with each commit. Raises FloorsLost, DiskError."""

    def __init__(self, disk: Disk) -> None:
        self._metadata = TwinRecord(disk, "floors.metadata", _CAPACITY)
        self._releases = TwinRecord(disk, "floors.release")

    # --- metadata ---------------------------------------------------------------------------------

    @property
    def signed_at_s(self) -> int:
        """The latest second at which verified metadata says it was signed: no clock before it is right."""
        return self._read().signed_at_s

    @property
    def versions(self) -> dict[str, int]:
        """The highest that were verified, by "repository/role#keys"."""
        return self._read().versions

    def demand_current(self, versions: Mapping[str, int]) -> None:
        """`versions` by "repository/role#keys". Raises TrustError(ROLLBACK) for one below its floor."""
        floors = self._read().versions
        for role, version in versions.items():
            if version < floors.get(role, 0):
                name = role.partition("#")[0]
                flaw = Flaw.ROOT_ROLLBACK if name.endswith("/root") else Flaw.FORGOTTEN_ROLLBACK
                raise TrustError(flaw, f"offered {name} version {version}, seen {floors[role]}")

    def raise_metadata(self, versions: Mapping[str, int], signed_at_s: int) -> None:
        """Durable in both twins when it returns."""
        floors = self._read()
        raised = {role: max(version, floors.versions.get(role, 0)) for role, version in versions.items()}
        others = {role: version for role, version in floors.versions.items() if role not in raised}
        # Those of keys that were rotated out come first, and the oldest of them are forgotten first.
        kept = dict(list((others | raised).items())[-_MOST_ROLES:])
        new = _Metadata(kept, max(signed_at_s, floors.signed_at_s))
        if new != floors:
            self._metadata.write_both(msgspec.json.encode(new))

    def _read(self) -> _Metadata:
        try:
            payload = self._metadata.read_both()
            return msgspec.json.decode(payload, type=_Metadata) if payload is not None else _Metadata()
        except (TwinLost, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _lost(error) from error

    # --- releases ---------------------------------------------------------------------------------

    def release(self, kind: Kind) -> int:
        """The highest release of the kind that was ever committed; 0 when none was."""
        return self._read_releases().get(kind, 0)

    def demand_newer(self, kind: Kind, release: int, held: int) -> None:
        """Raises TrustError(ROLLBACK) for a release below the highest that was ever committed, or at or below the one
        that is `held` now: what was committed and then lost to damage may come again."""
        installed = self.release(kind)
        if release < installed or release <= held:
            raise TrustError(Flaw.RELEASE_ROLLBACK, f"offered release {release}, installed {installed}")

    def make_room(self) -> None:
        """Once it returns no later commit needs space for its floor."""
        if self._releases.read_both() is None:
            self._releases.write_both(msgspec.json.encode({}))

    def raise_release(self, kind: Kind, release: int, bootable_from: int = 0) -> None:
        """Durable in both twins when it returns. Only at the commit: until then the old one must stay bootable.

        `bootable_from` is what the release says of its kind: below that number nothing boots any more.
        """
        floors = self._read_releases()
        raised = {
            **floors,
            kind.value: max(release, floors.get(kind, 0)),
            _BOOTABLE + kind: max(bootable_from, floors.get(_BOOTABLE + kind, 0)),
        }
        if any(number > floors.get(name, 0) for name, number in raised.items()):
            self._releases.write_both(msgspec.json.encode({name: number for name, number in raised.items() if number}))

    def bootable_from(self, kind: Kind) -> int:
        """The least release of the kind that may boot; 0 where all may, the factory's too."""
        return self._read_releases().get(_BOOTABLE + kind, 0)

    def _read_releases(self) -> dict[str, int]:
        try:
            payload = self._releases.read_both()
            return msgspec.json.decode(payload, type=dict[str, int]) if payload is not None else {}
        except (TwinLost, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _lost(error) from error


def _lost(error: Exception) -> FloorsLost:
    return FloorsLost(f"{error} Updates are refused until this vehicle is provisioned anew.")
