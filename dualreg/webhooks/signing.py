"""Signing: how receivers know that a document is from this registry, and when it was sent.

Source: Standard Webhooks 1.0.0, "Signature scheme" (symmetric): HMAC-SHA256 of id, timestamp and body.
"""

import base64
import hmac
from binascii import Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Self

from dualreg.reloading import ReloadingFile
from dualreg.webhooks.documents import Document

#: What a secret in base64 begins with.
_PREFIX = "whsec_"
#: Bytes of the shortest secret; the specification wants 24, and shorter ones can be guessed.
_SHORTEST = 16
#: Secrets that count at a time, while one is replaced.
_MOST = 4
_SIZE_LIMIT = 4096


@dataclass(frozen=True)
class Credentials:
    """What proves to a receiver who has sent a document; files are read again when they change.

    Attributes:
        secrets: None: documents are not signed.
        authorization: The ``Authorization`` header; None: it is not sent.
    """

    secrets: ReloadingFile[Sequence[bytes]] | None = None
    authorization: ReloadingFile[str] | None = None

    @classmethod
    def read(cls, secret_file: str, authorization_file: str) -> Self:
        """Return those in files; empty: there is none.

        Raises:
            ValueError: one cannot be read, or has something else.
        """
        secret, authorization = Path(secret_file), Path(authorization_file)
        return cls(
            ReloadingFile(lambda: _secrets(_lines(secret)), secret) if secret_file else None,
            ReloadingFile(lambda: _header(_lines(authorization)), authorization)
            if authorization_file
            else None,
        )

    def headers(self, document: Document, timestamp: int) -> Mapping[str, str]:
        """Return the headers of a document that is sent now, in seconds since 1970."""
        headers = {"webhook-id": document.id, "webhook-timestamp": f"{timestamp}"}
        if self.secrets:
            headers["webhook-signature"] = " ".join(
                _signature(secret, document, timestamp) for secret in self.secrets.get()
            )
        if self.authorization:
            headers["Authorization"] = self.authorization.get()
        return headers


def _signature(secret: bytes, document: Document, timestamp: int) -> str:
    signed = f"{document.id}.{timestamp}.".encode() + document.body
    return f"v1,{base64.b64encode(hmac.digest(secret, signed, sha256)).decode()}"


def _lines(path: Path) -> Sequence[str]:
    with path.open("rb") as file:
        content = file.read(_SIZE_LIMIT + 1)
    if len(content) > _SIZE_LIMIT:
        raise ValueError(f"longer than {_SIZE_LIMIT} bytes")
    return [line.strip() for line in content.decode().splitlines() if line.strip()]


def _secrets(lines: Sequence[str]) -> Sequence[bytes]:
    """Return the secrets in the lines of a file: base64 after ``whsec_``, or else the line itself."""
    try:
        found = [
            base64.b64decode(line.removeprefix(_PREFIX), validate=True)
            if line.startswith(_PREFIX)
            else line.encode()
            for line in lines
        ]
    except Error as error:
        raise ValueError(f"what follows {_PREFIX} is not base64") from error
    if not 1 <= len(found) <= _MOST:
        raise ValueError(f"expected a secret, or up to {_MOST}, one in each line")
    if any(len(secret) < _SHORTEST for secret in found):
        raise ValueError(
            f"a secret is shorter than {_SHORTEST} bytes; make one with `openssl rand -base64 32`"
        )
    return found


def _header(lines: Sequence[str]) -> str:
    if len(lines) != 1 or not lines[0].isascii() or not lines[0].isprintable():
        raise ValueError("expected one line, such as Bearer TOKEN")
    return lines[0]
