"""The workshop, or the classroom, alone against a receiver of its own, in a process of its own: prints the claims as
`outrider demo` does.

python -m tests.end_to_end.rehearsal workshop|classroom FOLDER
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecu.clock import SECOND_NS, SystemClock
from simulator.claims import Claim, Verdict
from simulator.demo import classroomclaims, workshopclaims
from simulator.demo.classroom import learn
from simulator.demo.signing import SigningDesk
from simulator.demo.stage import LEARNING, Places
from simulator.demo.workshop import work
from tests.receiver.fleet import a_receiver


async def rehearse(which: str, folder: Path) -> Verdict:
    clock = SystemClock()
    began_ns = clock.boot_ns()
    desk = SigningDesk(folder, clock)
    settings: dict[str, Any] = {"updates": str(desk.fleet), **LEARNING}
    async with a_receiver(folder, **settings):
        claimed = await _STAGED[which](Places(folder), desk)
    return Verdict(claimed, (clock.boot_ns() - began_ns) / SECOND_NS)


async def _workshop(places: Places, desk: SigningDesk) -> tuple[Claim, ...]:
    proof = await work(places, desk, os.environ, patient=True)
    return _told(proof.troubles, workshopclaims.claims(proof))


async def _classroom(places: Places, desk: SigningDesk) -> tuple[Claim, ...]:
    proof = await learn(places, desk, os.environ, patient=True)
    return _told(proof.troubles, classroomclaims.claims(proof))


def _told(troubles: Sequence[str], claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    return claims


_STAGED = {"workshop": _workshop, "classroom": _classroom}


def main() -> None:
    # What the receiver logs mustn't stand between the claims.
    claimed = os.dup(1)
    os.dup2(2, 1)
    verdict = asyncio.run(rehearse(sys.argv[1], Path(sys.argv[2])))
    os.write(claimed, verdict.to_json().encode())


if __name__ == "__main__":
    main()
