"""An evaluation set's card, written from its manifest so that the two can't differ (Gebru et al., arXiv:1803.09010)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from inference.evaluation import EvaluationManifest
from inference.judging import BLOCK_FRAMES, BLOCKS_AT_LEAST

CARD_FILE = "EVALUATION.md"


@dataclass(frozen=True, slots=True)
class About:
    """What a set says of itself in words, and its rules."""

    name: str
    version: str
    method: tuple[str, ...]
    limits: tuple[str, ...]
    licence: tuple[str, ...]
    match_iou: float
    min_objects: int
    margin: float
    cpu_ratio_at_most: float


def evaluation_card(manifest: EvaluationManifest) -> str:
    """EVALUATION.md; says nothing of its own hash."""
    sections = (_about, _contents, _clips, _rules)
    lists = (("How it was labelled", manifest.method), ("Known limits", manifest.limits), ("Licence", manifest.licence))
    return "\n".join([*(section(manifest) for section in sections), *(_list(title, lines) for title, lines in lists)])


def _about(manifest: EvaluationManifest) -> str:
    return f"""# {manifest.name} {manifest.version}

{len(manifest.frames)} labelled frames of {manifest.width}x{manifest.height} pixels, by which a candidate model is held
against the live one. They are for judging; nothing was or may be trained on them.
"""


def _contents(manifest: EvaluationManifest) -> str:
    counted = Counter((frame.clip, labelled.label) for frame in manifest.frames for labelled in frame.objects)
    clips = [clip.name for clip in manifest.clips]
    labels = sorted({label for _, label in counted})
    rows = [("objects: " + label, [counted[clip, label] for clip in clips]) for label in labels]
    rows.append(("frames", [sum(frame.clip == clip for frame in manifest.frames) for clip in clips]))
    regions = [sum(len(frame.ignore) for frame in manifest.frames if frame.clip == clip) for clip in clips]
    rows.append(("ignored regions", regions))
    table = "\n".join(f"| {name} | {' | '.join(map(str, counts))} | {sum(counts)} |" for name, counts in rows)
    return f"""## What is in it

| | {" | ".join(f"clip {clip}" for clip in clips)} | in all |
|---|{"---|" * len(clips)}---|
{table}

Judged: {", ".join(manifest.labels)}.
"""


def _clips(manifest: EvaluationManifest) -> str:
    rows = "\n".join(f"| {it.name} | {it.source} | {it.licence} | {it.sha256} |" for it in manifest.clips)
    return f"""## Where the frames are from

| clip | source | licence | SHA-256 of the source |
|---|---|---|---|
{rows}
"""


def _rules(manifest: EvaluationManifest) -> str:
    return f"""## How it judges

- An object is found when a detection of its class overlaps it by IoU {manifest.match_iou} or more; the surer chooses
  first, and an object is found once. What finds nothing and lies mostly in ignored regions counts neither way.
- A class of fewer than {manifest.min_objects} objects, or whose objects lie in fewer than {BLOCKS_AT_LEAST} blocks of
  {BLOCK_FRAMES} neighbouring frames, stays undecided.
- Not worse: the 95 % interval of the F1 difference, both models resampled together, lies above
  {-manifest.margin}. Worse: it lies below.
- CPU time: at most {manifest.cpu_ratio_at_most} times the live model's.
"""


def _list(title: str, lines: tuple[str, ...]) -> str:
    return f"## {title}\n\n" + "".join(f"- {line}\n" for line in lines)
