"""What every verb and daemon can tell its user: which kind of answer a failure is.

Each package has one root below OutriderError; a class is a decision its caller takes. Bugs aren't in this tree.
The message is one paragraph: what happened, to what, and what to do next.
"""

from __future__ import annotations

EXIT_NO = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_AGAIN = 75
"""Of the agent: start me again (EX_TEMPFAIL, sysexits.h). Its launcher does so at once, and it isn't a crash."""


class OutriderError(Exception):
    """The answer is no: a claim failed, a package was refused. `exit_code` is the process's."""

    exit_code = EXIT_NO


class UsageFault(OutriderError):
    """What the user gave can't be used: a file, a key, an argument. The message names it."""

    exit_code = EXIT_USAGE


class EnvironmentFault(OutriderError):
    """The machine is short of something: space, permission, a port, the network."""

    exit_code = EXIT_ENVIRONMENT


def shown(text: object) -> str:
    """A file's name or a message, fit for a terminal: what isn't printable is escaped, so that a name can't write on
    the screen or pass for a second line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
