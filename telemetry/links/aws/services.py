"""What AWS IoT Core's services answer, as results and as the link's errors."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from awscrt import exceptions
from awsiot import V2ServiceException

from telemetry.links.aws.crt import words_of
from telemetry.links.link import LinkError, Refused, Throttled, Unauthorized, Unreachable

THROTTLED_S: Final = 2.0


async def done(promise: Any) -> Any:
    """The answer to a request. Raises LinkError."""
    try:
        return await asyncio.wrap_future(promise)
    except V2ServiceException as error:
        raise error_of(error) from error
    except exceptions.AwsCrtError as error:
        raise _unanswered(error) from error


def error_of(error: V2ServiceException) -> LinkError:
    """A service's refusal as the decision that it calls for."""
    if error.modeled_error is None:
        return _unanswered(error.inner_error)
    code, words = _told(error.modeled_error)
    match code:
        case "429" | "RequestThrottled":
            return Throttled(f"AWS IoT Core asks for patience: {words}.", THROTTLED_S)
        case "401" | "403":
            return Unauthorized(f"AWS IoT Core doesn't let this vehicle do that: {words}. Look at its policy.")
        case "500" | "InternalError":
            return Unreachable(f"AWS IoT Core failed: {words}. The link will try again.")
        case _:
            return Refused(f"AWS IoT Core refused it: {words}.")


def _told(refusal: Any) -> tuple[str, str]:
    """Code and words: shadows and jobs call them otherwise than provisioning does."""
    code = getattr(refusal, "code", None) or getattr(refusal, "status_code", "")
    return str(code), getattr(refusal, "message", None) or getattr(refusal, "error_message", None) or f"code {code}"


def _unanswered(error: Exception | None) -> Unreachable:
    return Unreachable(f"AWS IoT Core gave no answer: {words_of(error)}. Connect again.")
