"""Verdict: what is known of a signature, and of the image that it is about."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from dualreg.image.digest import Digest

#: The predicate by which current releases of cosign say that they sign an image, and nothing else.
#: Source: cosign 3, ``pkg/types`` (CosignSignPredicateType).
SIGN_PREDICATE = "https://sigstore.dev/cosign/sign/v1"


class Target(NamedTuple):
    """A manifest, of which a signature may be.

    Attributes:
        payload: The bytes that the digest is of.
    """

    media_type: str
    digest: Digest
    payload: bytes


class Validity(StrEnum):
    """Whether a signature holds."""

    VALID = "valid"
    #: It is of another image, malformed, expired, or does not fit the key that it gives.
    INVALID = "invalid"
    #: None of the keys that are trusted made it, or it needs more than keys.
    UNVERIFIED = "not verified"


class Verdict(NamedTuple):
    """What is known of a signature.

    Attributes:
        by: Who made it: a key, or what a certificate says; proven only if it is valid. Empty: unknown.
        reason: Why it is not valid.
        until: When it expires; None: never, or it is not valid.
    """

    validity: Validity
    by: str = ""
    reason: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A signed statement about an image.

    Attributes:
        predicate_type: What it states, as in-toto calls it; empty: that somebody signs the image.
        predicate: The statement itself; None: there is none, or it is malformed.
    """

    verdict: Verdict
    predicate_type: str = ""
    predicate: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def is_signature(self) -> bool:
        """Whether it signs the image itself; what else is signed about an image does not approve of it."""
        return self.predicate_type in ("", SIGN_PREDICATE)


class Malformed(ValueError):
    """What should be a signature is none; the text says why."""


def malformed(error: Exception, by: str = "") -> Checked:
    """Return what is known of a signature that cannot be read."""
    return Checked(Verdict(Validity.INVALID, by, f"malformed: {str(error)[:200]}"))
