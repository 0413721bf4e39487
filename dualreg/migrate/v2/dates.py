"""When the image of a manifest was created, for sources that do not know when tags were pushed."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import Role
from dualreg.image.manifest import Manifest
from dualreg.migrate.dates import parse_created
from dualreg.migrate.findings import Broken
from dualreg.migrate.sources.base import ManifestSource
from dualreg.migrate.v2.documents import read_manifest

#: How many bytes of a config are read for its date.
_CONFIG_LIMIT = 4 << 20
_ANNOTATION = "org.opencontainers.image.created"


def image_created(source: ManifestSource, repository: str, digest: Digest) -> datetime | None:
    """Return when the image of a manifest was created, the latest of an index; None if that is unknown."""
    return _latest(_moments(source, repository, [digest], set()))


def _moments(
    source: ManifestSource, repository: str, digests: Iterable[Digest], seen: set[Digest]
) -> Iterator[datetime | None]:
    for digest in digests:
        if digest in seen:
            continue
        seen.add(digest)
        try:
            manifest = read_manifest(source, repository, digest)
        except Broken:
            continue
        yield parse_created(manifest.annotations.get(_ANNOTATION))
        yield _of_schema1(manifest)
        for config in manifest.described(Role.CONFIG):
            yield _of_config(source, repository, config)
        children = (each.digest for each in manifest.described(Role.MANIFEST))
        yield from _moments(source, repository, children, seen)


def _of_config(source: ManifestSource, repository: str, config: Descriptor) -> datetime | None:
    try:
        with source.blob(repository, config.digest).open() as reader:
            return parse_created(parse_object(reader.read(_CONFIG_LIMIT)).get("created"))
    except (Broken, OSError, ValueError):
        return None


def _of_schema1(manifest: Manifest) -> datetime | None:
    if not manifest.contents.named:
        return None
    top = parse_object(manifest.payload)["history"][0]["v1Compatibility"]
    return parse_created(parse_object(top.encode()).get("created"))


def _latest(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment), default=None)
