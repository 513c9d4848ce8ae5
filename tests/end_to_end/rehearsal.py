"""The workshop alone against a receiver of its own, in a process of its own: prints the claims as `outrider demo` does.

python -m tests.end_to_end.rehearsal FOLDER
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from ecu.clock import SECOND_NS, SystemClock
from simulator.claims import Verdict
from simulator.demo.signing import SigningDesk
from simulator.demo.stage import Places
from simulator.demo.workshop import work
from simulator.demo.workshopclaims import claims
from tests.receiver.fleet import a_receiver


async def rehearse(folder: Path) -> Verdict:
    clock = SystemClock()
    began_ns = clock.boot_ns()
    desk = SigningDesk(folder, clock)
    async with a_receiver(folder, updates=str(desk.fleet)):
        proof = await work(Places(folder), desk, os.environ, patient=True)
    for trouble in proof.troubles:
        print(trouble, file=sys.stderr)
    return Verdict(claims(proof), (clock.boot_ns() - began_ns) / SECOND_NS)


def main() -> None:
    # What the receiver logs mustn't stand between the claims.
    claimed = os.dup(1)
    os.dup2(2, 1)
    verdict = asyncio.run(rehearse(Path(sys.argv[1])))
    os.write(claimed, verdict.to_json().encode())


if __name__ == "__main__":
    main()
