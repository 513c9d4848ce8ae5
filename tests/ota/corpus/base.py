"""What every case begins with: a repository that the product's own desk made, taken apart, and a vehicle that keeps
release 1. Made once a process; plain values and keys, so that they outlive another import of the code under test."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

from securesystemslib.signer import CryptoSigner, Signer

from ecu.clock import SECOND_NS
from tests.ota.fleet import NOW_NS, Fleet

Json = dict[str, Any]

MIB: Final = 1 << 20
NOW_S: Final = NOW_NS // SECOND_NS
SEEN: Final = 5
"""The version of everything that the vehicle has seen; what it is offered is one above."""
NEWCOMERS: Final = ("stranger", "second", "new-1", "new-2", "new-3")


@dataclass(frozen=True, eq=False)
class Base:
    """`signed` are the signed parts of all roles by "repository/role". `old` and `new` are the content of the model of
    releases 1 and 2, two blocks and a bit, and `delta` is between them."""

    signed: Mapping[str, Json]
    signers: Mapping[str, Signer]
    roots: Mapping[str, bytes]
    old: bytes
    new: bytes
    delta: bytes


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@cache
def founded() -> Base:
    from ota.repository.keys import ALL_KEYS

    old = Random(1).randbytes(2 * MIB + 5_000)
    moved = bytearray(old)
    moved[::7] = old[::7].translate(bytes((byte + 1) & 255 for byte in range(256)))
    new = bytes(moved)
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder) / "fleet")
        fleet.assign(fleet.release("1.0", 1))
        signed = {
            f"{repository}/{path.name.split('.')[-2]}": json.loads(path.read_bytes())["signed"]
            for repository, its in (("image", "image/metadata"), ("director", "director/vehicles/car-1"))
            for path in sorted((fleet.repo / its).glob("*.json"))
        }
        roots = {its: (fleet.repo / its / "metadata/1.root.json").read_bytes() for its in ("image", "director")}
        signers = {name: fleet.keys.signer(name) for name in ALL_KEYS}
    signed |= {f"{its}/root": json.loads(data)["signed"] for its, data in roots.items()}
    strangers = {name: CryptoSigner.generate_ed25519() for name in NEWCOMERS}
    return Base(signed, {**signers, **strangers}, roots, old, new, _delta(old, new))


def _delta(old: bytes, new: bytes) -> bytes:
    from ota.delta import Ends
    from ota.repository.deltamaker import make

    bodies = list[bytes]()
    head = make(
        lambda at, size: old[at : at + size],
        lambda at, size: new[at : at + size],
        Ends(sha256(new), len(new), sha256(old), len(old)),
        bodies.append,
        lambda size: None,
    )
    assert head is not None
    return head + b"".join(bodies)
