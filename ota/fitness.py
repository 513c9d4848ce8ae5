"""Whether a release can be run here: what its manifest asks for, against what this vehicle is and holds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ota.errors import DoesNotFit, Flaw, TrustError
from ota.kinds import Kind
from ota.manifest import BundleManifest
from ota.ranges import is_within
from ota.trust import ANY_HARDWARE


@dataclass(frozen=True, slots=True)
class Host:
    """What would run it. Versions are as the computer tells them ("3.11.7"); `onnxruntime` is None where there is none,
    `abi` and `dependencies` are the running runtime's own, None where nobody knows them."""

    hardware: str
    python: str
    outrider: str
    onnxruntime: str | None = None
    abi: str | None = None
    dependencies: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A release that the vehicle has, or will have beside the one in question."""

    kind: Kind
    name: str
    release: int


def fits(manifest: BundleManifest, host: Host) -> None:
    """Raises TrustError(WRONG_HARDWARE) for what nobody should have assigned to this vehicle: other hardware, another
    ABI. Raises DoesNotFit for what another runtime here could run."""
    if not {ANY_HARDWARE, host.hardware} & set(manifest.hardware):
        raise TrustError(
            Flaw.OTHER_HARDWARE, f"{manifest.title} is for {', '.join(manifest.hardware)}, this is {host.hardware}"
        )
    its = manifest.runtime
    if its.abi is not None and host.abi is not None and its.abi != host.abi:
        raise TrustError(Flaw.OTHER_ABI, f"{manifest.title} is built for {its.abi}, this runs {host.abi}")
    if wrong := next(_unmet(manifest, host), None):
        raise DoesNotFit(f"{manifest.title} {wrong}")


def conflicts_of(manifest: BundleManifest, held: Iterable[Held]) -> tuple[str, ...]:
    """What keeps it from being installed beside `held`, in words: each release that it requires and isn't there, and
    each that is there and that it can't stand. Empty when nothing does."""
    there = tuple(held)
    return (*_missing(manifest, there), *_unbearable(manifest, there))


def _unmet(manifest: BundleManifest, host: Host) -> Iterator[str]:
    its = manifest.runtime
    for what, wanted, version in (
        ("Python", its.python, host.python),
        ("ONNX Runtime", its.onnxruntime, host.onnxruntime),
        ("Outrider", its.outrider, host.outrider),
    ):
        if wanted is not None and (version is None or not is_within(version, wanted)):
            yield f"needs {what} {wanted}, here is {version or 'none'}"
    if its.dependencies is not None and not its.brings_dependencies and its.dependencies != host.dependencies:
        yield "needs other third-party packages than are here, and doesn't bring them"


def _missing(manifest: BundleManifest, held: tuple[Held, ...]) -> Iterator[str]:
    for peer in manifest.requires:
        if not any(peer.covers(its.kind, its.name, its.release) for its in held):
            here = [str(its.release) for its in held if (its.kind, its.name) == (peer.kind, peer.name)]
            yield f"{manifest.title} requires {peer.words}; here is {'release ' + ', '.join(here) if here else 'none'}"


def _unbearable(manifest: BundleManifest, held: tuple[Held, ...]) -> Iterator[str]:
    for peer in manifest.conflicts:
        for its in held:
            if peer.covers(its.kind, its.name, its.release):
                yield f"{manifest.title} can't be beside {peer.words}; here is release {its.release}"
