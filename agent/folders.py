"""What lies where in an agent's state folder."""

from __future__ import annotations

from typing import Final

SOCKET_NAME: Final = "agent.sock"
SPOOL_FOLDER: Final = "spool"
UPDATES_FOLDER: Final = "updates"
OBJECTS_FOLDER: Final = "objects"
EXAMPLES_FOLDER: Final = "examples"
BOOK_FOLDER: Final = "learning"
PRIVACY_FOLDER: Final = "privacy"
COUNTERS_NAME: Final = "spool.ledger"
OBJECT_COUNTERS_NAME: Final = "objects.ledger"
