"""Reads a sheet of crops: `python -m agent.trainer.sheet --crops DIR --take PLACES --most N --channel FD`.

For benches: the agent decodes no picture itself.
"""

from __future__ import annotations

import argparse
import contextlib
from itertools import chain, islice
from pathlib import Path
from typing import Final

from agent.learning.labelsource import places_of
from agent.trainer.sheetmessages import SheetCrop, SheetEnded, SheetFault
from ecu.channel import Advance, Channel, ChannelClosed
from ecu.process import Limits
from inference.confined import begin
from inference.crops import CropsRefused, load_crops

ADDRESS_SPACE_BYTES: Final = 2 << 30
NICENESS: Final = 19


def tell(channel: Channel[Advance], folder: Path, take: str, most: int) -> None:
    """Raises ChannelClosed."""
    try:
        crops = load_crops(folder)
        places = list(islice(chain.from_iterable(places_of(take, len(crops.labels))), most))
    except (CropsRefused, ValueError) as refused:
        channel.send(SheetFault(str(refused)))
        return
    names = crops.manifest.labels
    for place in places:
        channel.send(SheetCrop(names[crops.labels[place]], crops.manifest.size, crops.pictures[place].tobytes()))
    channel.send(SheetEnded(len(places)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="agent.trainer.sheet")
    parser.add_argument("--crops", type=Path, required=True)
    parser.add_argument("--take", required=True)
    parser.add_argument("--most", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    arguments = parser.parse_args()
    limits = Limits(address_space_bytes=ADDRESS_SPACE_BYTES, nice=NICENESS)
    channel: Channel[Advance] = begin(arguments.channel, Advance, limits)
    with contextlib.suppress(ChannelClosed):
        tell(channel, arguments.crops, arguments.take, arguments.most)


if __name__ == "__main__":
    main()
