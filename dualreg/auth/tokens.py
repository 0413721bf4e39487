"""JSON Web Tokens, signed and verified.

Source: Docker Registry, "Token Authentication Implementation"; RFC 7519, RFC 8725 (best practices).
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, NamedTuple
from uuid import uuid4

import jwt
from cachetools import LRUCache

from dualreg.auth.key_sources import KeySource
from dualreg.auth.keyring import ALGORITHM
from dualreg.auth.trust import Key
from dualreg.catalog.clock import utc_now
from dualreg.image.jws import SigningKey

#: Characters of the longest token that is parsed: what fits into a header, so any token that is issued.
_LENGTH_LIMIT = 60 << 10
_REQUIRED_CLAIMS = ["exp", "iss", "aud"]
#: The last second that an expiry may name: the highest integer that every JSON parser reads.
_LAST_EXPIRY = (1 << 53) - 1
#: Characters of the tokens that are remembered by a process, and of what each takes besides.
_REMEMBERED, _OVERHEAD = 4 << 20, 1 << 10
#: What is raised for tokens that cannot be parsed, or whose claims are not what they should be.
_MALFORMED = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class TokenInvalid(Exception):
    """A token is rejected; the text says why, for the operator."""


def sign(key: SigningKey, *, now: datetime, lifetime: timedelta, **claims: object) -> str:
    """Return a token with *claims*, valid from *now* on for *lifetime*."""
    at = int(now.timestamp())
    times = {"iat": at, "nbf": at, "exp": at + int(lifetime.total_seconds()), "jti": uuid4().hex}
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


def verified_header(token: str) -> Mapping[str, Any]:
    """Return the header of a token that was verified before."""
    return jwt.get_unverified_header(token)


class _Verified(NamedTuple):
    """A token whose signature was verified, with the key that its header chose."""

    header: dict[str, Any]
    key: Key
    claims: Mapping[str, Any]
    size: int


class _Memory:
    """Tokens whose signatures were verified, which takes as long as a short request without that."""

    def __init__(self) -> None:
        """Start with none."""
        self._secret = secrets.token_bytes(32)
        self._tokens = LRUCache[bytes, _Verified](_REMEMBERED, getsizeof=lambda verified: verified.size)
        self._lock = Lock()

    def find(self, token: str) -> _Verified | None:
        """Return the token as it was verified; None if it was not, or is forgotten."""
        with self._lock:
            return self._tokens.get(self._fingerprint(token))

    def keep(self, token: str, verified: _Verified) -> None:
        """Remember the token."""
        with self._lock:
            self._tokens[self._fingerprint(token)] = verified

    def _fingerprint(self, token: str) -> bytes:
        """Return what stands for it in memory: useless to an attacker who reads it there."""
        return hashlib.blake2b(token.encode(), key=self._secret, digest_size=32).digest()


@dataclass(frozen=True)
class Verifier:
    """Verifies the tokens of one issuer.

    A signature is verified once, as long as the key that the header names is the same.

    Attributes:
        audience: The audience that tokens must be for.
        algorithms: The signature algorithms to accept. Those that fit the key are a further limit, so that a
            public key is never used as a shared secret.
        leeway: How much clocks may differ.
        now: The clock: that of all instances, not of this machine.
    """

    issuer: str
    audience: str
    keys: KeySource
    algorithms: frozenset[str]
    leeway: timedelta
    now: Callable[[], datetime] = utc_now
    _memory: _Memory = field(default_factory=_Memory, compare=False)

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
        if known := self._known(token):
            self._require_valid(known)
            return known
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
            options={
                "require": _REQUIRED_CLAIMS,
                "enforce_minimum_key_length": True,
                # The library would compare times with the clock of this machine.
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        self._require_valid(claims)
        if not 0 < float(claims["exp"]) <= _LAST_EXPIRY:
            raise TokenInvalid("the expiry is not a time")
        self._memory.keep(token, _Verified(header, key, claims, len(token) + _OVERHEAD))
        return claims

    def _known(self, token: str) -> Mapping[str, Any] | None:
        """Return the claims of a token that was verified with the key that its header names now."""
        known = self._memory.find(token)
        return known.claims if known and self.keys.key_for(known.header) == known.key else None

    def _require_valid(self, claims: Mapping[str, Any]) -> None:
        """Check the times in *claims*.

        Raises:
            TokenInvalid: expired, or not valid yet.
            ValueError, TypeError, OverflowError: one is no number.
        """
        now, leeway = self.now().timestamp(), self.leeway.total_seconds()
        if int(claims["exp"]) <= now - leeway:
            raise TokenInvalid("Signature has expired")
        for name in ("iat", "nbf"):
            if int(claims.get(name, 0)) > now + leeway:
                raise TokenInvalid(f"The token is not yet valid ({name})")
