"""A child process that sends what nobody understands, and then stays."""

from __future__ import annotations

import signal
import socket
import sys

if __name__ == "__main__":
    end = socket.socket(fileno=int(sys.argv[sys.argv.index("--channel") + 1]))
    end.send(b"\xc1 what is this?")
    signal.pause()
