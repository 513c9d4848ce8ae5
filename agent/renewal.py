"""When a certificate is renewed, and when its renewal is taken back: a decision, no acts."""

from __future__ import annotations

from enum import Enum
from typing import Final

from cryptography import x509

from ecu.clock import SECOND_NS

TIME_FLOOR_WALL_NS: Final = 1_767_225_600 * SECOND_NS  # 2026-01-01: this software is no older


class Renewal(Enum):
    """What to do with the identity now."""

    NONE = "none"
    RENEW = "renew"
    REVERT = "revert"
    PROVE = "prove"


def due(
    certificate: bytes | None, previous: bytes | None, refused: bool, wall_ns: int, *, link_tells: bool = True
) -> Renewal:
    """`certificate` is the one in use; `previous` the one before it, kept until the receiver has let this one in;
    `refused` says that the receiver itself doesn't. Both PEM. Where the link doesn't tell, the receiver is asked.

    An unsettled renewal is never renewed again: it connects some day, however long the vehicle was parked. It is taken
    back only when it is refused while the certificate before it would still be let in.
    """
    if certificate is None or wall_ns < TIME_FLOOR_WALL_NS:
        return Renewal.NONE
    if previous is not None:
        if refused:
            return Renewal.REVERT if wall_ns < _life(previous)[1] else Renewal.NONE
        return Renewal.NONE if link_tells else Renewal.PROVE
    begin_ns, end_ns = _life(certificate)
    return Renewal.RENEW if wall_ns >= begin_ns + (end_ns - begin_ns) * 2 // 3 else Renewal.NONE


def _life(certificate_pem: bytes) -> tuple[int, int]:
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return int(begin.timestamp()) * SECOND_NS, int(end.timestamp()) * SECOND_NS
