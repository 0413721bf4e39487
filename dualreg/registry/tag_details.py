"""Details of tags, for a page of them: platforms, whether there is a signature, and other tags of the image.

All of it is what clients wrote. A page takes the same few queries, however many tags it has, and reads the
documents of its images, each once. If these take too long, or the store fails, the rest is shown without
platforms: the list needs nothing but the catalog.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import TagRow
from dualreg.catalog.tag_details import ALIASES_LIMIT
from dualreg.errors import BlobDamaged, BlobMissing, ManifestInvalid
from dualreg.image import media_types
from dualreg.image.description import v1_documents
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import Role
from dualreg.image.layered import annotated_entries
from dualreg.image.manifest import stored_contents
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.platform import Platform
from dualreg.image.signatures import cosign
from dualreg.registry.attachments import reference_of
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.finding import Budget
from dualreg.registry.state import State

#: Platforms of an index that are shown.
_PLATFORMS_LIMIT = 20
#: Seconds in which the documents of a page are read.
_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class TagDetail:
    """What a list shows of the image of a tag.

    Attributes:
        platforms: As ``OS/ARCHITECTURE``, those of attestations left out; none: it is no image, or was
            not read.
        signed: Whether a signature is attached, by tag or as a referrer. It was not verified.
        aliases: Other tags of the repository that point at the same manifest.
        more: Whether there are more of these.
    """

    platforms: tuple[str, ...]
    signed: bool
    aliases: tuple[Tag, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class TagDetails:
    """Finds details of tags."""

    state: State
    documents: DocumentCache

    def of(self, repository: RepositoryName, rows: Sequence[TagRow]) -> dict[Tag, TagDetail]:
        """Return the details of the tags of a page."""
        images, reader = {row.digest: row for row in rows}, _Reader(self.documents)
        payloads = {digest: reader.read(digest, row.size) for digest, row in images.items()}
        configs = {
            digest: config
            for digest, row in images.items()
            if (config := _config(row.media_type, payloads[digest]))
        }
        with self.state.catalog.read() as tx:
            known = tx.repositories.find(repository)
            if known is None:
                return {}
            named = tx.tags.named(known.id, images)
            signed = _signed_by_tag(tx, known.id, images)
            blobs = tx.blobs.known(repository, {config.digest for config in configs.values()})
        sizes = {digest: blob.size for digest, (blob, is_here) in blobs.items() if is_here}
        platforms = dict[Digest, tuple[str, ...]]()
        for digest, row in images.items():
            document = b""
            if digest in configs and (size := sizes.get(configs[digest].digest)):
                document = reader.read(configs[digest].digest, size)
            platforms[digest] = _platforms(row.media_type, payloads[digest], document)
        return {
            row.name: TagDetail(
                platforms[row.digest],
                named[row.digest].is_signed or row.digest in signed,
                _others(named[row.digest].tags, row.name),
                len(named[row.digest].tags) > ALIASES_LIMIT,
            )
            for row in rows
        }


@dataclass(slots=True)
class _Reader:
    """Reads the documents of a page, as long as that takes little, and the store does not fail."""

    documents: DocumentCache
    budget: Budget = field(default_factory=Budget)
    ends_at: float = field(default_factory=lambda: monotonic() + _PATIENCE)

    def read(self, digest: Digest, size: int) -> bytes:
        """Return a document; empty: it is lost, or was not read."""
        if monotonic() >= self.ends_at or not self.budget.take(size):
            return b""
        try:
            return self.documents.read(digest)
        except (BlobMissing, BlobDamaged):
            return b""
        except OSError:
            self.ends_at = monotonic()  # each further read might take as long to fail
            return b""


def _others(tags: Sequence[Tag], own: Tag) -> tuple[Tag, ...]:
    """Return the tags without *own*, as many as are shown."""
    return tuple(tag for tag in tags if tag != own)[: ALIASES_LIMIT - 1]


def _signed_by_tag(tx: Transaction, repository_id: int, manifests: Collection[Digest]) -> set[Digest]:
    """Return the manifests that have a signature by the tag that cosign makes of a digest."""
    tags = {Tag(names[0]): digest for digest in manifests if (names := cosign.tags_of(digest))}
    return {tags[tag] for tag in tx.tags.among(repository_id, tags)}


def _config(media_type: str, payload: bytes) -> Descriptor | None:
    """Return the config that says the platform of an image; None: there is none."""
    if media_type not in media_types.IMAGES or not payload:
        return None
    children = stored_contents(media_type, payload).children
    configs = (child.descriptor for child in children if child.role is Role.CONFIG)
    return next((each for each in configs if media_types.may_be_image(media_type, each.media_type)), None)


def _platforms(media_type: str, payload: bytes, config: bytes) -> tuple[str, ...]:
    """Return the platforms of an image or index, each once."""
    listed = media_type in media_types.INDEXES
    found = _index_platforms(payload) if listed else _own(media_type, payload, config)
    named = (str(Platform.named_by(each)) for each in found)
    return tuple(dict.fromkeys(filter(None, named)))[:_PLATFORMS_LIMIT]


def _index_platforms(payload: bytes) -> Iterator[Mapping[str, object]]:
    for each in annotated_entries(payload):
        if reference_of(each) is None:
            yield each.descriptor.platform


def _own(media_type: str, payload: bytes, config: bytes) -> Iterator[Mapping[str, object]]:
    try:
        if media_type in media_types.SCHEMA1_TYPES:
            yield from v1_documents(payload)[-1:]
        elif config:
            yield parse_object(config)
    except (ValueError, ManifestInvalid):
        return
