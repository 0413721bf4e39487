"""Peers: other registries and caches nearby that may have fetched the same from upstream.

They are asked first, by digest alone, and only for what they have: none of them asks another one. What they
send is trusted as little as what upstream sends: it counts when its digest is right. When a peer fails,
upstream sends the rest.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dualreg.errors import ServerBusy, UpstreamFailed
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.messages import safe_line
from dualreg.remote.endpoint import RemoteError
from dualreg.upstreams.flights import Stream
from dualreg.upstreams.memory import Memory
from dualreg.upstreams.remote import Fetched, Remote, RemoteBlob

_log = logging.getLogger(__name__)
#: What a peer may fail with.
_FAILURES = (UpstreamFailed, ServerBusy, RemoteError, OSError)


@dataclass(frozen=True)
class Peers:
    """The peers that may have content of one upstream.

    Attributes:
        remotes: In the order in which they are asked.
        memory: Remembers what was asked lately: a peer that sent something wrong is not asked for it again.
    """

    remotes: Sequence[Remote] = ()
    memory: Memory = field(default_factory=Memory)

    def manifest(self, name: RepositoryName, digest: Digest) -> Fetched | None:
        """Return a manifest with that digest, from the first peer that has it; None: no peer has."""
        for remote in self._worth_asking(digest):
            try:
                found = remote.manifest(name, digest)
            except _FAILURES:
                continue
            if found and Digest.of(found.body, digest.algorithm) == digest:
                return found
        return None

    def blob(
        self, name: RepositoryName, digest: Digest, upstream: Callable[[], RemoteBlob | None]
    ) -> RemoteBlob | None:
        """Return a blob of the first peer that has it; None: no peer has.

        Args:
            upstream: Returns the blob of the upstream, which sends what the peer does not.
        """
        for remote in self._worth_asking(digest):
            try:
                found = remote.blob(name, digest)
            except _FAILURES:
                continue
            if found:
                return RemoteBlob(found.size, _Opening(remote.url, found, digest, upstream).open)
        return None

    def _worth_asking(self, digest: Digest) -> Sequence[Remote]:
        """Return the peers, unless they were asked for it lately, and did not have it, or not all of it."""
        return self.remotes if self.remotes and self.memory.is_first((digest, "peers")) else ()


@dataclass
class _Opening:
    """Opens a blob of a peer once; after that, of upstream."""

    peer: str
    found: RemoteBlob
    digest: Digest
    upstream: Callable[[], RemoteBlob | None]
    _is_left: bool = False

    def open(self, offset: int) -> Stream:
        if not self._is_left:
            self._is_left = True
            try:
                stream = self.found.open(offset)
            except _FAILURES as error:
                self._warn(error)
            else:
                return _Continued(stream, offset, self.found.size, self._go_on)
        return self._from_upstream(offset)

    def _go_on(self, offset: int, reason: object) -> Stream:
        self._warn(reason)
        return self._from_upstream(offset)

    def _from_upstream(self, offset: int) -> Stream:
        """Return the bytes from *offset* on.

        Raises:
            UpstreamFailed: upstream does not have them.
        """
        source = self.upstream()
        if source is None:
            reason = f"{self.digest} did not arrive, and upstream does not have it"
            raise UpstreamFailed(upstream=self.peer, status=502, reason=reason)
        return source.open(offset)

    def _warn(self, reason: object) -> None:
        _log.warning("%s does not send all of %s: %s", self.peer, self.digest, safe_line(reason))


class _Continued:
    """A Stream of a peer; when it ends early, another one goes on."""

    def __init__(
        self, stream: Stream, offset: int, size: int, go_on: Callable[[int, object], Stream]
    ) -> None:
        """Read *stream*, which begins at *offset* of a blob of *size* bytes; *go_on* opens the other one."""
        self._stream, self._at, self._size = stream, offset, size
        self._go_on: Callable[[int, object], Stream] | None = go_on

    def read1(self, size: int, /) -> bytes:
        reason: object = "it ends early"
        try:
            data = self._stream.read1(size)
        except _FAILURES as error:
            if self._go_on is None:
                raise
            data, reason = b"", error
        if not data and self._at < self._size and self._go_on:
            self._stream.close()
            self._stream, self._go_on = self._go_on(self._at, reason), None
            data = self._stream.read1(size)
        self._at += len(data)
        return data

    def close(self) -> None:
        self._stream.close()
