"""Verification over HTTP: what clients get from the running registry, compared with its catalog and store."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from dualreg.catalog.rows import V1ImageRow
from dualreg.errors import RegistryError
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import stored_contents
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.base import Comparison, current_manifest
from dualreg.migrate.own_documents import is_blob_only
from dualreg.migrate.plan import Entry
from dualreg.migrate.single_flight import SingleFlight
from dualreg.migrate.transfer import has_digest
from dualreg.registry import Registry
from dualreg.remote.challenge import Scope, pulling
from dualreg.remote.client import Client, as_stored
from dualreg.remote.endpoint import RemoteError
from dualreg.remote.v1 import V1Client

_OK, _NOT_FOUND = 200, 404


@dataclass
class HttpComparison:
    """A Comparison that adds requests over HTTP, by V2 and V1, to another one.

    What tags of a repository share is requested once; its problems are reported for each of them.

    Attributes:
        quick: Whether layers are not read: by V2 they are requested with HEAD, by V1 not at all.
        v1_off: Whether V1 turned out to be disabled, so that nothing was compared by it.
    """

    registry: Registry
    inner: Comparison
    client: Client
    quick: bool
    v1: V1Client = field(init=False)
    v1_off: bool = field(default=False, init=False)
    _found: SingleFlight[tuple[RepositoryName, str], tuple[str, ...]] = field(
        default_factory=SingleFlight, init=False
    )

    def __post_init__(self) -> None:
        self.v1 = V1Client(self.client)

    def problems(self, entry: Entry) -> Iterator[str]:
        yield from self.inner.problems(entry)
        try:
            repository = RepositoryName.parse(entry.to_repository)
            reference = Tag.parse(entry.to_tag) if entry.to_tag else Digest.parse(entry.image)
        except RegistryError:
            return  # which the other comparison reports
        current = current_manifest(self.registry, repository, reference)
        if current is None:
            return
        try:
            yield from self._v2(repository, str(reference), current.digest)
            if isinstance(reference, Tag):
                yield from self._v1(repository, reference)
        except RemoteError as error:
            yield f"over HTTP: {error}"

    def _once(self, repository: RepositoryName, path: str, problems: Iterator[str]) -> tuple[str, ...]:
        """Return the problems with what is at *path*, which are found on the first call."""

        def find() -> tuple[str, ...]:
            try:
                return tuple(problems)
            except RemoteError as error:
                return (f"over HTTP: {error}",)

        return self._found.get((repository, path), find)

    def _v2(self, repository: RepositoryName, reference: str, digest: Digest) -> tuple[str, ...]:
        path = f"/v2/{repository}/manifests/{reference}"
        return self._once(repository, path, self._manifest(repository, path, digest))

    def _manifest(self, repository: RepositoryName, path: str, digest: Digest) -> Iterator[str]:
        scope = pulling(repository)
        reply = self.client.request("GET", path, as_stored(), scope=scope)
        stated = reply.headers.get("docker-content-digest")
        if reply.status != _OK or stated != str(digest):
            yield f"V2 manifest: status {reply.status}, digest {stated}, expected {digest}"
            return
        row = self.registry.manifests.find(repository, digest)
        signed = self.registry.manifests.signed(row)
        if not _is(reply.body, signed.digest if signed else digest):
            yield f"V2 manifest {digest}: damaged"
            return
        for child in stored_contents(row.media_type, reply.body).children:
            part = child.descriptor.digest
            if child.role is Role.MANIFEST and not is_blob_only(self.registry, repository, part):
                yield from self._v2(repository, str(part), part)
            elif media_types.is_distributable(child.descriptor.media_type) and part != empty_layer().digest:
                blob = f"/v2/{repository}/blobs/{part}"
                yield from self._once(repository, blob, self._blob(blob, part, scope))

    def _blob(self, path: str, digest: Digest, scope: Scope) -> Iterator[str]:
        if self.quick:
            status = self.client.request("HEAD", path, scope=scope).status
            if status != _OK:
                yield f"V2 blob {digest}: status {status}"
            return
        with self.client.stream(path, scope=scope) as reader:
            same = has_digest(reader, digest)
        if not same:
            yield f"V2 blob {digest}: damaged"

    def _v1(self, repository: RepositoryName, tag: Tag) -> Iterator[str]:
        """Compare image ID, ancestry, JSONs and layers, if V1 clients see the tag."""
        if self.v1_off:
            return
        try:
            image: ImageId = self.registry.bridge.resolve(repository, tag)
            rows = self.registry.v1_images.ancestry(repository, image)
        except RegistryError:
            return
        reply = self.v1.get(f"/v1/repositories/{repository}/tags/{tag}", repository)
        if reply.status == _NOT_FOUND and self._is_off():
            return
        if reply.status != _OK or reply.json() != image:
            yield f"V1 tag: status {reply.status}, {reply.body[:80]!r}, expected {image}"
            return
        listed = self.v1.get(f"/v1/images/{image}/ancestry", repository)
        if listed.status != _OK or listed.json() != [row.id for row in rows]:
            yield f"V1 image {image}: ancestry differs (status {listed.status})"
        for row in rows:
            path = f"/v1/images/{row.id}"
            yield from self._once(repository, f"{path}/json", self._json(repository, row))
            if row.layer and not self.quick:
                yield from self._once(repository, f"{path}/layer", self._layer(repository, row, row.layer))

    def _is_off(self) -> bool:
        """Return whether V1 is disabled, that is, even its status page does not exist."""
        if self.v1.get("/v1/_status").status == _NOT_FOUND:
            self.v1_off = True
        return self.v1_off

    def _json(self, repository: RepositoryName, row: V1ImageRow) -> Iterator[str]:
        document = self.v1.get(f"/v1/images/{row.id}/json", repository)
        if document.status != _OK:
            yield f"V1 image {row.id}: JSON: status {document.status}"
        elif not _is(document.body, row.json):
            yield f"V1 image {row.id}: JSON is damaged"

    def _layer(self, repository: RepositoryName, row: V1ImageRow, digest: Digest) -> Iterator[str]:
        with self.v1.stream(f"/v1/images/{row.id}/layer", repository) as reader:
            same = has_digest(reader, digest)
        if not same:
            yield f"V1 image {row.id}: layer is damaged"


def _is(content: bytes, digest: Digest) -> bool:
    """Return whether *content*, as a client gets it, has *digest*; what lies here may be damaged itself."""
    return Digest.of(content, digest.algorithm) == digest
