"""Replies: answers that were read whole, and what can be made of them."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from dualreg.remote.errors import RemoteError
from dualreg.remote.origins import redact

#: Whoever has no login, or a wrong one, or may not.
_REFUSALS = (401, 403)
#: Digits of the largest size that somebody can mean.
_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, read whole.

    Attributes:
        headers: Their names are in lower case.
        url: Where it came from, after all redirects.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    url: str = ""

    @property
    def advice(self) -> str:
        """What to do if it refuses to tell somebody what it tells others; empty: it does not."""
        return "another login is wanted, see --user" if self.status in _REFUSALS else ""

    def json(self) -> Any:  # noqa: ANN401 -- whatever the other side says
        """Return the document.

        Raises:
            WireError: there is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise RemoteError(f"{redact(self.url)}: no JSON: {self.body[:80]!r}") from error

    def object(self) -> Mapping[str, Any]:
        """Return the document, which is a JSON object.

        Raises:
            WireError: it is not.
        """
        document = self.json()
        if not isinstance(document, dict):
            raise self._odd()
        return document

    def texts(self, key: str) -> Sequence[str]:
        """Return the list of texts under *key*; nothing there is an empty list.

        Raises:
            WireError: it is something else.
        """
        return [each for each in self._list(key) if isinstance(each, str) or self._fail()]

    def objects(self, key: str) -> Sequence[Mapping[str, Any]]:
        """Return the list of objects under *key*; nothing there is an empty list.

        Raises:
            WireError: it is something else.
        """
        return [each for each in self._list(key) if isinstance(each, dict) or self._fail()]

    def size(self, header: str) -> int:
        """Return the bytes that a header states; 0 if it states none."""
        text = self.headers.get(header, "")
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else 0

    @property
    def next_page(self) -> str:
        """What a ``Link`` header says of the next page, as a whole URL; empty if there is none.

        Source: RFC 8288; OCI distribution-spec v1.1, "Listing Tags".
        """
        match = re.search(r'<([^>]*)>\s*;[^,]*rel="?next"?', self.headers.get("link", ""))
        return urljoin(self.url, match[1]) if match else ""

    def _list(self, key: str) -> Sequence[Any]:
        listed = self.object().get(key)
        if not isinstance(listed, list | None):
            raise self._odd()
        return listed or ()

    def _fail(self) -> bool:
        raise self._odd()

    def _odd(self) -> RemoteError:
        return RemoteError(f"{redact(self.url)}: an answer that makes no sense: {self.body[:80]!r}")
