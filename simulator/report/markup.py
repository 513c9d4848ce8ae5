"""HTML and SVG as values: what isn't Markup yet is escaped on its way in, so no text can become a tag."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Final

_VOID: Final = frozenset({"img", "input", "link", "meta"})
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Markup(str):
    """Text that already is HTML."""

    __slots__ = ()


Content = str | Iterable["Content"]
Attribute = str | float | bool | None


def element(tag: str, /, *content: Content, **attributes: Attribute) -> Markup:
    """`class_` and the like lose their last underscore, others become hyphens; True stands bare, None and False not."""
    opening = "".join(_attribute(key, value) for key, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{tag}{opening}>")
    return Markup(f"<{tag}{opening}>{join(content)}</{tag}>")


def join(content: Content) -> Markup:
    """Contents side by side, escaped where they aren't Markup."""
    if isinstance(content, Markup):
        return content
    if isinstance(content, str):
        return Markup(escape(_clean(content)))
    return Markup("".join(join(part) for part in content))


def number(value: float, decimals: int = 2) -> str:
    """A coordinate without empty decimals."""
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _attribute(key: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = value if isinstance(value, str) else number(value)
    return f' {name}="{escape(_clean(text))}"'


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
