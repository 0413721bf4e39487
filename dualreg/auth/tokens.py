"""JSON Web Tokens, signed and verified.

Source: Docker Registry, "Token Authentication Implementation"; RFC 7519, RFC 8725 (best practices).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt

from dualreg.auth.key_sources import KeySource
from dualreg.auth.keyring import ALGORITHM
from dualreg.image.jws import SigningKey

#: Characters of the longest token that is parsed: what fits into a header, so any token that is issued.
_LENGTH_LIMIT = 60 << 10
_REQUIRED_CLAIMS = ["exp", "iss", "aud"]
#: The last second that an expiry may name: the highest integer that every JSON parser reads.
_LAST_EXPIRY = (1 << 53) - 1
#: What is raised for tokens that cannot be parsed, or whose claims are not what they should be.
_MALFORMED = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class TokenInvalid(Exception):
    """A token is rejected; the text says why, for the operator."""


def sign(key: SigningKey, *, lifetime: timedelta, **claims: object) -> str:
    """Return a token with *claims*, valid from now on for *lifetime*."""
    now = int(time.time())
    times = {"iat": now, "nbf": now, "exp": now + int(lifetime.total_seconds()), "jti": uuid4().hex}
    return jwt.encode({**claims, **times}, key.private, ALGORITHM, headers={"kid": key.id})


def looks_like_token(text: str) -> bool:
    """Return whether *text* has the form of a token: three parts, the first of them a JSON object."""
    return text.startswith("eyJ") and text.count(".") == 2  # noqa: PLR2004 -- RFC 7519


def unverified_issuer(token: str) -> str:
    """Return the issuer that a token names, only to choose the keys to verify it with.

    Raises:
        TokenInvalid: it cannot be parsed.
    """
    if len(token) > _LENGTH_LIMIT:
        raise TokenInvalid("too long")
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except _MALFORMED as error:
        raise TokenInvalid(str(error)) from error
    return str(claims.get("iss", ""))


@dataclass(frozen=True)
class Verifier:
    """Verifies the tokens of one issuer.

    Attributes:
        audience: The audience that tokens must be for.
        algorithms: The signature algorithms to accept. Those that fit the key are a further limit, so that a
            public key is never used as a shared secret.
        leeway: How much clocks may differ.
    """

    issuer: str
    audience: str
    keys: KeySource
    algorithms: frozenset[str]
    leeway: timedelta

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of *token*.

        Raises:
            TokenInvalid: of another issuer, for another audience, expired, not valid yet, or forged.
        """
        try:
            return self._verify(token)
        except _MALFORMED as error:
            raise TokenInvalid(str(error)) from error

    def _verify(self, token: str) -> Mapping[str, Any]:
        if len(token) > _LENGTH_LIMIT:
            raise TokenInvalid("too long")
        header = jwt.get_unverified_header(token)
        if "crit" in header or "b64" in header:
            raise TokenInvalid("the header requires an unsupported extension")
        key = self.keys.key_for(header)
        if key is None:
            raise TokenInvalid("not signed by a trusted key")
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=sorted(self.algorithms & key.algorithms) or ["-"],
            audience=self.audience,
            issuer=self.issuer,
            leeway=self.leeway,
            options={"require": _REQUIRED_CLAIMS, "enforce_minimum_key_length": True},
        )
        if not 0 < float(claims["exp"]) <= _LAST_EXPIRY:
            raise TokenInvalid("the expiry is not a time")
        return claims
