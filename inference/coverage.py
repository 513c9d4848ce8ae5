"""What a labelled set leaves open of a candidate, whatever it says of the classes that it has."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from inference.judging import worst
from inference.verdict import Outcome, Verdict


def covered(
    verdict: Verdict, judged: Iterable[str], live: Iterable[str], candidate: Iterable[str], demanded: Iterable[str]
) -> Verdict:
    """All are labels. A candidate that no longer knows a class fails, whether anybody labelled it or not; one that the
    vehicle demands to be judged, and the set doesn't judge, leaves it undecided. What else nobody judged is told."""
    judged, live, candidate = set(judged), list(live), set(candidate)
    lost = [label for label in live if label not in candidate]
    unjudged = [label for label in live if label not in judged and label in candidate]
    missing = [label for label in demanded if label in unjudged]
    outcomes, words = [verdict.outcome], [verdict.words]
    if lost:
        outcomes.append(Outcome.FAILED)
        words.append(f"the candidate no longer knows: {', '.join(lost)}")
    if missing:
        outcomes.append(Outcome.UNDECIDED)
        words.append(f"nobody labelled what this vehicle must have judged: {', '.join(missing)}")
    elif unjudged:
        words.append(f"judged by nobody: {', '.join(unjudged)}")
    return msgspec.structs.replace(
        verdict, outcome=worst(outcomes), words="; ".join(words), lost=tuple(lost), unjudged=tuple(unjudged)
    )
