"""The protocols of a migration: a survey of a source, its importer, and its comparison with this registry.

V1 images, manifests and saved images implement each of them, in ``v1/``, ``v2/`` and ``saved/``. What these
share is below: the state of a tag before it changes, the journal line of a change, and counts.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, NamedTuple, Protocol

from dualreg.catalog.rows import Origin
from dualreg.image.digest import Digest
from dualreg.image.facts import Facts
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.platform import Platform
from dualreg.migrate.findings import Finding, FindingKind
from dualreg.migrate.journal import EarlierRuns, Journal
from dualreg.migrate.names import Library
from dualreg.migrate.plan import Entry
from dualreg.migrate.sources.base import SourceTag
from dualreg.migrate.space import Content
from dualreg.migrate.stopping import Stop
from dualreg.migrate.transfer import LinkMode
from dualreg.registry import Registry
from dualreg.registry.preconditions import ANY, Precondition
from dualreg.storage.base import Keeps


class CurrentManifest(NamedTuple):
    """A manifest of this registry.

    Attributes:
        v1_image: The V1 image that V1 clients see as this manifest; None if they see none.
        origin: Which generation of client pushed the tag; None if it was looked up by digest.
    """

    digest: Digest
    v1_image: str | None
    origin: Origin | None


class Imported(NamedTuple):
    """What an entry became: the digest of its manifest, and how many bytes were read for it."""

    digest: Digest
    read: int


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a run imports.

    Attributes:
        link: How blobs get into the store.
        strict: Whether to refuse V1 images that are marked as being pushed, even if they are complete.
    """

    link: LinkMode = LinkMode.AUTO
    strict: bool = False


class Survey(Protocol):
    """What a source contains, found out without reading layers.

    Attributes:
        default_library: The name of ``library/x`` in this registry, unless the operator chooses another.
        shortens_library: Whether clients of the source call ``library/x`` just ``x``.
        tags: All tags, including those whose image is missing, and untagged images.
        findings: In the order of the source.
    """

    default_library: ClassVar[Library]
    shortens_library: ClassVar[bool]
    tags: list[SourceTag]
    findings: list[Finding]

    def check(self, repository: str, image: str) -> None:
        """Raise Broken if the image of a tag of *repository* cannot be imported."""

    def facts(self, repository: str, image: str, platform: Platform) -> Facts:
        """Return what decides who can read the image of a tag of *repository*; no layer is read."""

    def counts(self) -> Mapping[str, int]:
        """Return the number of repositories, tags, images and so on, and their bytes, by JSON key."""

    @property
    def blob_bytes(self) -> int:
        """The bytes that ``check_blobs`` reads."""

    @property
    def blob_count(self) -> int:
        """The number of layers or blobs that ``check_blobs`` reads."""

    def check_blobs(self, jobs: int, advance: Callable[[int, int], None]) -> Iterator[Finding]:
        """Read every layer or blob, and yield a finding for each that is damaged.

        Args:
            jobs: How many to read at a time.
            advance: Called after each, with 1 and its bytes.
        """

    def content(self, entries: Iterable[Entry]) -> Content:
        """Return what an import of *entries* stores in an empty registry; at most, where that is unknown."""

    def bytes_to_read(self, entries: Iterable[Entry], registry: Registry, earlier: EarlierRuns) -> int:
        """Return the bytes of the blobs that *entries* name and that have to be read from the source.

        Args:
            registry: Blobs that it has already are not read.
            earlier: Nor are layers that these runs have read.
        """

    def is_store(self, keeps: Keeps) -> bool:
        """Return whether the source is the store that *keeps* is of, which only lacks the catalog rows."""

    def importer(
        self,
        registry: Registry,
        journal: Journal,
        options: ImportOptions,
        stop: Stop,
        earlier: EarlierRuns | None = None,
    ) -> "Importer":
        """Return the importer of this source into *registry*.

        Args:
            earlier: What earlier runs learned, refreshed by this; None: it is read from the journals.
        """

    def comparison(self, registry: Registry, *, quick: bool) -> "Comparison":
        """Return the comparison of this source with *registry*; *quick*: by sizes, without reading layers."""

    def forget(self) -> None:
        """Free what was found out, but for what importers and comparisons need that were made before."""


