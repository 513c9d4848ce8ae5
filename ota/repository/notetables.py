"""One release as a note for a terminal: what is new in it, how good it is, what it needs, who signed it, who has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ecu.errors import shown
from ota.facts import Metric, Peer
from ota.manifest import BundleManifest
from ota.repository.releasenote import Fate, FileChange, MetricChange, Release, ReleaseNote, Than

_ID_CHARACTERS: Final = 16
_MOST_VEHICLES: Final = 12
_COLOURS: Final = {Than.BETTER: "green", Than.WORSE: "red", Fate.NEW: "green", Fate.GONE: "red", Fate.SAME: "dim"}


def release_tables(note: ReleaseNote) -> Iterator[RenderableType]:
    manifest, before = note.release.manifest, note.before
    yield Text(manifest.title, style="bold")
    if manifest.notes is not None:
        yield Text("\n".join(map(shown, manifest.notes.splitlines())))
    yield _facts(note)
    if note.metrics:
        yield _metrics(note.metrics, before)
    yield _files(note.files, manifest, before)


def _facts(note: ReleaseNote) -> Table:
    release, manifest = note.release, note.release.manifest
    table = Table("", "", show_header=False, box=None, padding=(0, 1, 0, 0))
    table.columns[1].overflow = "fold"
    for name, value in (
        ("compared with", _compared(note)),
        ("for hardware", ", ".join(manifest.hardware)),
        *_lineage(manifest),
        *_needs(manifest),
        ("signed by", ", ".join(key_id[:_ID_CHARACTERS] for key_id in release.signed_by) or "nobody"),
        ("on vehicles", _vehicles(note.vehicles)),
        ("target", release.target),
        ("digest", f"sha256:{release.digest}"),
    ):
        table.add_row(f"[bold]{name}[/]", escape(shown(value)))
    return table


def _compared(note: ReleaseNote) -> str:
    if note.before is None:
        parent = note.release.manifest.lineage.parent
        return f"nothing: its parent sha256:{parent[:_ID_CHARACTERS]} isn't published here" if parent else "nothing"
    how = "its parent" if note.is_parent else "the release before it"
    return f"{note.before.manifest.title}, {how}"


def _lineage(manifest: BundleManifest) -> Iterator[tuple[str, str]]:
    its, quantized = manifest.lineage, manifest.quantization
    said = {
        "training run": its.training_run,
        "commit": its.git_commit,
        "federated": f"round {its.federated_round}" if its.federated_round is not None else None,
        "trained on": ", ".join(f"sha256:{digest[:_ID_CHARACTERS]}" for digest in its.datasets) or None,
        "quantized": None
        if quantized is None
        else quantized.scheme
        + ", per channel" * quantized.per_channel
        + ", with its parent's scales" * quantized.pinned_scales,
    }
    return ((name, value) for name, value in said.items() if value is not None)


def _needs(manifest: BundleManifest) -> Iterator[tuple[str, str]]:
    its, budgets, bill = manifest.runtime, manifest.budgets, manifest.sbom
    ranges = {"Python": its.python, "ONNX Runtime": its.onnxruntime, "Outrider": its.outrider}
    costs = [f"{budgets.cpu_relative:g} x the live one's CPU time"] if budgets.cpu_relative is not None else []
    costs += [f"{budgets.memory_bytes / (1 << 20):,.0f} MiB of memory"] if budgets.memory_bytes is not None else []
    costs += [f"{frame.p99_ms:g} ms a frame on {frame.hardware} (p99)" for frame in budgets.frames]
    floor = manifest.minimum_bootable
    said = {
        "runs on": "; ".join(f"{name} {wanted}" for name, wanted in ranges.items() if wanted is not None),
        "built for": its.abi or "",
        "may cost": "; ".join(costs),
        "requires": _peers(manifest.requires),
        "conflicts": _peers(manifest.conflicts),
        "once kept": f"no {manifest.kind} below release {floor} boots any more" if floor is not None else "",
        "approval": ", ".join(manifest.rxswin) and f"RXSWIN {', '.join(manifest.rxswin)}",
        "materials": f"{bill.name}, files/{bill.sha256}" if bill is not None else "",
    }
    return ((name, value) for name, value in said.items() if value)


def _peers(peers: Sequence[Peer]) -> str:
    return "; ".join(peer.words for peer in peers)


def _vehicles(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_VEHICLES:,} more" if len(names) > _MOST_VEHICLES else ""
    return ", ".join(names[:_MOST_VEHICLES]) + more or "none"


def _metrics(changes: Sequence[MetricChange], before: Release | None) -> Table:
    was = f"release {before.manifest.release}" if before is not None else "before"
    table = Table("metric", was, "now", "", "objects", title="How good it is, with intervals")
    for column in table.columns[1:3]:
        column.overflow = "fold"
    for its in changes:
        colour = _COLOURS.get(its.than, "default")
        old = _measured(its.before) if its.before is not None else "-"
        name = f"{escape(its.metric.name)}{' (lower is better)' * (its.metric.better == 'lower')}"
        table.add_row(name, old, _measured(its.metric), f"[{colour}]{its.than}[/]", f"{its.metric.n:,}")
    return table


def _measured(metric: Metric) -> str:
    return f"{metric.value:.4g} ({metric.low:.4g}-{metric.high:.4g})"


def _files(changes: Sequence[FileChange], manifest: BundleManifest, before: Release | None) -> Table:
    more = f", {manifest.size - before.manifest.size:+,} against before" if before is not None else ""
    title = f"{len(manifest.files)} files, {manifest.size:,} bytes{more}"
    table = Table("file", "", "bytes", "change", "SHA-256", title=title)
    table.columns[0].overflow = table.columns[4].overflow = "fold"
    table.columns[2].justify = table.columns[3].justify = "right"
    for its in changes:
        if before is None:
            fate = ""
        elif its.fate is Fate.CHANGED and its.kept:
            fate = f"{its.kept} of {its.blocks} MiB kept"
        else:
            fate = its.fate.value
        colour = _COLOURS.get(its.fate, "default")
        size = "" if its.fate is Fate.GONE else f"{its.size:,}"
        change = f"{its.size - its.size_before:+,}" if its.fate is Fate.CHANGED else ""
        fate = f"[{colour}]{fate}[/]" if fate else ""
        table.add_row(escape(its.path), fate, size, change, its.sha256[:_ID_CHARACTERS])
    return table
