"""Responses that were read whole, and their parts."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualreg.remote.endpoint import RemoteError, joined, redact

_UNAUTHORIZED, _FORBIDDEN = 401, 403
#: Digits of the largest size that is believed.
_DIGITS_LIMIT = 18


@dataclass(frozen=True, slots=True)
class Response:
    """A response, read whole.

    Attributes:
        headers: By name in lower case.
        url: Where it came from, after all redirects.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    url: str = ""

    @property
    def is_denied(self) -> bool:
        """Whether other credentials may get another answer."""
        return self.status in (_UNAUTHORIZED, _FORBIDDEN)

    def json(self) -> Any:  # noqa: ANN401 -- whatever the server sent
        """Return the parsed document.

        Raises:
            RemoteError: it is not JSON.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise RemoteError(f"{redact(self.url)}: not JSON: {self.body[:80]!r}") from error

    def object(self) -> Mapping[str, Any]:
        """Return the parsed document, which is a JSON object.

        Raises:
            RemoteError: it is not.
        """
        document = self.json()
        if not isinstance(document, dict):
            raise self._unexpected()
        return document

    def texts(self, key: str) -> Sequence[str]:
        """Return the list of strings under *key*; empty if there is no such key.

        Raises:
            RemoteError: it is something else.
        """
        return self._list(key, str)

    def objects(self, key: str) -> Sequence[Mapping[str, Any]]:
        """Return the list of objects under *key*; empty if there is no such key.

        Raises:
            RemoteError: it is something else.
        """
        return self._list(key, dict)

    def size(self, header: str) -> int:
        """Return the number of bytes in a header; 0 if it is absent or not a number."""
        text = self.headers.get(header, "")
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS_LIMIT else 0

    @property
    def next_page(self) -> str:
        """The absolute URL of the next page, from the ``Link`` header; empty on the last page.

        Source: RFC 8288; OCI distribution-spec v1.1, "Listing Tags".
        """
        match = re.search(r'<([^>]*)>\s*;[^,]*rel="?next"?', self.headers.get("link", ""))
        return joined(self.url, match[1]) if match else ""

    def _list(self, key: str, kind: type) -> Sequence[Any]:
        items = self.object().get(key)
        if items is None:
            return ()
        if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
            raise self._unexpected()
        return items

    def _unexpected(self) -> RemoteError:
        return RemoteError(f"{redact(self.url)}: unexpected answer: {self.body[:80]!r}")
