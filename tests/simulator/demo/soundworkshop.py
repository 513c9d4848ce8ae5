"""A workshop's proof with nothing wrong in it."""

from __future__ import annotations

from ota.errors import Attack
from ota.machine import State
from simulator.demo.download import Download
from simulator.demo.offers import Refusal
from simulator.demo.releases import Flaw
from simulator.demo.workshop import KILLED_IN, Kill, Tried, WorkshopProof

SIZE = 8_000_000
JUDGED = {
    Flaw.SCRAMBLED: "on road@1.0: car: F1 0.64 -> 0.00, -0.69 to -0.57: the candidate finds none; 9 frames",
    Flaw.SLOW: "on road@1.0: car: F1 0.64 -> 0.64; too slow: 4.1 times the live model's time; 9 frames",
    Flaw.MUTE: "on road@1.0: car: F1 0.64 -> 0.31, -0.4 to -0.2: worse by more than 0.05; 1.0 times; 9 frames",
}
OFFERED = (
    Attack.TAMPERED, Attack.FREEZE, Attack.ROLLBACK, Attack.WRONG_VEHICLE, Attack.WRONG_SIGNER, Attack.WRONG_SIGNER
)  # fmt: skip


def sound_workshop() -> WorkshopProof:
    return WorkshopProof(
        kills=[Kill(state, state, "drive-detect 1.0 (u8s8)", is_allowed=True) for state in KILLED_IN],
        committed=True,
        tried=[Tried(flaw, State.ROLLED_BACK, is_denied=True, was_kept=False, words=JUDGED[flaw]) for flaw in Flaw],
        refusals=[
            Refusal(f"offer {number}", attack, attack, (), is_audited=True, twin_taken=True)
            for number, attack in enumerate(OFFERED)
        ],
        download=Download(SIZE, int(SIZE * 0.62), SIZE + (1 << 20), was_cut=True, is_whole=True),
    )
