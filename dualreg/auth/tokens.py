"""Tokens: JSON Web Tokens, issued and verified. The only user of PyJWT's signatures.

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

#: Characters of the longest token looked at.
_LIMIT = 16 << 10
_REQUIRED = ["exp", "iss", "aud"]


class TokenInvalid(Exception):
    """A token that proves nothing; the text says why, for the operator."""


def sign(key: SigningKey, *, lifetime: timedelta, **claims: object) -> str:
    """Return a token with *claims*, good from now on for *lifetime*."""
    now = int(time.time())
    times = {"iat": now, "nbf": now, "exp": now + int(lifetime.total_seconds()), "jti": uuid4().hex}
    return jwt.encode({**claims, **times}, key.private, ALGORITHM, headers={"kid": key.id})


def looks_like_token(text: str) -> bool:
    """Tell whether *text* could be a token: three parts, of which the first is a JSON object's."""
    return text.startswith("eyJ") and text.count(".") == 2  # noqa: PLR2004 -- RFC 7519


def unverified_issuer(token: str) -> str:
    """Return who a token says it is from, which decides by whose keys it has to be verified.

    Raises:
        TokenInvalid: it cannot be read.
    """
    if len(token) > _LIMIT:
        raise TokenInvalid("too long")
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenInvalid(str(error)) from error
    return str(claims.get("iss", ""))


@dataclass(frozen=True)
class Verifier:
    """Verifies the tokens of one issuer.

    Attributes:
        audience: What they must be for.
        algorithms: Which signatures are taken at all. What the key can have counts on top of that, so that no
            public key is ever taken for a secret.
        leeway: By how much clocks may differ.
    """

    issuer: str
    audience: str
    keys: KeySource
    algorithms: frozenset[str]
    leeway: timedelta

    def verify(self, token: str) -> Mapping[str, Any]:
        """Return the claims of *token*.

        Raises:
            TokenInvalid: it is not this issuer's, for another audience, too old or too young, or forged.
        """
        try:
            return self._verify(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise TokenInvalid(str(error)) from error

    def _verify(self, token: str) -> Mapping[str, Any]:
        if len(token) > _LIMIT:
            raise TokenInvalid("too long")
        header = jwt.get_unverified_header(token)
        if "crit" in header or "b64" in header:
            raise TokenInvalid("it demands an extension, of which none is known")
        key = self.keys.choose(header)
        if key is None:
            raise TokenInvalid("it leads to no trusted key")
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=sorted(self.algorithms & key.algorithms) or ["-"],
            audience=self.audience,
            issuer=self.issuer,
            leeway=self.leeway,
            options={"require": _REQUIRED, "enforce_minimum_key_length": True},
        )
        return claims
