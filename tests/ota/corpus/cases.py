"""All of them, by their names."""

from __future__ import annotations

from typing import Final

from tests.ota.corpus.case import Case
from tests.ota.corpus.metadata import metadata_cases

CASES: Final[tuple[Case, ...]] = (*metadata_cases(),)
