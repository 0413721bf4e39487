"""Another registry, over the V2 API."""

from collections.abc import Sequence
from threading import Lock
from urllib.parse import urlencode, urljoin

from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing
from dualreg.migrate.transfer import DigestVerifier
from dualreg.remote.challenge import pulling, pushing
from dualreg.remote.client import Client
from dualreg.remote.errors import RemoteError
from dualreg.remote.response import Response
from dualreg.storage.base import read_chunks, tap

_OK, _CREATED, _ACCEPTED = 200, 201, 202


class RemoteTarget:
    """A Target."""

    takes_schema1 = False
    renames = False
    one_by_one = False

    def __init__(self, wire: Client, prefix: str) -> None:
        """Push by *wire*; *prefix* and a slash come before the names of repositories, unless it is empty."""
        self._wire, self._prefix, self._lock = wire, prefix.strip("/"), Lock()
        self._homes: dict[Digest, str] = {}

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        """See Target. A blob that another repository there has is mounted, if that is granted."""
        name = self._name(repository)
        scope = pushing(name)
        if self._wire.request("HEAD", f"/v2/{name}/blobs/{digest}", scope=scope).status == _OK:
            return self._keep(name, digest, 0)
        begun = self._begin(name, digest)
        if begun.status == _CREATED:
            return self._keep(name, digest, 0)
        place = urljoin(begun.url, begun.headers.get("location", ""))
        if begun.status != _ACCEPTED or "location" not in begun.headers:
            raise RemoteError(f"{self._wire.url}: an upload to {name} is refused ({begun.status})")
        checked = DigestVerifier(digest)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(source.size)}
        with source.open() as reader:
            reply = self._wire.request(
                "PUT",
                f"{place}{'&' if '?' in place else '?'}digest={digest}",
                headers,
                tap(read_chunks(reader), checked.update),
                scope=scope,
            )
        checked.check()
        if reply.status != _CREATED:
            raise RemoteError(f"{self._wire.url}: {digest} is refused by {name} ({reply.status})")
        return self._keep(name, digest, checked.size)

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        """See Target."""
        changed = [
            self._put(manifest, reference) for reference in (*tags, *([] if tags else [str(manifest.digest)]))
        ]
        return any(changed)

    def finish(self) -> None:
        """See Target: nothing is left."""

    def _begin(self, name: str, digest: Digest) -> Response:
        """Begin an upload, or mount the blob, which is to be read where it is."""
        path = f"/v2/{name}/blobs/uploads/"
        with self._lock:
            home = self._homes.get(digest, name)
        if home != name:
            scope = (*pushing(name), *pulling(home))
            query = urlencode([("mount", str(digest)), ("from", home)])
            begun = self._wire.request("POST", f"{path}?{query}", scope=scope)
            if begun.status in (_CREATED, _ACCEPTED):
                return begun
        return self._wire.request("POST", path, scope=pushing(name))

    def _put(self, manifest: Outgoing, reference: str) -> bool:
        name = self._name(manifest.repository)
        path, scope = f"/v2/{name}/manifests/{reference}", pushing(name)
        known = self._wire.request("HEAD", path, {"Accept": manifest.media_type}, scope=scope)
        if known.status == _OK and known.headers.get("docker-content-digest") == str(manifest.digest):
            return False
        headers = {"Content-Type": manifest.media_type}
        reply = self._wire.request("PUT", path, headers, manifest.payload, scope=scope)
        if reply.status != _CREATED:
            told = reply.body[:200].decode("utf-8", "replace")
            raise Broken(FindingKind.NO_PLACE, f"{name}:{reference}", f"refused with {reply.status}: {told}")
        return True

    def _keep(self, name: str, digest: Digest, sent: int) -> int:
        with self._lock:
            self._homes.setdefault(digest, name)
        return sent

    def _name(self, repository: RepositoryName) -> str:
        return f"{self._prefix}/{repository}" if self._prefix else repository
