"""The demo's claims about pictures: what reached the cloud shows nobody, and hides nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Final

from simulator.claims import Claim, holds
from simulator.demo.blackout import Blackout
from simulator.demo.pictures import PictureWatch

PICTURES_BAR: Final = 5
PSNR_BAR_DB: Final = 30.0
COVERED_BAR: Final = 0.25
"""Of a picture on average: one in which something that isn't there was covered, too, may lose more."""
MOST_COVERED_BAR: Final = 0.5
"""Of any picture."""
DETAIL_BAR: Final = 0.95


@dataclass(frozen=True, slots=True)
class PictureProof:
    """All that the judgement needs. `blackout` is None when the redactor was never killed."""

    watch: PictureWatch
    blackout: Blackout | None


def claims(proof: PictureProof) -> tuple[Claim, ...]:
    """In the order of the story."""
    return (
        _canary(proof.watch),
        _plates(proof.watch),
        _intact(proof.watch),
        _stored(proof.watch),
        _blackout(proof),
    )


def _canary(watch: PictureWatch) -> Claim:
    """A picture in which the canary couldn't have been found proves nothing."""
    name = "a canary face on the road is in no picture stored"
    why = "Whoever is beside the road didn't ask to be filmed: their face is covered before anything is kept."
    looks = watch.looks
    if not looks:
        return holds(name, None, why)
    before, after = sum(look.canary_before for look in looks), sum(look.canary_after for look in looks)
    return holds(
        name, before == len(looks) >= PICTURES_BAR and after == 0, why,
        measured=f"found in {before} of {len(looks)} frames before, in {after} pictures after",
        bar=f"in every frame, in 0 of ≥ {PICTURES_BAR} pictures",
    )  # fmt: skip


def _plates(watch: PictureWatch) -> Claim:
    name = "where plates are, pictures lose their detail"
    why = "A number plate says whose car it was, and where; the band that it is in becomes one grey."
    bands = [lost for look in watch.looks for lost in look.bands]
    if not bands:
        return holds(name, None, why)
    return holds(
        name, min(bands) >= DETAIL_BAR, why,
        measured=f"{min(bands):.1%} of the Laplacian's variance at least ({len(bands)} vehicles)",
        bar=f"≥ {DETAIL_BAR:.0%} of each band's",
    )  # fmt: skip


def _intact(watch: PictureWatch) -> Claim:
    """Both ends: what is left must be as it was, and it must be most of the picture."""
    name = "all that isn't covered is as the camera saw it"
    why = "Covering the whole picture would be easy, and nobody could learn anything from it."
    if not watch.looks:
        return holds(name, None, why)
    psnr_db = min(look.psnr_db for look in watch.looks)
    share, most = fmean(look.covered for look in watch.looks), max(look.covered for look in watch.looks)
    return holds(
        name, psnr_db >= PSNR_BAR_DB and share <= COVERED_BAR and most <= MOST_COVERED_BAR, why,
        measured=f"PSNR {psnr_db:.1f} dB at least, {share:.1%} covered on average, {most:.0%} at most",
        bar=f"≥ {PSNR_BAR_DB:.0f} dB, ≤ {COVERED_BAR:.0%} covered on average, {MOST_COVERED_BAR:.0%} at most",
    )  # fmt: skip


def _stored(watch: PictureWatch) -> Claim:
    name = "every picture told of is at the receiver once, its hash right"
    why = "A record that points at a picture nobody has, or at another one, is worse than none."
    if not watch.told:
        return holds(name, None, why)
    return holds(
        name, watch.missing == watch.not_once == watch.altered == 0, why,
        measured=f"{len(watch.told)} told of: {watch.missing} missing, {watch.not_once} not once, "
        f"{watch.altered} altered",
        bar="0 missing, 0 not once, 0 altered",
    )  # fmt: skip


def _blackout(proof: PictureProof) -> Claim:
    """Twice: by the agent's own counts, and by the frames of which the receiver has a picture."""
    name = "redactor killed: no picture meanwhile, each wanted one counted"
    why = "When nobody can cover a face there must be no picture of it, and the gap must be told."
    dark = proof.blackout
    if dark is None or dark.kills == 0 or not dark.frames:
        return holds(name, None, why)
    told = sum(any(frame in dark.frames for frame in frames) for frames in proof.watch.told.values())
    words = (
        f"{dark.kills} kills, {len(dark.frames)} frames: {dark.wanted} wanted, {dark.taken + told} taken, "
        f"{dark.dropped} counted; {'back' if dark.back else 'NOT back'}"
    )
    held = dark.wanted > 0 and dark.taken == told == 0 and dark.all_counted and dark.back
    return holds(name, held, why, measured=words, bar="0 taken, every one counted, back afterwards")
