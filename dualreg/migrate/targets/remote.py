"""A remote registry as an export target, over the V2 API."""

from collections.abc import Sequence
from threading import Lock
from urllib.parse import urlencode

from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.targets.base import Outgoing, SingleSteps
from dualreg.migrate.transfer import DigestVerifier
from dualreg.remote.challenge import pulling, pushing
from dualreg.remote.client import Client
from dualreg.remote.endpoint import RemoteError, joined
from dualreg.remote.response import Response
from dualreg.storage.base import read_chunks, tee

_OK, _CREATED, _ACCEPTED = 200, 201, 202


class RemoteTarget(SingleSteps):
    """A Target, for any number of threads."""

    takes_schema1 = False
    takes_v1 = False
    served = None
    renames = False
    one_by_one = False
    is_stream = False

    def __init__(self, client: Client, prefix: str) -> None:
        """Push with *client* to the repositories below *prefix*; empty: to those of the same names."""
        self._client, self._prefix, self._lock = client, prefix.strip("/"), Lock()
        self._repository_of: dict[Digest, str] = {}

    def blob(self, repository: RepositoryName, digest: Digest, source: SourceBytes) -> int:
        """Upload a blob, or mount it from another repository of the target; return the bytes sent.

        Raises:
            RemoteError: the registry refuses it.
            Broken: the bytes do not match the digest.
        """
        name = self._name(repository)
        scope = pushing(name)
        if self._client.request("HEAD", f"/v2/{name}/blobs/{digest}", scope=scope).status == _OK:
            return self._remember(name, digest, 0)
        started = self._start_upload(name, digest)
        if started.status == _CREATED:
            return self._remember(name, digest, 0)
        location = joined(started.url, started.headers.get("location", ""))
        if started.status != _ACCEPTED or "location" not in started.headers:
            raise RemoteError(f"{self._client.url}: cannot start an upload to {name} ({started.status})")
        verifier = DigestVerifier(digest)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(source.size)}
        with source.open() as reader:
            response = self._client.request(
                "PUT",
                f"{location}{'&' if '?' in location else '?'}digest={digest}",
                headers,
                tee(read_chunks(reader), verifier.update),
                scope=scope,
            )
        verifier.check()
        if response.status != _CREATED:
            raise RemoteError(f"{self._client.url}: cannot upload {digest} to {name} ({response.status})")
        return self._remember(name, digest, verifier.size)

    def manifest(self, manifest: Outgoing, tags: Sequence[Tag]) -> bool:
        pushed = [self._put(manifest, reference) for reference in tags or (str(manifest.digest),)]
        return any(pushed)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _start_upload(self, name: str, digest: Digest) -> Response:
        """Mount the blob from the repository that it was sent to, or else start an upload."""
        path = f"/v2/{name}/blobs/uploads/"
        with self._lock:
            home = self._repository_of.get(digest, name)
        if home != name:
            scope = (*pushing(name), *pulling(home))
            query = urlencode([("mount", str(digest)), ("from", home)])
            started = self._client.request("POST", f"{path}?{query}", scope=scope)
            if started.status in (_CREATED, _ACCEPTED):
                return started
        return self._client.request("POST", path, scope=pushing(name))

    def _put(self, manifest: Outgoing, reference: str) -> bool:
        """Push a manifest by tag or digest, unless the registry has it; return whether it was pushed."""
        name = self._name(manifest.repository)
        path, scope = f"/v2/{name}/manifests/{reference}", pushing(name)
        known = self._client.request("HEAD", path, {"Accept": manifest.media_type}, scope=scope)
        if known.status == _OK and known.headers.get("docker-content-digest") == str(manifest.digest):
            return False
        headers = {"Content-Type": manifest.media_type}
        response = self._client.request("PUT", path, headers, manifest.payload, scope=scope)
        if response.status != _CREATED:
            answer = response.body[:200].decode("utf-8", "replace")
            raise Broken(
                FindingKind.NO_PLACE, f"{name}:{reference}", f"refused with {response.status}: {answer}"
            )
        return True

    def _remember(self, name: str, digest: Digest, sent: int) -> int:
        with self._lock:
            self._repository_of.setdefault(digest, name)
        return sent

    def _name(self, repository: RepositoryName) -> str:
        return f"{self._prefix}/{repository}" if self._prefix else repository
