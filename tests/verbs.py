"""An operator's verbs without a process for each: what the front door does with its arguments, done here."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import threading
from typing import TextIO

import pytest

from outrider import main


class OfThisThread(io.TextIOBase):
    """Keeps what this thread writes. What others write meanwhile, such as a receiver's log, goes where it went."""

    def __init__(self, others: TextIO) -> None:
        self.told = io.StringIO()
        self._others = others
        self._thread = threading.get_ident()

    def write(self, text: str, /) -> int:
        return (self.told if threading.get_ident() == self._thread else self._others).write(text)


def code_of(*arguments: object) -> int:
    """The exit code of `outrider ...`."""
    before, sys.argv = sys.argv, ["outrider", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    assert isinstance(ended.value.code, int)
    return ended.value.code


def said(*arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `outrider ...`, but for what its own children write."""
    out, err = OfThisThread(sys.stdout), OfThisThread(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = code_of(*arguments)
    return code, out.told.getvalue(), err.told.getvalue()


async def run_verb(*arguments: object) -> tuple[int, str, str]:
    """As the process of `outrider receiver ...`, while this one's loop serves it. One at a time: the streams are
    everybody's."""
    return await asyncio.to_thread(said, "receiver", *arguments)
