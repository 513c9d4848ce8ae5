"""Only a redactor makes a redacted picture (law 5): looked for in every line that ships."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("agent", "ecu", "inference", "ota", "receiver", "simulator", "telemetry")
REDACTORS: tuple[str, ...] = ("agent/redactor/orders.py", "simulator/bench/spool/objects.py")
"""The files that implement telemetry.privacy.Redactor: whoever adds one has shown what it covers. The
benchmark's pictures are noise."""


def makers(source: str) -> list[int]:
    """Lines that make a RedactedPicture, by its name or out of another one."""
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if ast.unparse(call.func).rpartition(".")[2] == "RedactedPicture"]


def test_nothing_that_ships_makes_a_redacted_picture_but_a_redactor() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if makers(path.read_text())
    }
    assert found == set(REDACTORS)


def test_a_maker_is_found_however_it_is_named() -> None:
    assert makers("a = RedactedPicture(b'', 1, 1, 1, 1, 0, '')") == [1]
    assert makers("import x\nreturn_ = [x.pictures.RedactedPicture(*y) for y in z]") == [2]
    assert makers("def f(picture: RedactedPicture) -> RedactedPicture: return picture") == []
