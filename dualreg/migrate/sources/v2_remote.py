"""A live registry, over the V2 API."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from dualreg.errors import DigestInvalid, ManifestUnverified
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.jws import verified_payload
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.sources.base import SourceBytes, SourceInvalid, SourceManifest, SourceTag
from dualreg.migrate.sources.remembered import Remembered
from dualreg.remote.challenge import Scope, pulling
from dualreg.remote.client import Client, accept
from dualreg.remote.errors import RemoteError
from dualreg.remote.response import Response

_OK, _NOT_FOUND = 200, 404
#: Pages of a list that are asked for at most, and manifests about one; what goes round in circles ends.
_PAGES, _REFERRERS = 100_000, 10_000


@dataclass(frozen=True, slots=True)
class V2Remote:
    """A ManifestSource. Nothing tells when a tag was pushed.

    Attributes:
        repository: Only this one; empty: all that the registry lists.
    """

    wire: Client
    repository: str = ""
    asking: ScanOptions = field(default_factory=ScanOptions)
    _remembered: Remembered = field(default_factory=Remembered)

    def tags(self) -> Iterator[SourceTag | Finding]:
        """See ManifestSource: the chosen tags, and manifests without a tag that are about these."""
        chosen, ask = self.asking.names, self.asking.each
        names = [name for name in self._names() if self.asking.may_choose(name)]
        listed = dict(zip(names, ask(self._listed, names), strict=True))
        places = [
            (name, tag)
            for name, tags in listed.items()
            for tag in (() if isinstance(tags, Finding) else tags)
            if chosen.may_come(name, tag)
        ]
        found: dict[str, list[SourceTag | Finding]] = defaultdict(list)
        for (name, _), told in zip(places, ask(self._tag, places), strict=True):
            found[name].append(told)
        for name, about in self._about(found):
            found[name].append(about)
        for name, tags in listed.items():
            if isinstance(tags, Finding):
                yield tags
            elif not tags:
                yield Finding(FindingKind.EMPTY, name, "no tags")
            yield from found[name]

    def manifest(self, repository: str, digest: Digest) -> SourceManifest:
        """See ManifestSource."""
        where = f"{repository}@{digest}"
        if known := self._remembered.get(repository, str(digest)):
            return known
        try:
            reply = self._get(repository, str(digest))
        except RemoteError as error:
            raise Broken(FindingKind.UNREACHABLE, where, str(error)) from error
        if reply.status == _NOT_FOUND:
            raise Broken(FindingKind.MISSING_MANIFEST, where, "no such manifest")
        if reply.status != _OK:
            raise Broken(FindingKind.UNREACHABLE, where, f"the registry answers {reply.status}")
        return self._remembered.put(repository, str(digest), _manifest(reply))

    def blob(self, repository: str, digest: Digest) -> SourceBytes:
        """See ManifestSource."""
        path, where = f"/v2/{repository}/blobs/{digest}", f"{repository}@{digest}"
        try:
            reply = self.wire.request("HEAD", path, scope=pulling(repository))
        except RemoteError as error:
            raise Broken(FindingKind.UNREACHABLE, where, str(error)) from error
        if reply.status != _OK:
            kind = FindingKind.MISSING_BLOB if reply.status == _NOT_FOUND else FindingKind.UNREACHABLE
            raise Broken(kind, where, f"the registry answers {reply.status}")
        size = reply.size("content-length")
        return SourceBytes(size, partial(self.wire.stream, path, scope=pulling(repository)))

    def _names(self) -> Iterable[str]:
        return (self.repository,) if self.repository else dict.fromkeys(self._repositories())

    def _repositories(self) -> Iterator[str]:
        for reply in self._pages("/v2/_catalog?n=1000", ("registry:catalog:*",)):
            if reply.status != _OK:
                advice = reply.advice or "name one in the URL"
                raise SourceInvalid(
                    f"{self.wire.url} does not list its repositories ({reply.status}): {advice}"
                )
            yield from reply.texts("repositories")

    def _listed(self, name: str) -> Sequence[str] | Finding:
        """Return the tags of a repository, or why they are not told.

        Raises:
            NoSource, WireError: likewise, if it is the only one that is wanted.
        """
        try:
            return [*self._tag_names(name)]
        except (SourceInvalid, RemoteError) as error:
            if self.repository:
                raise
            return Finding(FindingKind.REFUSED, name, str(error))

    def _tag_names(self, name: str) -> Iterator[str]:
        for reply in self._pages(f"/v2/{name}/tags/list", pulling(name)):
            if reply.status == _NOT_FOUND:
                return
            if reply.status != _OK:
                raise SourceInvalid(f"{self.wire.url}: the tags of {name} are refused ({reply.status})")
            yield from reply.texts("tags")

    def _tag(self, place: tuple[str, str]) -> SourceTag | Finding:
        """Return what a tag points at, by the registry's word or by its bytes; nothing: it is not there."""
        name, tag = place
        try:
            reply = self._get(name, tag)
        except RemoteError as error:
            return Finding(FindingKind.REFUSED, f"{name}:{tag}", str(error))
        if reply.status == _NOT_FOUND:
            return SourceTag(name, tag, "", None)
        if reply.status != _OK:
            return Finding(FindingKind.REFUSED, f"{name}:{tag}", f"the registry answers {reply.status}")
        image = reply.headers.get("docker-content-digest") or str(_digest_of(reply.body))
        self._remembered.put(name, image, _manifest(reply))
        return SourceTag(name, tag, image, None)

    def _about(
        self, found: dict[str, list[SourceTag | Finding]]
    ) -> Iterator[tuple[str, SourceTag | Finding]]:
        """Yield what is about tagged manifests, and what is about that, each once."""
        tagged = {(name, each.image) for name in found for each in found[name] if isinstance(each, SourceTag)}
        images, known = sorted(place for place in tagged if place[1]), tagged
        for (name, image), told in zip(images, self.asking.each(self._referrers, images), strict=True):
            if isinstance(told, RemoteError):
                yield name, Finding(FindingKind.REFUSED, f"{name}@{image}", f"what is about it: {told}")
                continue
            fresh = [digest for digest in told if (name, digest) not in known]
            known |= {(name, digest) for digest in fresh}
            yield from ((name, SourceTag(name, "", digest, None)) for digest in fresh)

    def _referrers(self, place: tuple[str, str]) -> Sequence[str] | RemoteError:
        name, image = place
        reached, waiting = {image: None}, [image]
        try:
            while waiting:
                fresh = [each for each in self._direct(name, waiting.pop()) if each not in reached]
                reached |= dict.fromkeys(fresh)
                waiting += fresh
                if len(reached) > _REFERRERS:
                    raise RemoteError(f"{self.wire.url}: what is about {image} has no end")  # noqa: TRY301 -- as below
        except RemoteError as error:
            return error
        return [*reached][1:]

    def _direct(self, name: str, image: str) -> Iterator[str]:
        for reply in self._pages(f"/v2/{name}/referrers/{image}", pulling(name)):
            if reply.status != _OK:
                return  # a registry of before OCI 1.1: those are tags
            yield from (str(entry.get("digest")) for entry in reply.objects("manifests"))

    def _get(self, name: str, reference: str) -> Response:
        path = f"/v2/{name}/manifests/{reference}"
        return self.wire.request("GET", path, {"Accept": accept()}, scope=pulling(name))

    def _pages(self, path: str, scope: Scope) -> Iterator[Response]:
        """Yield the pages of a list.

        Raises:
            WireError: it has no end.
        """
        seen = set[str]()
        while path:
            if path in seen or len(seen) > _PAGES:
                raise RemoteError(f"{self.wire.url}: the list {path} has no end")
            seen.add(path)
            reply = self.wire.request("GET", path, scope=scope)
            yield reply
            path = reply.next_page


def _manifest(reply: Response) -> SourceManifest:
    return SourceManifest(media_types.strip_parameters(reply.headers.get("content-type", "")), reply.body)


def _digest_of(body: bytes) -> Digest:
    """Return a manifest's digest; of schema 1, without its signatures."""
    try:
        if "signatures" in parse_object(body):
            return Digest.of(verified_payload(body))
    except (ValueError, ManifestUnverified, DigestInvalid):
        pass
    return Digest.of(body)
