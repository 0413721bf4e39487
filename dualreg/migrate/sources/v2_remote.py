"""A live registry, over the V2 API."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from dualreg.errors import DigestInvalid, ManifestUnverified
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.jws import verified_payload
from dualreg.migrate.findings import Broken, Finding, Kind
from dualreg.migrate.sources.base import NoSource, SourceBytes, SourceManifest, SourceTag
from dualreg.migrate.wire import Reply, Scope, Wire, WireError, accept, pulling

_OK, _NOT_FOUND = 200, 404
#: Pages of a list that are asked for at most; one that goes round in circles ends.
_PAGES = 100_000


@dataclass(frozen=True, slots=True)
class V2Remote:
    """A ManifestSource.

    Attributes:
        repository: Only this one; empty: all that the registry lists.
    """

    wire: Wire
    repository: str = ""

    def tags(self) -> Iterator[SourceTag | Finding]:
        """See ManifestSource. Of manifests without a tag, those that are about a tagged one are told."""
        for name in [self.repository] if self.repository else self._repositories():
            found = [*self._tags(name)]
            yield from found
            images = {each.image for each in found}
            for image in sorted(images):
                yield from self._referrers(name, image, images)
            if not found:
                yield Finding(Kind.EMPTY, name, "no tags")

    def manifest(self, repository: str, digest: Digest) -> SourceManifest:
        """See ManifestSource."""
        reply = self._get(repository, str(digest))
        where = f"{repository}@{digest}"
        if reply.status == _NOT_FOUND:
            raise Broken(Kind.MISSING_MANIFEST, where, "no such manifest")
        if reply.status != _OK:
            raise Broken(Kind.CORRUPT, where, f"the registry answers {reply.status}")
        return SourceManifest(media_types.strip_parameters(reply.headers.get("content-type", "")), reply.body)

    def blob(self, repository: str, digest: Digest) -> SourceBytes:
        """See ManifestSource."""
        path = f"/v2/{repository}/blobs/{digest}"
        reply = self.wire.request("HEAD", path, scope=pulling(repository))
        if reply.status != _OK:
            raise Broken(Kind.MISSING_BLOB, f"{repository}@{digest}", f"the registry answers {reply.status}")
        size = int(reply.headers.get("content-length") or 0)
        return SourceBytes(size, partial(self.wire.stream, path, scope=pulling(repository)))

    def _repositories(self) -> Iterator[str]:
        for reply in self._pages("/v2/_catalog?n=1000", ("registry:catalog:*",)):
            if reply.status != _OK:
                raise NoSource(
                    f"{self.wire.url} does not list its repositories ({reply.status}): name one in the URL"
                )
            yield from reply.json().get("repositories") or ()

    def _tags(self, name: str) -> Iterator[SourceTag]:
        for reply in self._pages(f"/v2/{name}/tags/list", pulling(name)):
            if reply.status == _NOT_FOUND:
                return
            if reply.status != _OK:
                raise NoSource(f"{self.wire.url}: the tags of {name} are refused ({reply.status})")
            for tag in reply.json().get("tags") or ():
                image = self._digest(name, tag)
                yield SourceTag(name, tag, image, datetime.now(UTC))

    def _digest(self, name: str, tag: str) -> str:
        """Return what a tag points at, by the registry's word, or by its bytes; empty if neither can be."""
        headers = {"Accept": accept()}
        path = f"/v2/{name}/manifests/{tag}"
        reply = self.wire.request("HEAD", path, headers, scope=pulling(name))
        stated = reply.headers.get("docker-content-digest", "")
        if reply.status == _OK and stated:
            return stated
        reply = self._get(name, tag)
        return str(_digest_of(reply.body)) if reply.status == _OK else ""

    def _referrers(self, name: str, image: str, known: set[str]) -> Iterator[SourceTag]:
        """Yield what is about a manifest, and what is about that."""
        reply = self.wire.request("GET", f"/v2/{name}/referrers/{image}", scope=pulling(name))
        if reply.status != _OK:
            return  # a registry of before OCI 1.1: those are tags
        for entry in reply.json().get("manifests") or ():
            digest = str(entry.get("digest"))
            if digest not in known:
                known.add(digest)
                yield SourceTag(name, "", digest, datetime.now(UTC))
                yield from self._referrers(name, digest, known)

    def _get(self, name: str, reference: str) -> Reply:
        path = f"/v2/{name}/manifests/{reference}"
        return self.wire.request("GET", path, {"Accept": accept()}, scope=pulling(name))

    def _pages(self, path: str, scope: Scope) -> Iterator[Reply]:
        """Yield the pages of a list.

        Raises:
            WireError: it has no end.
        """
        seen = set[str]()
        while path:
            if path in seen or len(seen) > _PAGES:
                raise WireError(f"{self.wire.url}: the list {path} has no end")
            seen.add(path)
            reply = self.wire.request("GET", path, scope=scope)
            yield reply
            path = reply.next_page


def _digest_of(body: bytes) -> Digest:
    """Return a manifest's digest; of schema 1, without its signatures."""
    try:
        if "signatures" in parse_object(body):
            return Digest.of(verified_payload(body))
    except (ValueError, ManifestUnverified, DigestInvalid):
        pass
    return Digest.of(body)
