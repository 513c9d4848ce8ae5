"""All that can be checked of a package on this computer, variant by variant."""

from __future__ import annotations

from dataclasses import dataclass

from inference.admission import Admitted, admit
from inference.errors import PackageRefused
from inference.manifest import VariantFile
from inference.package import ModelPackage
from inference.session import Chosen, Session, contract_of, golden_fault, open_engine


@dataclass(frozen=True, slots=True)
class VariantVerdict:
    """`golden_fault` says what the variant gets wrong here; None when its golden vectors hold."""

    variant: str
    admitted: Admitted
    golden_fault: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every variant's own, and the one that would run."""

    variants: tuple[VariantVerdict, ...]
    chosen: Chosen


def verify(package: ModelPackage) -> Verdict:
    """Raises PackageRefused when the package may not or can't run here; a variant that doesn't hold is no refusal."""
    variants = tuple(_verdict(package, variant) for variant in package.manifest.variants)
    return Verdict(variants, Session(package).chosen)


def admitted(package: ModelPackage, variant: VariantFile) -> Admitted:
    """What the variant's graph is made of. Raises PackageRefused, naming the package and the file."""
    try:
        return admit(package.read(variant), contract_of(package.manifest))
    except PackageRefused as refusal:
        raise PackageRefused(f"{package.title}, {variant.file}: {refusal}") from refusal


def _verdict(package: ModelPackage, variant: VariantFile) -> VariantVerdict:
    parts = admitted(package, variant)
    return VariantVerdict(variant.id, parts, golden_fault(package, variant, open_engine(package, variant)))
