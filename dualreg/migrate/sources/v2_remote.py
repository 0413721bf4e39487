"""A remote registry as a source, over the V2 API."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from threading import Lock

from cachetools import LRUCache, cachedmethod

from dualreg.errors import DigestInvalid, ManifestUnverified, RegistryError
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.jws import verified_payload
from dualreg.image.manifest import parse
from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.scan_options import ScanOptions, bounded
from dualreg.migrate.sources.base import (
    OfV2Clients,
    SourceBytes,
    SourceInvalid,
    SourceManifest,
    SourceTag,
    lost_tag,
)
from dualreg.remote.challenge import Scope, pulling
from dualreg.remote.client import Client, as_stored
from dualreg.remote.endpoint import RemoteError
from dualreg.remote.response import Response
from dualreg.storage.base import Keeps

_OK, _NOT_FOUND = 200, 404
#: Referrers of a manifest, after which the registry is assumed to send them forever.
_REFERRERS_LIMIT = 10_000
#: Bytes of the manifests that are kept between the survey and the import, and of what each takes besides.
_CACHE_LIMIT, _CACHE_OVERHEAD = 64 << 20, 1000


def _manifest_cache() -> MutableMapping[tuple[str, str], SourceManifest]:
    return LRUCache(_CACHE_LIMIT, lambda manifest: len(manifest.body) + _CACHE_OVERHEAD)


def _cache_key(_: object, repository: str, digest: Digest | str) -> tuple[str, str]:
    return repository, str(digest)


@dataclass(frozen=True)
class V2Remote(OfV2Clients):
    """A ManifestSource, for any number of threads. The API does not say when a tag was pushed.

    Attributes:
        repository: The only repository to read; empty: all that the registry lists.
    """

    client: Client
    repository: str = ""
    options: ScanOptions = field(default_factory=ScanOptions)
    _manifests: MutableMapping[tuple[str, str], SourceManifest] = field(
        default_factory=_manifest_cache, repr=False, compare=False
    )
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def tags(self) -> Iterator[SourceTag | Finding]:
        """Yield the selected tags, and the untagged manifests that refer to what these name.

        Raises:
            SourceInvalid, RemoteError: the repositories, or the tags of the only one, cannot be listed.
        """
        names = [name for name in self._names() if self.options.names.may_select(name)]
        listed = dict(zip(names, self.options.each(self._list_tags, names), strict=True))
        places = [
            (name, tag)
            for name, tags in listed.items()
            for tag in (() if isinstance(tags, SourceTag) else tags)
            if self.options.names.may_be_imported(name, tag)
        ]
        found, images = defaultdict[str, list[SourceTag]](list), set[tuple[str, str]]()
        for (name, _), (tag, entries) in zip(places, self.options.each(self._tag, places), strict=True):
            found[name].append(tag)
            images |= {(name, image) for image in (tag.image, *entries) if image}
        for name, referrer in self._all_referrers(found, sorted(images)):
            found[name].append(referrer)
        for name, tags in listed.items():
            if isinstance(tags, SourceTag):
                yield tags
            elif not tags:
                yield Finding(FindingKind.EMPTY, name, "no tags")
            yield from found[name]

    @cachedmethod(attrgetter("_manifests"), key=_cache_key, lock=attrgetter("_lock"))
    def manifest(self, repository: str, digest: Digest) -> SourceManifest:
        """Return a manifest, whose digest is not verified; requested once as long as the cache keeps it.

        Raises:
            Broken: the registry does not have it, or does not answer.
        """
        where = f"{repository}@{digest}"
        try:
            response = self._get(repository, str(digest))
        except RemoteError as error:
            raise Broken(FindingKind.UNREACHABLE, where, str(error)) from error
        if response.status == _NOT_FOUND:
            raise Broken(FindingKind.MISSING_MANIFEST, where, "no such manifest")
        if response.status != _OK:
            raise Broken(FindingKind.UNREACHABLE, where, f"the registry answered {response.status}")
        return _manifest(response)

    def is_store(self, keeps: Keeps) -> bool:
        del keeps
        return False

    def blob(self, repository: str, digest: Digest) -> SourceBytes:
        path, where = f"/v2/{repository}/blobs/{digest}", f"{repository}@{digest}"
        try:
            response = self.client.request("HEAD", path, scope=pulling(repository))
        except RemoteError as error:
            raise Broken(FindingKind.UNREACHABLE, where, str(error)) from error
        if response.status != _OK:
            kind = FindingKind.MISSING_BLOB if response.status == _NOT_FOUND else FindingKind.UNREACHABLE
            raise Broken(kind, where, f"the registry answered {response.status}")
        size = response.size("content-length")
        return SourceBytes(size, partial(self.client.stream, path, scope=pulling(repository)))

    def _names(self) -> Iterable[str]:
        """Return the repositories to look at; the registry is asked only if their names are not given."""
        if self.repository:
            return (self.repository,)
        named = self.options.names.repositories
        return sorted(named) if named else dict.fromkeys(self._repositories())

    def _repositories(self) -> Iterator[str]:
        for response in self._pages("/v2/_catalog?n=1000", ("registry:catalog:*",)):
            if response.status != _OK:
                hint = "log in with --user" if response.is_denied else "name a repository in the URL"
                raise SourceInvalid(
                    f"{self.client.url}: cannot list repositories ({response.status}); {hint}"
                )
            yield from response.texts("repositories")

    def _list_tags(self, name: str) -> Sequence[str] | SourceTag:
        """Return the names of a repository's tags; or that the repository is lost, if they cannot be listed.

        Raises:
            SourceInvalid, RemoteError: they cannot be listed, and no other repository is wanted.
        """
        try:
            return [*self._tag_names(name)]
        except (SourceInvalid, RemoteError) as error:
            if self.repository:
                raise
            return lost_tag(FindingKind.REFUSED, name, "", str(error))

    def _tag_names(self, name: str) -> Iterator[str]:
        for response in self._pages(f"/v2/{name}/tags/list", pulling(name)):
            if response.status == _NOT_FOUND:
                return
            if response.status != _OK:
                raise SourceInvalid(f"{self.client.url}: cannot list the tags of {name} ({response.status})")
            yield from response.texts("tags")

    def _tag(self, place: tuple[str, str]) -> tuple[SourceTag, Sequence[str]]:
        """Return a tag with the digest that the registry reports, or else that of the manifest's bytes.

        The image of a tag that is listed but not found is empty. Also return what is listed by an index.
        """
        name, tag = place
        try:
            response = self._get(name, tag)
        except RemoteError as error:
            return lost_tag(FindingKind.REFUSED, name, tag, str(error)), ()
        if response.status == _NOT_FOUND:
            return SourceTag(name, tag, "", None), ()
        if response.status != _OK:
            return lost_tag(FindingKind.REFUSED, name, tag, f"the registry answered {response.status}"), ()
        image = response.headers.get("docker-content-digest") or str(_digest_of(response.body))
        manifest = _manifest(response)
        with self._lock, suppress(ValueError):  # which one that exceeds the cache raises
            self._manifests[_cache_key(self, name, image)] = manifest
        return SourceTag(name, tag, image, None), _listed(manifest)

    def _all_referrers(
        self, found: Mapping[str, Sequence[SourceTag]], images: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[str, SourceTag]]:
        """Yield the direct and indirect referrers of *images*, each once; not what was *found* by tag."""
        known = {(name, each.image) for name in found for each in found[name]}
        for (name, image), referrers in zip(images, self.options.each(self._referrers, images), strict=True):
            if isinstance(referrers, RemoteError):
                yield name, lost_tag(FindingKind.REFUSED, name, "", f"its referrers: {referrers}", image)
                continue
            fresh = [digest for digest in referrers if (name, digest) not in known]
            known |= {(name, digest) for digest in fresh}
            yield from ((name, SourceTag(name, "", digest, None)) for digest in fresh)

    def _referrers(self, place: tuple[str, str]) -> Sequence[str] | RemoteError:
        """Return the digests of a manifest's direct and indirect referrers, or why they are unknown."""
        name, image = place
        reached, pending = {image: None}, [image]
        try:
            while pending:
                fresh = [each for each in self._direct_referrers(name, pending.pop()) if each not in reached]
                reached |= dict.fromkeys(fresh)
                pending += fresh
                if len(reached) > _REFERRERS_LIMIT:
                    return RemoteError(f"{self.client.url}: {image} has too many referrers")
        except RemoteError as error:
            return error
        return [*reached][1:]

    def _direct_referrers(self, name: str, image: str) -> Iterator[str]:
        for response in self._pages(f"/v2/{name}/referrers/{image}", pulling(name)):
            if response.status != _OK:
                return  # a registry older than OCI 1.1, where referrers are tags
            yield from (str(entry.get("digest")) for entry in response.objects("manifests"))

    def _get(self, name: str, reference: str) -> Response:
        path = f"/v2/{name}/manifests/{reference}"
        return self.client.request("GET", path, as_stored(), scope=pulling(name))

    def _pages(self, path: str, scope: Scope) -> Iterator[Response]:
        """Yield the pages of a list.

        Raises:
            RemoteError: a page is repeated, or there are too many.
        """
        return bounded(self._linked(path, scope), f"{self.client.url}{path}")

    def _linked(self, path: str, scope: Scope) -> Iterator[Response]:
        seen = set[str]()
        while path:
            if path in seen:
                raise RemoteError(f"{self.client.url}: the list {path} has no end")
            seen.add(path)
            response = self.client.request("GET", path, scope=scope)
            yield response
            path = response.next_page


def _manifest(response: Response) -> SourceManifest:
    media_type = media_types.strip_parameters(response.headers.get("content-type", ""))
    return SourceManifest(media_type, response.body)


def _listed(manifest: SourceManifest) -> Sequence[str]:
    """Return the digests of the manifests that a manifest lists, if it is an index."""
    try:
        entries = parse(manifest.media_type, manifest.body).entries
    except RegistryError:  # the crawl says what is wrong with it
        return ()
    return [str(each.descriptor.digest) for each in entries]


def _digest_of(body: bytes) -> Digest:
    """Return a manifest's digest; of schema 1, without its signatures."""
    try:
        if "signatures" in parse_object(body):
            return Digest.of(verified_payload(body))
    except (ValueError, ManifestUnverified, DigestInvalid):
        pass
    return Digest.of(body)
