"""Conditions in a restricted language: read once, asked at one instant or at many. docs/formats/expressions.md."""

from telemetry.capture.expressions.condition import Condition, parse
from telemetry.capture.expressions.errors import BadExpression
from telemetry.capture.expressions.tree import Kind

__all__ = ["BadExpression", "Condition", "Kind", "parse"]
