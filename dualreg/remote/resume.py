"""Bodies that are read to their end, whatever happens to connections."""

import io
import time
from collections.abc import Callable, Mapping

from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from dualreg.remote.errors import RemoteError

#: How often a body that is cut short is taken up again, and after how many bytes that is forgotten.
_RESUMES, _PROGRESS = 5, 1 << 20
_PARTIAL = 206


class ResumingBody(io.RawIOBase):
    """A body that is taken up again where it was cut short."""

    def __init__(
        self, name: str, begun: BaseHTTPResponse, begin: Callable[[Mapping[str, str]], BaseHTTPResponse]
    ) -> None:
        """Begin to read.

        Args:
            name: For errors.
            begun: The answer whose body it is.
            begin: Asks for it again, with these headers in addition; raises WireError.
        """
        self._name, self._response, self._begin = name, begun, begin
        self._at, self._left, self._resumed_at = 0, _RESUMES, 0

    def readable(self) -> bool:
        """See RawIOBase."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what io passes
        """See RawIOBase."""
        while True:
            try:
                data = self._response.read(len(buffer))
            except HTTPError as error:
                self._resume(error)
                continue
            buffer[: len(data)] = data
            self._at += len(data)
            return len(data)

    def close(self) -> None:
        """See RawIOBase."""
        if not self.closed:
            self._response.close()
            self._response.release_conn()
        super().close()

    def _resume(self, error: HTTPError) -> None:
        self._response.close()
        if self._at - self._resumed_at >= _PROGRESS:
            self._left = _RESUMES
        self._left, self._resumed_at = self._left - 1, self._at
        if self._left < 0:
            raise RemoteError(f"GET {self._name}: cut short at {self._at} bytes") from error
        time.sleep(0.1 * (_RESUMES - self._left))
        self._response = self._begin({"Range": f"bytes={self._at}-"} if self._at else {})
        if self._at and not self._goes_on():
            raise RemoteError(f"GET {self._name}: cut short at {self._at} bytes, for good") from error

    def _goes_on(self) -> bool:
        """Tell whether the answer begins where the last one ended."""
        stated = self._response.headers.get("Content-Range", f"bytes {self._at}-")
        return self._response.status == _PARTIAL and stated.startswith(f"bytes {self._at}-")
