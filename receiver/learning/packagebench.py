"""The workbench of model packages. Its libraries are loaded in the process that works, and nowhere else."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from ecu.errors import EnvironmentFault
from receiver.learning.order import Judgement, Lineage, Surface, Unfit, Vector, raw


@dataclass(frozen=True, slots=True)
class PackageBench:
    """Packages of the task `state`, judged on labelled crops."""

    def look(self, package: Path, crops: Path) -> Surface:
        from inference.crops import load_crops
        from inference.errors import PackageRefused
        from inference.training.package import load_learnable

        learnable, labelled = load_learnable(package), load_crops(crops)
        if labelled.manifest.labels != learnable.classes:
            raise PackageRefused(
                f"The crops {labelled.title} show {', '.join(labelled.manifest.labels)}, {learnable.title} tells "
                f"{', '.join(learnable.classes)}. Name other crops."
            )
        return Surface(
            learnable.title, learnable.graph_sha256, learnable.layout.digest, learnable.base, raw(learnable.parameters)
        )

    def build(self, live: Path, parameters: Vector, version: str, crops: Path, learned: Lineage) -> dict[str, bytes]:
        from inference.build.candidate import build_candidate
        from inference.errors import PackageRefused
        from inference.manifest import FederatedLineage

        try:
            return build_candidate(live, parameters, version, crops, FederatedLineage(**asdict(learned)))
        except EnvironmentFault as fault:
            # Its own golden vectors don't hold: so will it be tomorrow.
            raise PackageRefused(str(fault)) from fault

    def judge(self, live: Path, candidate: dict[str, bytes], crops: Path) -> Judgement:
        from inference.build.packing import write_package
        from inference.crops import CropsRefused, load_crops
        from inference.errors import PackageRefused, Party, Unjudgeable
        from inference.floor import GateFloor
        from inference.statejudge import judge_states

        with tempfile.TemporaryDirectory(prefix="outrider-learning-") as folder:
            write_package(Path(folder), candidate)
            try:
                # Few crops of a class keep nobody from signing it: each vehicle decides by a floor of its own.
                floor = GateFloor(excused=load_crops(crops).manifest.labels)
                verdict = judge_states(live, Path(folder), crops, floor)
            except CropsRefused as fault:
                raise Unfit(str(fault)) from fault
            except Unjudgeable as fault:
                raise (PackageRefused if fault.party is Party.CANDIDATE else Unfit)(str(fault)) from fault
        return Judgement(verdict.outcome, verdict.words, msgspec.json.encode(verdict))
