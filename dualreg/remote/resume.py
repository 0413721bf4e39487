"""Bodies that are resumed when the connection breaks; a server that knows no ranges sends all again."""

import io
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from dualreg.remote.endpoint import RemoteError

#: How often a body is resumed, and after how many bytes of progress the count starts again.
ATTEMPTS, _PROGRESS = 5, 1 << 20
_OK, _PARTIAL_CONTENT = 200, 206
#: Bytes that are skipped at once.
_PIECE = 1 << 20


class ResumingBody(io.RawIOBase):
    """The body of a GET, resumed by a range request where it is cut short."""

    def __init__(
        self,
        name: str,
        request: Callable[[Mapping[str, str]], BaseHTTPResponse],
        attempts: int = ATTEMPTS,
        offset: int = 0,
    ) -> None:
        """Request the body.

        Args:
            name: What errors call it: a redacted URL.
            request: Sends the GET with these additional headers; raises RemoteError.
            attempts: How often it is resumed without much progress.
            offset: Where it begins, in bytes.

        Raises:
            RemoteError: there is no answer, or it does not begin there.
        """
        self._name, self._request = name, request
        self._attempts = attempts
        self._position, self._attempts_left, self._resumed_at = offset, attempts, offset
        self._response = self._send()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what io passes
        while True:
            try:
                data = self._response.read1(len(buffer))
            except HTTPError as error:
                self._resume(error)
                continue
            buffer[: len(data)] = data
            self._position += len(data)
            return len(data)

    def close(self) -> None:
        if not self.closed:
            self._response.close()
            self._response.release_conn()
        super().close()

    def _resume(self, error: HTTPError) -> None:
        """Send the request again for the bytes that are missing.

        Raises:
            RemoteError: too many attempts without progress, or the server does not continue where it ended.
        """
        self._response.close()
        if self._position - self._resumed_at >= _PROGRESS:
            self._attempts_left = self._attempts
        self._attempts_left, self._resumed_at = self._attempts_left - 1, self._position
        if self._attempts_left < 0:
            raise RemoteError(f"GET {self._name}: cut short at {self._position} bytes") from error
        time.sleep(0.1 * (self._attempts - self._attempts_left))
        self._response = self._send()

    def _send(self) -> BaseHTTPResponse:
        """Send the request for the bytes from the position on.

        Raises:
            RemoteError: the server does not begin there, nor at the first byte.
        """
        response = self._request({"Range": f"bytes={self._position}-"} if self._position else {})
        if self._position and not self._continues(response) and not self._skip(response):
            response.close()
            raise RemoteError(f"GET {self._name}: cut short at {self._position} bytes, and cannot be resumed")
        return response

    def _skip(self, response: BaseHTTPResponse) -> bool:
        """Read a response that starts at the first byte up to the position; return whether it goes so far."""
        left = self._position if response.status == _OK else -1
        with suppress(HTTPError):
            while left > 0 and (data := response.read1(min(left, _PIECE))):
                left -= len(data)
        return not left

    def _continues(self, response: BaseHTTPResponse) -> bool:
        """Return whether a response starts at the position."""
        content_range = response.headers.get("Content-Range", f"bytes {self._position}-")
        starts_there = content_range.startswith(f"bytes {self._position}-")
        return response.status == _PARTIAL_CONTENT and starts_there
