"""The secrets that the registry issues: API keys, refresh tokens and sessions. Only their hashes are stored.

They are long and random, so a fast hash is as good as a slow one.
"""

import hashlib
import hmac
import re
import secrets
from enum import StrEnum
from typing import NamedTuple, Self


class SecretKind(StrEnum):
    """The purpose of a secret."""

    KEY = "key"
    REFRESH = "refresh"
    SESSION = "session"


_PREFIXES = {SecretKind.KEY: "drk", SecretKind.REFRESH: "drr", SecretKind.SESSION: "drs"}
_SECRET = re.compile(r"(drk|drr|drs)_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)


class Secret(NamedTuple):
    """A secret: its public id, and the whole text, which only its owner keeps."""

    kind: SecretKind
    id: str
    text: str

    @classmethod
    def generate(cls, kind: SecretKind) -> Self:
        """Return a new secret of 256 random bits."""
        id_ = secrets.token_hex(8)
        return cls(kind, id_, f"{_PREFIXES[kind]}_{id_}_{secrets.token_urlsafe(32)}")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the secret in *text*; None if it does not have the form of one."""
        match = _SECRET.fullmatch(text)
        if match is None:
            return None
        kind = next(kind for kind, prefix in _PREFIXES.items() if prefix == match[1])
        return cls(kind, match[2], text)

    @property
    def hash(self) -> str:
        """The hash to store."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def matches(self, hash_: str) -> bool:
        """Return whether *hash_* is that of this secret, in constant time."""
        return hmac.compare_digest(self.hash, hash_)
