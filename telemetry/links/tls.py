"""TLS to our receiver: who answered, in words, and dates judged by the Clock that we trust.

OpenSSL judges dates by the system's clock, which may be years off while the Clock already knows better (signed time,
GNSS). So a context with `NO_CHECK_TIME` leaves the dates, and only them, to `check_dates`.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from collections.abc import Iterator
from typing import Final

from cryptography import x509

from ecu.clock import SECOND_NS, Clock
from telemetry.links.link import ClockUntrusted, Unauthorized, Unreachable, Untrusted

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL: chain, names and usage are still checked."""

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_WRONG_HOST: Final = (62, 64)  # name, address

_ALERTS: Final = ("certificate", "unknown ca", "access denied", "unknown_ca", "access_denied")


def pinned_context(ca_pem: str) -> ssl.SSLContext:
    """TLS 1.3 to a receiver of this authority and no other; the dates are left to `check_dates`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT | NO_CHECK_TIME
    context.load_verify_locations(cadata=ca_pem)
    return context


def broker_context(ca_pem: str | None) -> ssl.SSLContext:
    """TLS to a broker of the authority `ca_pem`, or of one that this computer trusts; its dates: `check_dates`."""
    context = ssl.create_default_context(cadata=ca_pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= NO_CHECK_TIME
    return context


def checks_dates(context: ssl.SSLContext) -> bool:
    """Whether OpenSSL does it, by the system's clock."""
    return not context.verify_flags & NO_CHECK_TIME


def check_dates(der: bytes, clock: Clock, host: str) -> None:
    """Raises ClockUntrusted for a certificate of the future, Untrusted for one of the past."""
    certificate = x509.load_der_x509_certificate(der)
    now = datetime.datetime.fromtimestamp(clock.wall_ns() // SECOND_NS, datetime.UTC)
    if now < certificate.not_valid_before_utc:
        raise ClockUntrusted(
            f"The certificate of {host} begins at {certificate.not_valid_before_utc:%Y-%m-%d %H:%M}Z, but this "
            f"computer's clock says {now:%Y-%m-%d %H:%M}Z. Get the time first."
        )
    if now > certificate.not_valid_after_utc:
        raise Untrusted(
            f"The certificate of {host} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M}Z and this "
            f"computer's clock says {now:%Y-%m-%d %H:%M}Z. Restart the receiver to renew it, or set this clock."
        )


@contextlib.contextmanager
def explained(host: str, port: int) -> Iterator[None]:
    """Makes what connecting can run into one of the link's errors, in words."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise _mistrust(host, error) from error
    except ssl.SSLError as error:
        raise refusal(f"{error.reason or error}", host) from error
    except socket.gaierror as error:
        raise Unreachable(
            f"{host} can't be found ({error.strerror}). Check the network and the receiver's name."
        ) from error
    except TimeoutError as error:
        raise Unreachable(
            f"{host} port {port} didn't answer in time. Check the network; the link will try again."
        ) from error
    except OSError as error:
        raise Unreachable(
            f"{host} port {port} can't be reached: {error.strerror or error}. Is the receiver running?"
        ) from error


def refusal(words: str, host: str) -> Unauthorized | Unreachable:
    """What a broken TLS connection means: a TLS alert about our own certificate, or no more than a broken one."""
    if "alert" in words.lower() and any(name in words.lower() for name in _ALERTS):
        return Unauthorized(
            f"{host} refused this vehicle's certificate ({words}). Renew it, or pair the vehicle again."
        )
    return Unreachable(f"The TLS connection to {host} broke: {words}. Is that port the receiver's?")


def _mistrust(host: str, error: ssl.SSLCertVerificationError) -> Untrusted | ClockUntrusted:
    if error.verify_code == _NOT_YET_VALID:
        return ClockUntrusted(
            f"The certificate of {host} isn't valid yet by this computer's clock. Get the time first."
        )
    if error.verify_code == _EXPIRED:
        return Untrusted(f"The certificate of {host} has expired by this computer's clock. Renew it, or set the clock.")
    if error.verify_code in _WRONG_HOST:
        return Untrusted(f"The certificate shown isn't for {host}: {error.verify_message}. Check [receiver] hosts.")
    return Untrusted(
        f"{host} isn't signed by the authority this vehicle was paired with: {error.verify_message}. "
        "Somebody else answered, or the receiver was set up anew: pair again with its new pairing file."
    )
