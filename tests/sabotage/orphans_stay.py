"""Workers neither ask to die with the agent nor notice, for a while, that it is gone."""

from __future__ import annotations

import sys
import time
from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "processes left over after the agent's death"


def _is_worker() -> bool:
    return sys.argv[0].endswith("worker.py")


@after("ecu.process")
def no_signal_is_asked_for(process: Any) -> None:
    def enter_child(*arguments: Any) -> None:
        if not _is_worker():
            honest(*arguments)

    honest = put(process, "enter_child", enter_child)


@after("ecu.channel")
def a_closed_channel_goes_unnoticed(channel: Any) -> None:
    def receive(self: Any) -> Any:
        try:
            return honest(self)
        except channel.ChannelClosed:
            if _is_worker():
                time.sleep(10.0)
            raise

    honest = put(channel.Channel, "receive", receive)