class Importer(Protocol):
    """Imports tags from a source, each shared blob once; every step is journaled before it is made."""

    def is_same(self, repository: RepositoryName, image: str, current: CurrentManifest) -> bool:
        """Return whether *current*, in *repository* of this registry, is *image* of the source.

        Raises:
            Broken: this registry has something else under that id, or the source has no such image.
        """

    def is_complete(self, entry: Entry, repository: RepositoryName, current: CurrentManifest) -> bool:
        """Return whether nothing of *current*, which is the same as the image of *entry*, is missing.

        Blobs are not read: one that was changed but kept its size is not detected.
        """

    def import_entry(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> int:
        """Import the image of an entry, then point *tag* at it; return the number of bytes read.

        Args:
            before: What *tag* points at now; None: it does not exist.

        Raises:
            Broken: the source has no such image, or a damaged one.
            PreconditionFailed: the tag was moved or deleted in this registry meanwhile.
            RegistryError: this registry refuses the image.
            Stopped: the run ends early.
        """

    def import_new(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Imported]]:
        """Import entries whose tags do not exist, many at once; leave out those that need more than that.

        Yield what became of each that was imported, soon after it was.

        Raises:
            OSError, DatabaseFailure: nothing further can be imported.
        """


class Comparison(Protocol):
    """Compares a source with what was imported from it."""

    def problems(self, entry: Entry) -> Iterator[str]:
        """Yield what is wrong with the imported tag of an entry, one problem at a time."""


def current_manifest(
    registry: Registry, repository: RepositoryName, reference: Tag | Digest
) -> CurrentManifest | None:
    """Return the manifest of a tag or digest in this registry, even if the setting ``bridge`` hides it."""
    row = registry.manifests.peek(repository, reference)
    if row is None:
        return None
    return CurrentManifest(row.digest, registry.bridge.view_of(row), row.origin)


def journal_tag_update(
    journal: Journal,
    entry: Entry,
    before: CurrentManifest | None,
    *,
    made: bool,
    manifest: Digest | None = None,
) -> None:
    """Journal that the tag of an entry is about to be set.

    Args:
        manifest: What it will point at, if that is known already.
        made: Whether that manifest is new to this registry.
    """
    journal.write_all("pointing", [tag_update(entry, before, made=made, manifest=manifest)])


def tag_update(
    entry: Entry, before: CurrentManifest | None, *, made: bool, manifest: Digest | None = None
) -> dict[str, object]:
    """Return the facts of the line that ``journal_tag_update`` writes."""
    return {
        "repository": entry.to_repository,
        "tag": entry.to_tag,
        "image": entry.image,
        "manifest": str(manifest or ""),
        "before": str(before.digest) if before else "",
        "origin": before.origin if before else "",
        "made": made,
    }


def require_unchanged(entry: Entry, before: CurrentManifest | None) -> Precondition:
    """Return the precondition for setting the tag of an entry: it was not moved or deleted since *before*.

    Args:
        before: What it pointed at when it was looked up; None: it did not exist.
    """
    if before:
        return Precondition(match=frozenset({str(before.digest)}))
    return Precondition(none_match=frozenset({ANY}), pushed_at=pushed_at(entry))


def pushed_at(entry: Entry) -> datetime | None:
    """Return when the tag of an entry was pushed to the source; None if that is unknown."""
    return datetime.fromisoformat(entry.updated) if entry.updated else None


def split_findings(listed: Iterable[SourceTag | Finding]) -> tuple[list[SourceTag], list[Finding]]:
    """Return the tags and the findings of a source's listing, each in its order."""
    tags, findings = list[SourceTag](), list[Finding]()
    for each in listed:
        if isinstance(each, Finding):
            findings.append(each)
        else:
            tags.append(each)
    return tags, findings


def count_repositories(tags: Iterable[SourceTag], findings: Iterable[Finding]) -> int:
    """Return the number of repositories, including those without tags."""
    empty = {finding.where for finding in findings if finding.kind is FindingKind.EMPTY}
    return len({tag.repository for tag in tags} | empty)
