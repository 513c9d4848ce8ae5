"""The judge's process: `python -m inference.judge --live DIR --candidate DIR --evaluation DIR --channel FD`.

Looks at every frame of an evaluation set with both models and ends after its one final word. As a worker it holds no
keys, no network and no spool; it runs behind everything else, and may be killed at any instant: it leaves nothing.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Final

from ecu.channel import Advance, Channel, ChannelClosed
from ecu.process import Limits, cpu_ns
from inference.comparison import Comparison, load_comparison
from inference.confined import begin
from inference.crops import CROPS_FILE
from inference.errors import Unjudgeable
from inference.floor import GateFloor
from inference.messages import JudgedModel, JudgeFault, JudgeProgress, JudgeVerdict
from inference.runtime import runtime
from inference.session import Session
from inference.statejudge import StateComparison, load_state_comparison

ADDRESS_SPACE_BYTES: Final = 3 << 30
"""A worker's, and a second model's beside it."""
NICENESS: Final = 19


def main() -> None:
    parser = argparse.ArgumentParser(prog="inference.judge")
    for name in ("live", "candidate", "evaluation"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--floor", type=GateFloor.model_validate_json, default=GateFloor(), help="JSON of a GateFloor.")
    parser.add_argument("--channel", type=int, required=True)
    arguments = parser.parse_args()
    # It only tells: nothing is ever asked of it.
    limits = Limits(address_space_bytes=ADDRESS_SPACE_BYTES, nice=NICENESS)
    channel: Channel[Advance] = begin(arguments.channel, Advance, limits)
    # Once nobody listens nothing is left to do.
    with contextlib.suppress(ChannelClosed):
        channel.send(_judge(arguments, channel))


def _judge(arguments: argparse.Namespace, channel: Channel[Advance]) -> JudgeVerdict | JudgeFault:
    """The last word. Raises ChannelClosed."""
    try:
        comparison = _comparison(arguments.live, arguments.candidate, arguments.evaluation, arguments.floor)
        verdict = comparison.run(cpu_ns, lambda done, of: channel.send(JudgeProgress(done, of)))
    except Unjudgeable as fault:
        return JudgeFault(fault.party, str(fault))
    live, candidate, by = comparison.live, comparison.candidate, comparison.judged_by
    return JudgeVerdict(_judged(live), _judged(candidate), by.title, by.digest, runtime(), verdict)


def _comparison(live: Path, candidate: Path, evaluation: Path, floor: GateFloor) -> Comparison | StateComparison:
    """States are judged by crops, what finds things by frames: the labelled folder says which it is."""
    load = load_state_comparison if (evaluation / CROPS_FILE).is_file() else load_comparison
    return load(live, candidate, evaluation, floor)


def _judged(session: Session) -> JudgedModel:
    manifest = session.package.manifest
    return JudgedModel(manifest.name, manifest.version, session.package.digest, session.chosen.variant)


if __name__ == "__main__":
    main()
