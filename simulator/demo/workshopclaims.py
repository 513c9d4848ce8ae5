"""The demo's claims about signed updates, from what the workshop proved."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from ota.machine import State
from simulator.claims import Claim, at_most, equals, holds
from simulator.demo.download import CUT_AT, Download
from simulator.demo.releases import Flaw
from simulator.demo.workshop import KILLED_IN, Tried, WorkshopProof

OFFERS_BAR: Final = 6
AGAIN_BAR_MIB: Final = 1.0
CUT_SLACK: Final = 0.05
_MIB: Final = 1 << 20
_SLOWER: Final = ("; too slow",)
_BLINDER: Final = (": the candidate finds none", ": worse by more")
_VERDICTS: Final = (*_SLOWER, *_BLINDER)
_MEANT: Final = MappingProxyType({Flaw.SCRAMBLED: _BLINDER, Flaw.SLOW: _SLOWER, Flaw.MUTE: _BLINDER})
"""What the judge has to say of each: a judge that refuses everything judges nothing."""


def claims(proof: WorkshopProof) -> tuple[Claim, ...]:
    """In the order of the story. What wasn't proved doesn't hold."""
    return (_killed(proof), _worse(proof), _offers(proof), _download(proof.download))


def _killed(proof: WorkshopProof) -> Claim:
    """The kills count only with a trial that could end well: one that never does would boot the old slot for ever."""
    sound = [kill for kill in proof.kills if kill.found_in == kill.state and kill.is_allowed]
    states = {kill.state for kill in sound} & set(KILLED_IN)
    claim = equals(
        "agent killed in every state of a trial: an allowed slot boots",
        len(states) if proof.kills and proof.committed else None, len(KILLED_IN), f"of {len(KILLED_IN)}",
        "Power goes at any instant: whatever was being tried then, the car must see again a second later.",
    )  # fmt: skip
    return _with(claim, ", ".join(f"{kill.found_in}: {kill.booted}" for kill in proof.kills))


def _worse(proof: WorkshopProof) -> Claim:
    name = "worse releases not kept: scrambled, slow, mute on cars"
    why = "A signature says who made a model, not that it is good: one that sees less must never be what drives."
    if {tried.flaw for tried in proof.tried} != set(Flaw):
        return holds(name, None, why)
    held = all(_is_out(tried) for tried in proof.tried)
    words = "; ".join(f"{tried.flaw} {_told(tried)}" for tried in proof.tried)
    return holds(name, held, why, measured=words, bar="none ever live or kept, each for its own flaw")


def _is_out(tried: Tried) -> bool:
    """Given up undecided it may be tried again; found worse it mustn't."""
    was_seen_through = any(verdict in tried.words for verdict in _MEANT[tried.flaw])
    is_out = tried.ended == State.ROLLED_BACK and tried.is_denied and was_seen_through
    return (tried.ended == State.INCONCLUSIVE or is_out) and not tried.was_kept


def _told(tried: Tried) -> str:
    kept = ", BUT IT WAS LIVE" if tried.was_kept else ""
    return f"{tried.ended.replace('_', ' ')}{kept} ({_reason(tried.words)})"


def _reason(words: str) -> str:
    """The part of the judge's words that decided."""
    for verdict in _VERDICTS:
        if (at := words.find(verdict)) >= 0:
            return words[at + 2 :].split("; ")[0]
    return words


def _offers(proof: WorkshopProof) -> Claim:
    refused = [refusal for refusal in proof.refusals if refusal.holds]
    claim = equals(
        "forged and stale offers refused by name, nothing changed but the audit",
        len(refused) if proof.refusals else None, OFFERS_BAR, f"of {OFFERS_BAR}",
        "Whoever holds the network or one stolen key must not choose what a car runs, nor wear it out by trying.",
    )  # fmt: skip
    return _with(claim, ", ".join(f"{its.what}: {its.refused_as or 'TAKEN'}" for its in proof.refusals))


def _download(download: Download | None) -> Claim:
    """Only of a download that was really cut there, and came whole in the end."""
    counts = (
        download is not None
        and download.was_cut
        and download.is_whole
        and abs(download.before_cut / download.size - CUT_AT) <= CUT_SLACK
    )
    claim = at_most(
        f"download cut at {CUT_AT:.0%}: fetched again".replace("%", " %"),
        download.again / _MIB if download is not None and counts else None, AGAIN_BAR_MIB, "MiB",
        "A car on a bad network must come to an end: what it has, it never asks for again.",
    )  # fmt: skip
    return claim if download is None else _with(claim, f"of {download.size / _MIB:.1f} MiB")


def _with(claim: Claim, more: str) -> Claim:
    """The claim with something beside its number."""
    return replace(claim, measured=f"{claim.measured} ({more})") if claim.value is not None else claim
