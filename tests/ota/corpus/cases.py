"""All of them, by their names."""

from __future__ import annotations

from typing import Final

from tests.ota.corpus.archives import medium_cases
from tests.ota.corpus.bundles import bundle_cases
from tests.ota.corpus.case import Case
from tests.ota.corpus.deltas import delta_cases
from tests.ota.corpus.directors import director_cases
from tests.ota.corpus.manifests import manifest_cases
from tests.ota.corpus.metadata import metadata_cases
from tests.ota.corpus.roots import root_cases
from tests.ota.corpus.sources import source_cases

CASES: Final[tuple[Case, ...]] = (
    *metadata_cases(), *root_cases(), *director_cases(), *manifest_cases(), *bundle_cases(),
    *delta_cases(), *medium_cases(), *source_cases(),
)  # fmt: skip
