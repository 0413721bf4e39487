"""Secrets that the registry hands out: API keys and refresh tokens. Only their hashes are kept.

They are random and long, so a fast hash is as good as a slow one.
"""

import hashlib
import hmac
import re
import secrets
from enum import StrEnum
from typing import NamedTuple, Self


class SecretKind(StrEnum):
    """What a secret is for."""

    KEY = "key"
    REFRESH = "refresh"


_PREFIXES = {SecretKind.KEY: "drk", SecretKind.REFRESH: "drr"}
_SECRET = re.compile(r"(drk|drr)_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)


class Secret(NamedTuple):
    """A secret: the part that is its name, and the whole text, which nobody but its owner keeps."""

    kind: SecretKind
    id: str
    text: str

    @classmethod
    def make(cls, kind: SecretKind) -> Self:
        """Return a new one, of 256 random bits."""
        id_ = secrets.token_hex(8)
        return cls(kind, id_, f"{_PREFIXES[kind]}_{id_}_{secrets.token_urlsafe(32)}")

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the secret that *text* is; None if it looks like none."""
        match = _SECRET.fullmatch(text)
        if match is None:
            return None
        kind = next(kind for kind, prefix in _PREFIXES.items() if prefix == match[1])
        return cls(kind, match[2], text)

    @property
    def hash(self) -> str:
        """What is kept of it."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def agrees(self, hash_: str) -> bool:
        """Tell whether *hash_* is that of this secret, in a time that says nothing about either."""
        return hmac.compare_digest(self.hash, hash_)
