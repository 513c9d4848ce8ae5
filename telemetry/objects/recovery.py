"""What a start finds in the folder, whatever instant the process or the power ended at before."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from ecu.disk import Disk, DiskFault, beside
from telemetry.objects.errors import BadObject
from telemetry.objects.format import HEADER_BYTES, ObjectRef, file_name, serial_of, unpack_header
from telemetry.records import Purpose


@dataclass(frozen=True, slots=True)
class Found:
    """`kept` by rising serial; `corrupt` and `unreadable` by serial, since such a file says nothing about itself (the
    latter may yet); `useless` names what was half written, has left, or is of a purpose being erased."""

    kept: tuple[ObjectRef, ...]
    corrupt: frozenset[int]
    unreadable: frozenset[int]
    useless: tuple[str, ...]
    next_serial: int


def survey(disk: Disk, leaving: Set[int], erasing: Set[Purpose]) -> Found:
    """Touches nothing. Raises DiskError, but for a file that the medium doesn't give back."""
    names = disk.names("")
    serials = sorted(serial for name in names if (serial := serial_of(name)) is not None)
    useless = [name for name in names if _is_half_written(name)]
    kept: list[ObjectRef] = []
    corrupt, unreadable = set[int](), set[int]()
    for serial in serials:
        if serial in leaving:
            useless.append(file_name(serial))
            continue
        try:
            ref = _ref(disk, serial)
        except BadObject:
            corrupt.add(serial)
        except DiskFault:
            unreadable.add(serial)
        else:
            useless.append(file_name(serial)) if ref.purpose in erasing else kept.append(ref)
    next_serial = max((0, *serials, *leaving)) + 1
    return Found(tuple(kept), frozenset(corrupt), frozenset(unreadable), tuple(useless), next_serial)


def _is_half_written(name: str) -> bool:
    whole = name.removesuffix(".tmp")
    return name == beside(whole) and serial_of(whole) is not None


def _ref(disk: Disk, serial: int) -> ObjectRef:
    """What the file's header says. Raises BadObject when its name or its length says something else."""
    name = file_name(serial)
    ref = unpack_header(disk.read_at(name, 0, HEADER_BYTES)).ref
    if (ref.serial, ref.file_bytes) != (serial, disk.size(name)):
        raise BadObject(f"{name} isn't the file that its header was written for")
    return ref
