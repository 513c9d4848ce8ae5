"""`outrider model`: list, inspect, verify, compare."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, assert_never

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from ecu.errors import EXIT_NO
from ecu.process import cpu_ns
from inference.comparison import Comparison, load_comparison
from inference.comparisonview import comparison_json, print_comparison
from inference.errors import PackageNotFound, PackageRefused
from inference.evaluation import DEFAULT_EVALUATION
from inference.evidence import AccuracyReport, FidelityReport, Found, RecallReport
from inference.manifest import AnyManifest, DetectManifest, FacesManifest, StateManifest
from inference.package import MODELS_FOLDER, ModelPackage, find_package, list_packages, load_package
from inference.verdict import Outcome, Verdict
from inference.verify import Verdict as Verification
from inference.verify import admitted, verify

app = typer.Typer(
    help="Model packages: what there is, what is in one, whether it runs right here, which of two is better.",
    no_args_is_help=True,
    add_completion=False,
)

Which = Annotated[str, typer.Argument(help="NAME, NAME@VERSION or a package's folder.", metavar="PACKAGE")]
Models = Annotated[Path, typer.Option("--models", help="The folder that holds the packages.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]


@dataclass(frozen=True, slots=True)
class Listed:
    """A package folder: the package, or why it is refused."""

    title: str
    folder: Path
    package: ModelPackage | None
    refusal: str


@app.command("list")
def list_(models: Models = MODELS_FOLDER, as_json: AsJson = False) -> None:
    """The packages at hand, every byte checked."""
    if not models.is_dir():
        raise PackageNotFound(f"There is no folder {models}. Name the one that holds the model packages.")
    listed = [_listed(models / f"{name}-{version}", f"{name}@{version}") for name, version in list_packages(models)]
    if as_json:
        return _print_json({"packages": [_listed_json(one) for one in listed]})
    return Console().print(_list_table(listed))


@app.command()
def inspect(which: Which, models: Models = MODELS_FOLDER, as_json: AsJson = False) -> None:
    """What a package holds: input, variants, lineage, licence, fidelity."""
    package = load_package(find_package(which, models))
    if as_json:
        return _print_json({"digest": package.digest, "folder": str(package.folder)} | _manifest_json(package))
    return _print_inspection(Console(), package)


@app.command("verify")
def verify_(which: Which, models: Models = MODELS_FOLDER, as_json: AsJson = False) -> None:
    """Hash every file, walk every graph, run every golden canvas. Exit 1 when the package can't run here."""
    package = load_package(find_package(which, models))
    verdict = verify(package)
    if as_json:
        return _print_json(_verdict_json(package, verdict))
    return _print_verdict(Console(), package, verdict)


