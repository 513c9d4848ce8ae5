"""Children neither ask to die with their parent nor notice that it is gone."""

from __future__ import annotations

import time
from typing import Any

from tests.sabotage.afterimport import after

CLAIM = "processes left over after the agent's death"


@after("ecu.process")
def no_signal_is_asked_for(process: Any) -> None:
    process.enter_child = process.forbid_core_dumps


@after("ecu.channel")
def a_closed_channel_goes_unnoticed(channel: Any) -> None:
    honest = channel.Channel.receive

    def receive(self: Any) -> Any:
        try:
            return honest(self)
        except channel.ChannelClosed:
            if self._loop is None:
                time.sleep(10.0)
            raise

    channel.Channel.receive = receive
