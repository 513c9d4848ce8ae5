"""The table of all cases."""

from __future__ import annotations

from collections import Counter

from tests.ota.corpus.cases import CASES
from tests.ota.corpus.vehicle import way_of

for number, case in enumerate(CASES):
    print(f"{case.name:<70}  {case.told:<26}  {case.before:<12}  {way_of(case, number)}")
counts = Counter(case.told for case in CASES)
print(f"{len(CASES)} cases of {len(counts)} classes")
