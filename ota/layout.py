"""Where things lie: what a vehicle asks its source for, and the files of a published repository behind it.

director/<n>.root.json                    the fleet's own
director/timestamp.json, director/<n>.snapshot.json, director/<n>.targets.json     of the vehicle that asks
image/timestamp.json, image/<n>.<role>.json                                        the same for all
targets/<kind>/<sha256>.<name>-<version>.json                                      bundle manifests
files/<sha256>                                                                     the bundles' files
deltas/<sha256>.<sha256>                                                           a file as its difference from another
"""

from __future__ import annotations

import re
from typing import Final

UPDATES_PATH: Final = "/v1/updates"
"""Where a receiver has them, before each of these paths."""

DIRECTOR: Final = "director"
IMAGE: Final = "image"

VEHICLE_FIELD: Final = "x-outrider-vehicle"
"""In a director's targets: the one vehicle they are for. Nothing in TUF ties metadata to a vehicle."""
SIGNED_AT_FIELD: Final = "x-outrider-signed-at"
"""In a timestamp: the second at which it was signed. Vehicles never again believe a clock that is before it."""

_METADATA = re.compile(r"(director|image)/((?:\d{1,10}\.)?[a-z]{1,16}\.json)", re.ASCII)
_TARGET = re.compile(r"targets/[a-z]{1,16}/[0-9a-f]{64}\.[a-z0-9.-]{1,80}\.json", re.ASCII)
_FILE = re.compile(r"files/[0-9a-f]{64}", re.ASCII)
_DELTA = re.compile(r"deltas/[0-9a-f]{64}\.[0-9a-f]{64}", re.ASCII)
_VEHICLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def target_path(target: str, digest: str) -> str:
    """Where the manifest of the target "kind/name-version.json" is asked for (consistent snapshots, TUF section 7)."""
    folder, _, name = target.rpartition("/")
    return f"targets/{folder}/{digest}.{name}"


def file_path(sha256: str) -> str:
    return f"files/{sha256}"


def delta_path(new_sha256: str, old_sha256: str) -> str:
    """Where the difference of one file from another is asked for (docs/formats/delta.md). Nobody signs it."""
    return f"deltas/{new_sha256}.{old_sha256}"


def published(path: str, vehicle: str) -> str | None:
    """The repository's file for what `vehicle` asks for; None for what nobody may ask for."""
    if not _VEHICLE.fullmatch(vehicle):
        return None
    if found := _METADATA.fullmatch(path):
        repository, name = found.groups()
        if repository == IMAGE or name.endswith(".root.json"):
            return f"{repository}/metadata/{name}"
        return f"{DIRECTOR}/vehicles/{vehicle}/{name}"
    return f"{IMAGE}/{path}" if any(its.fullmatch(path) for its in (_TARGET, _FILE, _DELTA)) else None
