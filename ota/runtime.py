"""A release of the runtime: our own wheel, unpacked, with `runtime.json`, which says what it needs beside it.

The interpreter and third-party wheels are what the vehicle was shipped with: all together they are 405 MB, and change
rarely. So a release names the interpreter's kind and the very versions that it was tested with, and a vehicle that has
others never arms it. What they have in common is one digest, for people and for a fleet's records.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from ota.errors import Flaw, TrustError

FACTS_NAME: Final = "runtime.json"
MOST_BYTES: Final = 64 << 20
"""Of a wheel, unpacked: whoever packs one may be given any file."""


class RuntimeFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`python` is the interpreter's cache tag, such as "cpython-311"; `wheels` maps a distribution to its version."""

    python: str
    wheels: dict[str, str]

    @property
    def dependency_digest(self) -> str:
        """Equal for equal wheels."""
        return hashlib.sha256(msgspec.json.encode(sorted(self.wheels.items()))).hexdigest()


def read_facts(data: bytes) -> RuntimeFacts:
    """Raises TrustError(MALFORMED): signed or not, nobody knows what it runs with."""
    try:
        return msgspec.json.decode(data, type=RuntimeFacts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrustError(Flaw.UNKNOWN_NEEDS, f"{FACTS_NAME} of a runtime: {error}") from error


def write_facts(facts: RuntimeFacts) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(facts, wheels=dict(sorted(facts.wheels.items()))))


def why_unfit(
    wanted: RuntimeFacts, python: str | None = sys.implementation.cache_tag, version: Callable[[str], str] | None = None
) -> str:
    """Why it can't run here, in words; "" where it can. `version` gives that of a distribution, or raises
    PackageNotFoundError."""
    if wanted.python != python:
        return f"it is for {wanted.python}, and here runs {python}"
    differ = list(_differing(wanted.wheels, version or importlib.metadata.version))
    return f"it needs other libraries than there are here: {', '.join(differ)}" if differ else ""


def _differing(wheels: Mapping[str, str], version: Callable[[str], str]) -> list[str]:
    found = []
    for name, wanted in sorted(wheels.items()):
        try:
            there = version(name)
        except importlib.metadata.PackageNotFoundError:
            there = "none"
        if there != wanted:
            found.append(f"{name} {wanted} (there is {there})")
    return found


def installed(distribution: str = "outrider") -> RuntimeFacts:
    """Of the interpreter that runs this, and of all that the distribution requires, directly or not, and is installed.
    What it has for extras alone isn't looked at."""
    wheels, wanted = dict[str, str](), [distribution]
    while wanted:
        try:
            its = importlib.metadata.distribution(wanted.pop())
        except importlib.metadata.PackageNotFoundError:
            continue
        name = _plain_name(its.name)
        if name not in wheels:
            wheels[name] = its.version
            wanted += [_required(line) for line in its.requires or () if "extra ==" not in line]
    wheels.pop(_plain_name(distribution), None)
    return RuntimeFacts(sys.implementation.cache_tag or "", wheels)


def _required(line: str) -> str:
    """The distribution that a line of metadata requires (Core metadata specification, Requires-Dist)."""
    return re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]


def _plain_name(name: str) -> str:
    """One spelling for each (PyPA, name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


# --- at the desk -----------------------------------------------------------------------------------


def unpack_wheel(wheel: Path, folder: Path, facts: RuntimeFacts) -> None:
    """The folder of a release, ready to be added. Raises ValueError for a wheel that no vehicle should get."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(wheel) as packed:
        files = [entry for entry in packed.infolist() if not entry.is_dir()]
        if sum(entry.file_size for entry in files) > MOST_BYTES:
            raise ValueError(f"{wheel.name} unpacks to more than {MOST_BYTES} bytes")
        for entry in files:
            _demand_inside(wheel, entry.filename)
            target = folder / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(packed.read(entry))
    (folder / FACTS_NAME).write_bytes(write_facts(facts))


def _demand_inside(wheel: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or name == FACTS_NAME:
        raise ValueError(f"{wheel.name} has a file {name!r}, which can't be in a release")