@app.command()
def compare(
    live: Annotated[str, typer.Argument(help="The package in use.", metavar="LIVE")],
    candidate: Annotated[str, typer.Argument(help="The package that would replace it.", metavar="CANDIDATE")],
    on: Annotated[Path, typer.Option("--on", help="The evaluation set's folder.")] = DEFAULT_EVALUATION,
    models: Models = MODELS_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Judge a candidate as a vehicle does: not worse on labelled frames, not too slow. Exit 0 only if it passed."""
    comparison = load_comparison(find_package(live, models), find_package(candidate, models), on)
    verdict = _run(comparison)
    if as_json:
        _print_json(comparison_json(comparison, verdict))
    else:
        print_comparison(Console(), comparison, verdict)
    raise typer.Exit(0 if verdict.outcome is Outcome.PASSED else EXIT_NO)


def _listed(folder: Path, title: str) -> Listed:
    try:
        return Listed(title, folder, load_package(folder), "")
    except PackageRefused as refusal:
        return Listed(title, folder, None, str(refusal))


def _listed_json(one: Listed) -> dict[str, Any]:
    if one.package is None:
        return {"package": one.title, "folder": str(one.folder), "refused": one.refusal}
    return {
        "package": one.package.title,
        "folder": str(one.folder),
        "task": one.package.manifest.task,
        "input": list(one.package.manifest.input_hw),
        "variants": [variant.id for variant in one.package.manifest.variants],
        "digest": one.package.digest,
    }


def _list_table(listed: list[Listed]) -> Table:
    table = Table("package", "task", "input", "variants", "digest")
    for one in listed:
        if one.package is None:
            table.add_row(one.title, "[red]refused[/red]", "", "", escape(one.refusal))
            continue
        manifest = one.package.manifest
        variants = ", ".join(variant.id for variant in manifest.variants)
        table.add_row(one.package.title, manifest.task, _size(one.package), variants, one.package.digest[:16])
    return table


def _manifest_json(package: ModelPackage) -> dict[str, Any]:
    content = package.manifest.model_dump(mode="json", by_alias=True)
    for entry, variant in zip(content["variants"], package.manifest.variants, strict=True):
        entry["operators"] = dict(admitted(package, variant).operators)
    return content


def _print_inspection(console: Console, package: ModelPackage) -> None:
    manifest = package.manifest
    facts = Table("", "", show_header=False, box=None)
    facts.columns[1].overflow = "fold"
    for name, value in (
        ("package", package.title),
        ("digest", f"sha256:{package.digest}"),
        ("input", f"{_size(package)} {manifest.input.colour}, {manifest.input.layout}"),
        ("classes", ", ".join(manifest.classes)),
        ("reported from", f"score {_reported_from(manifest):.2f}"),
        ("licence", f"{manifest.licence.spdx}, {manifest.licence.holder}"),
        ("source", f"{manifest.lineage.source} {manifest.lineage.source_version}"),
        ("built on", f"{manifest.built_on.instruction_set}, ONNX Runtime {manifest.built_on.onnxruntime}"),
    ):
        facts.add_row(f"[bold]{name}[/bold]", escape(value))
    console.print(facts)
    console.print(_variants_table(package))
    console.print(_quality_table(package.manifest))


def _variants_table(package: ModelPackage) -> Table:
    table = Table("variant", "precision", "bytes", "nodes", "SHA-256", title="Variants")
    for variant in package.manifest.variants:
        nodes = sum(count for _, count in admitted(package, variant).operators)
        table.add_row(variant.id, variant.precision, f"{variant.bytes:,}", str(nodes), variant.sha256[:16])
    return table


def _quality_table(manifest: AnyManifest) -> Table:
    match manifest:
        case DetectManifest():
            return _fidelity_table(manifest.fidelity)
        case FacesManifest():
            return _recall_table(manifest.recall)
        case StateManifest():
            return _accuracy_table(manifest.accuracy)
        case _:
            assert_never(manifest)


def _reported_from(manifest: AnyManifest) -> float:
    return manifest.sure_from if isinstance(manifest, StateManifest) else manifest.thresholds.score


def _accuracy_table(report: AccuracyReport) -> Table:
    table = Table("class", "crops", "told right", title=escape(f"Told right of {report.over}, by {report.variant}"))
    for it in report.figures:
        rate = f"{it.right / it.crops:.3f} (at least {it.low:.3f})" if it.crops else ""
        table.add_row(it.label, str(it.crops), rate)
    return table


def _recall_table(report: RecallReport) -> Table:
    title = escape(f"Faces found of known ones: {report.over}")
    table = Table("face px", "faces", "in the frame alone", "with the person's box", title=title)
    for it in report.figures:
        table.add_row(str(it.face_px), str(it.faces), *(_rate(found, it.faces) for found in (it.alone, it.with_person)))
    return table


def _rate(found: Found, of: int) -> str:
    return f"{found.found / of:.3f} (at least {found.low:.3f})"


def _fidelity_table(report: FidelityReport) -> Table:
    title = escape(f"Fidelity to {report.against}, {report.frames} frames (not accuracy)")
    table = Table("variant", "score from", "precision", "recall", "F1", "95 % interval", title=title)
    for it in report.figures:
        interval = f"{it.f1_low:.3f} to {it.f1_high:.3f}"
        row = (f"{it.score:.2f}", f"{it.precision:.3f}", f"{it.recall:.3f}", f"{it.f1:.3f}", interval)
        table.add_row(it.variant, *row)
    return table


def _verdict_json(package: ModelPackage, verdict: Verification) -> dict[str, Any]:
    return {
        "package": package.title,
        "digest": package.digest,
        "variants": [
            {"id": it.variant, "operators": dict(it.admitted.operators), "golden_fault": it.golden_fault}
            for it in verdict.variants
        ],
        "chosen": verdict.chosen.variant,
        "reason": verdict.chosen.reason,
        "ok": True,
    }


def _print_verdict(console: Console, package: ModelPackage, verdict: Verification) -> None:
    table = Table("variant", "graph", "golden vectors on this computer", title=f"{package.title}: every file is whole")
    for it in verdict.variants:
        nodes = sum(count for _, count in it.admitted.operators)
        golden = (
            "[green]hold[/green]"
            if it.golden_fault is None
            else f"[yellow]don't hold[/yellow]: {escape(it.golden_fault)}"
        )
        table.add_row(it.variant, f"admitted, {nodes} nodes", golden)
    console.print(table)
    console.print(f"Runs here as [bold]{verdict.chosen.variant}[/bold]. Digest sha256:{package.digest}", soft_wrap=True)


def _run(comparison: Comparison) -> Verdict:
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Looking at labelled frames with both models")
        return comparison.run(cpu_ns, lambda done, of: bar.update(task, completed=done, total=of))


def _size(package: ModelPackage) -> str:
    height, width = package.manifest.input_hw
    return f"{width}x{height}"


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False))
