"""How a process begins that runs a model: confined before it meets what the model's author wrote."""

from __future__ import annotations

import socket
from typing import Any

import cv2

from ecu.channel import Channel
from ecu.process import Limits, enter_child, harden


def begin(channel_fd: int, accepts: Any, limits: Limits) -> Channel[Any]:
    """Its first act, and its end of the channel that it was started with. What `limits` says it gives up for ever.

    Before the runtime starts a thread: a network namespace is a thread's own, and so is what later threads inherit.
    """
    enter_child()
    cv2.setNumThreads(1)
    channel = Channel[Any](socket.socket(fileno=channel_fd), accepts)
    harden(limits)
    return channel
