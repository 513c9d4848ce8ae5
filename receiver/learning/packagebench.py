"""The workbench of model packages. Its libraries are loaded in the process that works, and nowhere else."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from receiver.learning.order import Judgement, Lineage, Surface, Vector, raw


@dataclass(frozen=True, slots=True)
class PackageBench:
    """Packages of the task `state`, judged on labelled crops."""

    def look(self, package: Path, crops: Path) -> Surface:
        from inference.crops import load_crops
        from inference.errors import PackageRefused
        from inference.training.package import load_learnable  # type: ignore[import-not-found, unused-ignore]

        learnable, labelled = load_learnable(package), load_crops(crops)
        if labelled.manifest.labels != tuple(learnable.classes):
            raise PackageRefused(
                f"The crops {labelled.title} show {', '.join(labelled.manifest.labels)}, {learnable.title} tells "
                f"{', '.join(learnable.classes)}. Name other crops."
            )
        return Surface(
            learnable.title, learnable.graph_sha256, learnable.layout.digest, learnable.base, raw(learnable.parameters)
        )

    def build(self, live: Path, parameters: Vector, version: str, crops: Path, learned: Lineage) -> dict[str, bytes]:
        from inference.build.candidate import build_candidate  # type: ignore[import-not-found, unused-ignore]
        from inference.manifest import FederatedLineage  # type: ignore[attr-defined, unused-ignore]

        built: dict[str, bytes] = build_candidate(live, parameters, version, crops, FederatedLineage(**asdict(learned)))
        return built

    def judge(self, live: Path, candidate: dict[str, bytes], crops: Path) -> Judgement:
        from inference.build.candidate import write_package  # type: ignore[import-not-found, unused-ignore]
        from inference.statejudge import judge_states  # type: ignore[import-not-found, unused-ignore]

        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / "candidate"
            write_package(package, candidate)
            verdict = judge_states(live, package, crops)
        return Judgement(verdict.outcome, verdict.words, msgspec.json.encode(verdict))
