"""A link to our receiver through AWS IoT Core. Only `crt` and `thing` load the SDK, and nobody loads them before a
connect."""

from __future__ import annotations

from telemetry.links.aws.link import AwsLink

__all__ = ["AwsLink"]
