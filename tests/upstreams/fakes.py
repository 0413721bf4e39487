"""An upstream in this process: it sends as much of a blob as it is allowed to."""

import math
from dataclasses import dataclass, field
from threading import Condition

from dualreg.errors import DownloadFailed


@dataclass
class FakeSource:
    """A blob that an upstream has.

    Attributes:
        content: What it sends.
        opened: The offsets at which it was requested.
        fails_at: Where a connection breaks; each does once.
    """

    content: bytes
    opened: list[int] = field(default_factory=list)
    fails_at: list[int] = field(default_factory=list)
    _allowed: float = math.inf
    _changed: Condition = field(default_factory=Condition)

    def allow(self, size: float = math.inf) -> None:
        """Send the first *size* bytes, and the others later."""
        with self._changed:
            self._allowed = size
            self._changed.notify_all()

    def open(self, offset: int) -> "FakeStream":
        """Begin to send."""
        self.opened.append(offset)
        return FakeStream(self, offset)

    def wait(self, position: int) -> int:
        """Wait until more than *position* bytes may be sent; return how many."""
        with self._changed:
            self._changed.wait_for(lambda: self._allowed > position or position >= len(self.content), 60)
            return int(min(self._allowed, len(self.content)))


@dataclass
class FakeStream:
    """The body of one response."""

    source: FakeSource
    position: int

    def read1(self, size: int) -> bytes:
        """Return what may be sent."""
        if self.source.fails_at and self.position >= self.source.fails_at[0]:
            self.source.fails_at.pop(0)
            raise DownloadFailed(digest="", reason="the connection broke")
        end = min(self.source.wait(self.position), self.position + size, *self.source.fails_at[:1])
        chunk = self.source.content[self.position : end]
        self.position = end
        return chunk

    def close(self) -> None:
        """Do nothing."""
