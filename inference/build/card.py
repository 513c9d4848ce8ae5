"""The model card, written from the manifest so that the two can't differ (Mitchell et al., arXiv:1810.03993)."""

from __future__ import annotations

from inference.evidence import Fidelity
from inference.manifest import DetectManifest

CARD_FILE = "CARD.md"


def card_text(manifest: DetectManifest) -> str:
    """CARD.md; says nothing of its own hash."""
    sections = (_about, _preprocessing, _variants, _calibration, _fidelity, _source, _limits)
    return "\n".join(section(manifest) for section in sections)


def _about(manifest: DetectManifest) -> str:
    return f"""# {manifest.name} {manifest.version}

Finds {len(manifest.classes)} kinds of things around a car in one camera's frame. NanoDet-g (3.81 million weights), its
head cut to the classes below, quantized to INT8. For summaries, events and the choice of what to upload; not for
driving.

Classes: {", ".join(manifest.classes)}.
"""


def _preprocessing(manifest: DetectManifest) -> str:
    into, out, thresholds = manifest.input, manifest.outputs, manifest.thresholds
    strides = ", ".join(map(str, out.strides))
    return f"""## What goes in and comes out

- In: `{into.name}`, uint8 [1, {into.height}, {into.width}, 3], BGR. The frame is scaled bilinearly until it fits, put
  at the top left, the rest filled with {into.letterbox_fill}. The normalization (mean 103.53, 116.28, 123.675;
  deviation 57.375, 57.12, 58.395) is in the first convolution's weights and biases; its border is padded with
  {into.letterbox_fill} instead of the mean.
- Out: `{out.scores}`, float32 [1, cells, {len(manifest.classes)}]: one score per class and cell, over the strides
  {strides}. `{out.distances}`, float32 [1, cells, {4 * out.bins}]: per side of the box a distribution over
  {out.bins} distances in strides.
- Objects are reported from score {thresholds.score:.2f}. Of two of one class that overlap by more than
  {thresholds.nms_iou:.2f} (IoU), the surer stands.
"""


def _variants(manifest: DetectManifest) -> str:
    rows = "\n".join(f"| {v.id} | {v.file} | {v.bytes} | {v.sha256} |" for v in manifest.variants)
    return f"""## Variants

| id | file | bytes | SHA-256 |
|---|---|---|---|
{rows}

`u8s8` is first choice. x86 processors without VNNI saturate its 16-bit sums and run it wrong: its golden vectors don't
hold there. `u8s7` keeps its weights to 7 bits and can't saturate. The golden vectors choose.
"""


def _calibration(manifest: DetectManifest) -> str:
    lineage = manifest.lineage
    return f"""## Calibration

{lineage.calibration_frames} frames, every 21st of `project_video.mp4` of Udacity's CarND-Advanced-Lane-Lines (MIT),
SHA-256 {lineage.calibration_video_sha256}. MinMax ranges, per-channel weights; the
head's reshaping and the last sigmoid stay in fp32. The drive that fidelity is measured on was not among them.
"""


def _fidelity(manifest: DetectManifest) -> str:
    report = manifest.fidelity
    rows = "\n".join(_fidelity_row(figure) for figure in report.figures)
    return f"""## Fidelity

Agreement with {report.against} over the {report.frames} frames of the default drive: same class,
IoU >= {report.match_iou}. It is not accuracy: nobody labelled the drive, and one sunny highway says nothing about
night, snow or cities. The interval is 95 %, by the moving-block bootstrap over blocks of {report.block_frames} frames.
Integer sums were exact.

| variant | score from | precision | recall | F1 | 95 % interval |
|---|---|---|---|---|---|
{rows}
"""


def _fidelity_row(figure: Fidelity) -> str:
    return (
        f"| {figure.variant} | {figure.score:.2f} | {figure.precision:.3f} | {figure.recall:.3f} | {figure.f1:.3f} "
        f"| {figure.f1_low:.3f} to {figure.f1_high:.3f} |"
    )


def _source(manifest: DetectManifest) -> str:
    lineage, licence = manifest.lineage, manifest.licence
    return f"""## Source and licence

- {lineage.source}, version {lineage.source_version}, tarball SHA-256
  {lineage.source_sha256}.
- The fp32 graph made of it: SHA-256 {lineage.weights_sha256}.
- {licence.spdx}, {licence.holder}. {licence.notice}
- The weights were trained by their authors on COCO 2017. The annotations are CC BY 4.0; the images belong to their
  photographers under Flickr's terms, and what those terms mean for weights trained on them is unsettled.
"""


def _limits(manifest: DetectManifest) -> str:
    return f"""## Known limits

- Objects smaller than about {2 * manifest.outputs.strides[0]} pixels of the canvas are mostly missed.
- Night, rain, snow, fog, lens dirt and fisheye lenses weren't looked at.
- Cars and trucks are taken for each other; the tracker steadies the class over frames.
- A mountain road with glare gave false objects; no false-alarm rate was measured.
- Scores come in steps of about 0.02 and are no probabilities.
"""
