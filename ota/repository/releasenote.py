"""What is new in a release: against the one that it was made from, or else the one before it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ota.facts import Metric
from ota.kinds import Kind
from ota.manifest import BundleManifest, FileEntry


class Fate(StrEnum):
    NEW = "new"
    GONE = "gone"
    CHANGED = "changed"
    SAME = "same"


class Than(StrEnum):
    """A number against the parent's, measured with the same set. Where the intervals overlap nobody can tell."""

    BETTER = "better"
    WORSE = "worse"
    LEVEL = "can't be told apart"
    OTHER_SET = "measured with another set"
    NEW = "not measured before"


@dataclass(frozen=True, slots=True)
class Release:
    """One that is published, and the ids of its kind's keys that signed it."""

    target: str
    manifest: BundleManifest
    digest: str
    signed_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileChange:
    """`kept` of its blocks are those that the file of that name had before."""

    path: str
    fate: Fate
    size_before: int
    size: int
    blocks: int
    kept: int
    sha256: str


@dataclass(frozen=True, slots=True)
class MetricChange:
    metric: Metric
    before: Metric | None
    than: Than


@dataclass(frozen=True, slots=True)
class ReleaseNote:
    """`before` is what it is compared with: its parent (`is_parent`), else the release before it; None for a first one
    or where the parent isn't published here. `vehicles` are to have it now."""

    release: Release
    before: Release | None
    is_parent: bool
    files: tuple[FileChange, ...]
    metrics: tuple[MetricChange, ...]
    vehicles: tuple[str, ...]


def note_of(release: Release, others: Sequence[Release], vehicles: Iterable[str]) -> ReleaseNote:
    parent = next((its for its in others if its.digest == release.manifest.lineage.parent), None)
    before = parent or _before(release.manifest, others)
    files = before.manifest.files if before is not None else ()
    measured = before.manifest.metrics if before is not None else ()
    return ReleaseNote(
        release=release,
        before=before,
        is_parent=parent is not None,
        files=tuple(file_changes(files, release.manifest.files)),
        metrics=tuple(metric_changes(measured, release.manifest.metrics)),
        vehicles=tuple(sorted(vehicles)),
    )


def file_changes(before: Sequence[FileEntry], after: Sequence[FileEntry]) -> Iterator[FileChange]:
    """Of every file that either has, by name."""
    old, new = ({entry.path: entry for entry in entries} for entries in (before, after))
    for path in sorted(old.keys() | new.keys()):
        was, its = old.get(path), new.get(path)
        if its is None:
            assert was is not None
            yield FileChange(path, Fate.GONE, was.size, 0, 0, 0, was.sha256)
        elif was is None:
            yield FileChange(path, Fate.NEW, 0, its.size, len(its.blocks), 0, its.sha256)
        else:
            kept = sum(a == b for a, b in zip(was.blocks, its.blocks, strict=False))
            fate = Fate.SAME if was.sha256 == its.sha256 else Fate.CHANGED
            yield FileChange(path, fate, was.size, its.size, len(its.blocks), kept, its.sha256)


def metric_changes(before: Sequence[Metric], after: Sequence[Metric]) -> Iterator[MetricChange]:
    """Each of the new one's beside the one of that name before."""
    old = {metric.name: metric for metric in before}
    return (MetricChange(metric, old.get(metric.name), compared(metric, old.get(metric.name))) for metric in after)


def compared(metric: Metric, before: Metric | None) -> Than:
    if before is None:
        return Than.NEW
    if before.evaluation != metric.evaluation or before.better != metric.better:
        return Than.OTHER_SET
    if metric.low <= before.high and before.low <= metric.high:
        return Than.LEVEL
    return Than.BETTER if (metric.value > before.value) == (metric.better == "higher") else Than.WORSE


def _before(manifest: BundleManifest, others: Sequence[Release]) -> Release | None:
    """The highest release below it of its kind and name."""
    below = [
        its for its in others if _line(its.manifest) == _line(manifest) and its.manifest.release < manifest.release
    ]
    return max(below, key=lambda its: its.manifest.release, default=None)


def _line(manifest: BundleManifest) -> tuple[Kind, str]:
    return manifest.kind, manifest.name
