"""The model card of a package that tells traffic lights' states, written from its manifest."""

from __future__ import annotations

from inference.build.card import CARD_FILE
from inference.manifest import StateManifest

__all__ = ["CARD_FILE", "card_text"]


def card_text(manifest: StateManifest) -> str:
    """CARD.md; says nothing of its own hash."""
    sections = (_about, _surface, _variants, _accuracy, _learning, _source, _limits)
    return "\n".join(section(manifest) for section in sections)


def _about(manifest: StateManifest) -> str:
    return f"""# {manifest.name} {manifest.version}

Tells which lamp of a traffic light is lit: {", ".join(manifest.classes)}. Somebody else finds the light. It is not for
driving.
"""


def _surface(manifest: StateManifest) -> str:
    into, out = manifest.input, manifest.outputs
    return f"""## What goes in and comes out

- In: `{into.name}`, uint8 [1, {into.height}, {into.width}, 3], BGR: the light's box, cut out of the frame and scaled
  by the mean over areas.
- Out: `{out.logits}`, float32 [1, {len(manifest.classes)}]. A state is told from a softmax of {manifest.sure_from:.2f}
  on.
"""


def _variants(manifest: StateManifest) -> str:
    rows = "\n".join(f"| {v.id} | {v.file} | {v.bytes} | {v.sha256} |" for v in manifest.variants)
    return f"""## Variants

| id | file | bytes | SHA-256 |
|---|---|---|---|
{rows}

Activations are unsigned, weights signed and per channel. The first variant that holds its golden vectors runs.
"""


def _accuracy(manifest: StateManifest) -> str:
    report = manifest.accuracy
    rows = "\n".join(f"| {it.label} | {it.crops} | {it.right} | {it.low:.3f} |" for it in report.figures)
    return f"""## Accuracy

Over {report.over}, none of which was learned from, by {report.variant}.

| class | crops | told right | rate at least (95 %, Wilson) |
|---|---|---|---|
{rows}
"""


def _learning(manifest: StateManifest) -> str:
    training, learned = manifest.training, manifest.learned
    how = (
        f"It was learned by plan `{learned.plan}`: aggregate {learned.number}, of the updates of {learned.vehicles} "
        f"vehicles,\nfrom the base {learned.base}."
        if learned is not None
        else "It is the first of its line."
    )
    graph, parameters = training.graph.file, training.parameters
    return f"""## Learning

- `{graph}` is a step of training in standard operators, over {training.batch} crops.
- `{parameters.file}` has the {parameters.bytes // 4} parameters that it starts from.
- The scales of the activations are pinned for all models that are learned from this one.

{how}
"""


def _source(manifest: StateManifest) -> str:
    return f"""## Where it comes from

- Data: {manifest.lineage.source} {manifest.lineage.source_version}, SHA-256 {manifest.lineage.source_sha256}.
- Licence: {manifest.licence.spdx}, {manifest.licence.holder}. {manifest.licence.notice}
"""


def _limits(manifest: StateManifest) -> str:
    return f"""## Known limits

- The crops are of few places, by daylight, and show upright lights of three lamps that fill the crop.
- Of some classes there are few: the bounds above say how few.
- A light that is off, or flashing, is told as one of {", ".join(manifest.classes)}.
"""
