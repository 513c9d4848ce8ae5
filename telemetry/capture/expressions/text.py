"""What a text must be before the parser sees it: known characters and words, brackets that match, all of it bounded.

Python's parser is made for texts that are trusted. Here it meets none that is long or deep, and no word or sign that
the language doesn't have.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ecu.errors import shown
from telemetry.capture.expressions.errors import BadExpression

MAX_CHARACTERS: Final = 1024
MAX_DEPTH: Final = 16
MAX_BRACKETS: Final = 2 * MAX_DEPTH
MAX_PATH_CHARACTERS: Final = 200

WORDS: Final = ("and", "or", "not", "True", "False")
_RESERVED: Final = frozenset((*keyword.kwlist, "true", "false", "null", "none"))

_TOKEN: Final = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<number>(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![0-9A-Za-z_.])"
    r"|(?P<name>[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*)(?![0-9A-Za-z_.])"
    r"|(?P<foreign>\*\*|//|<<|>>|<>|->)"
    r"|(?P<sign><=|>=|==|!=|[-+*/%<>(),])"
)
_SPELT: Final = re.compile(r"[0-9A-Za-z_.]+|.", re.DOTALL)
_BEFORE_NOT: Final = ("and", "or", "not", "(", ",")
_INSTEAD: Final = {
    "=": "==", "&": "and", "|": "or", "!": "not", "~": "not", "^": "!=", "<>": "!=", "//": "/", "**": "*",
    "true": "True", "false": "False", "null": "isnull", "none": "isnull", "None": "isnull", "is": "==",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Token:
    """`column` counts from 1."""

    column: int
    sort: str
    text: str


def checked(text: str) -> str:
    """The text as the parser may see it, every character where it was. Raises BadExpression."""
    if len(text) > MAX_CHARACTERS:
        raise BadExpression(MAX_CHARACTERS + 1, f"it has {len(text)} characters; {MAX_CHARACTERS} are the most.")
    tokens = list(_tokens(text))
    if not tokens:
        raise BadExpression(1, "it is empty: write a condition, such as Vehicle.Speed > 80.")
    _check_brackets(tokens)
    _check_order(tokens)
    _check_runs(tokens)
    return re.sub(r"\s", " ", text)


def _tokens(text: str) -> Iterator[Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup == "foreign":
            raise _foreign(at, text)
        token = Token(at + 1, str(found.lastgroup), found.group())
        at = found.end()
        if token.sort == "name":
            _check_name(token)
        if token.sort != "space":
            yield token


def _foreign(at: int, text: str) -> BadExpression:
    found = _TOKEN.match(text, at) or _SPELT.match(text, at)
    word = found.group() if found else ""
    if "_" in (word[:1], *(segment[:1] for segment in word.split("."))):
        reason = f"{shown(word)} isn't a path: its parts begin with a letter and are joined by single dots."
    elif word[:1].isdecimal():
        reason = f"{shown(word)} isn't a number: write it like 80, 0.5 or 1e-3, and a space behind it."
    else:
        reason = f"{shown(word)} isn't part of the language."
    return BadExpression(at + 1, reason, _INSTEAD.get(word))


def _check_name(token: Token) -> None:
    if token.text in WORDS:
        return
    if len(token.text) > MAX_PATH_CHARACTERS:
        raise BadExpression(token.column, f"a path has at most {MAX_PATH_CHARACTERS} characters.")
    for part in token.text.split("."):
        if part in _RESERVED:
            raise BadExpression(token.column, f"{part} isn't part of the language.", _INSTEAD.get(part))


def _check_brackets(tokens: list[Token]) -> None:
    opened: list[Token] = []
    for token in tokens:
        if token.text == "(":
            opened.append(token)
        elif token.text == ")" and not opened:
            raise BadExpression(token.column, "this bracket closes none.")
        elif token.text == ")":
            opened.pop()
        if len(opened) > MAX_BRACKETS:
            raise BadExpression(token.column, f"more than {MAX_BRACKETS} brackets are open.")
    if opened:
        raise BadExpression(opened[-1].column, "this bracket is never closed.")


def _check_order(tokens: list[Token]) -> None:
    """Operands and operators take turns."""
    wants_operand = True
    for token, before in zip(tokens, [None, *tokens], strict=False):
        begins = token.sort == "number" or (token.sort == "name" and token.text not in ("and", "or", "not"))
        if wants_operand:
            if not begins and token.text not in ("(", "-", "not"):
                raise BadExpression(token.column, f"a number or a path is missing in front of {token.text}.")
            if token.text == "not" and before is not None and before.text not in _BEFORE_NOT:
                raise BadExpression(token.column, "not belongs in brackets here.")
            wants_operand = not begins
        elif token.text == "(" and before is not None and before.sort == "name" and before.text not in WORDS:
            wants_operand = True
        elif begins or token.text in ("(", "not"):
            raise BadExpression(token.column, f"an operator is missing in front of {shown(token.text)}.")
        else:
            wants_operand = token.text != ")"
    if wants_operand:
        raise BadExpression(tokens[-1].column, f"nothing follows {tokens[-1].text}.")


def _check_runs(tokens: list[Token]) -> None:
    run = 0
    for token in tokens:
        run = run + 1 if token.text in ("-", "not") else 0
        if run > MAX_DEPTH:
            raise BadExpression(token.column, f"it is deeper than {MAX_DEPTH}.")
