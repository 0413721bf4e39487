"""What images are, and what keeps blobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dualreg.errors import DigestInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag, parse_reference
from dualreg.image.platform import Platform
from dualreg.maintenance.image_check import CheckedTag, ImageCheck
from dualreg.maintenance.judging import DEFAULT_READERS, Judgement, is_artifact, judge, readers_of
from dualreg.migrate.names import selecting
from dualreg.operations.session import Group, page_size
from dualreg.patterns import fixed_start
from dualreg.registry.differences import ComparedImages, differences
from dualreg.registry.faces import Faces
from dualreg.registry.inspection import Inspected
from dualreg.registry.uses import Explanation


@dataclass(frozen=True, slots=True)
class UnreadableTag:
    """A tag that a client cannot read as it is stored.

    Attributes:
        pulled_at: When it was last pulled; null: never.
        unreadable: What which clients miss.
    """

    repository: RepositoryName
    tag: Tag
    digest: Digest
    pulled_at: datetime | None
    unreadable: tuple[Judgement, ...]


@dataclass(frozen=True, slots=True)
class CheckedImages:
    """Some of the tags that clients cannot read.

    Attributes:
        rows: Those of the tags that were checked for this page; there may be none.
        next: What to give as *after* for the next page; null: this is the last one.
        tags: How many tags were checked.
        artifacts: How many of these are artifacts, which are not images.
        looked: How many tags were looked at, whether the patterns match or not.
        total: How many tags there are, if that was asked for.
    """

    rows: Sequence[UnreadableTag]
    next: str | None
    tags: int
    artifacts: int
    looked: int
    total: int | None = None


@dataclass(frozen=True)
class Images(Group):
    """Images, and the blobs that they are made of."""

    def show(
        self, repository: RepositoryName, reference: str = "latest", *, platform: str = "linux/amd64"
    ) -> Inspected:
        """Show what an image is, how it was built, and what is attached to it.

        Args:
            reference: A tag or a digest.
            platform: Of an index, the image for this platform is shown: OS/ARCHITECTURE[/VARIANT].

        Raises:
            ManifestUnknown, TagInvalid, DigestInvalid.
            ValueError: the platform is invalid.
        """
        wanted = parse_reference(reference)
        trust = self.session.trust(repository)
        inspection = self.session.registry.inspection
        reach = self.session.reach
        return inspection.inspect(repository, wanted, Platform.parse(platform), trust, reach)

    def compare(
        self, repository: RepositoryName, reference: str, other: str, *, platform: str = "linux/amd64"
    ) -> ComparedImages:
        """Compare two images of a repository: their layers, and what their configs say.

        Args:
            reference: A tag or a digest.
            other: Another one.
            platform: Of an index, the image for this platform counts: OS/ARCHITECTURE[/VARIANT].

        Raises:
            ManifestUnknown, TagInvalid, DigestInvalid.
            ValueError: the platform is invalid.
        """
        inspection, wanted = self.session.registry.inspection, Platform.parse(platform)
        first, second = (
            inspection.described(repository, parse_reference(each), wanted) for each in (reference, other)
        )
        return differences(repository, first, second)

    def faces(self, repository: RepositoryName, tag: Tag) -> Faces:
        """Show a tag as V1 clients and as others see it: each V1 image opposite its layer, and who sees it.

        Of an index, this is the image for linux/amd64.

        Raises:
            ManifestUnknown: there is no such tag.
        """
        trust, registry = self.session.trust(repository), self.session.registry
        return registry.comparison.faces(repository, tag, trust, self.session.v1().v1)

    def check(
        self,
        patterns: tuple[str, ...] = (),
        *,
        clients: tuple[str, ...] = (),
        platform: str = "linux/amd64",
        unsolved: bool = False,
        total: bool = False,
        n: int = 100,
        after: str = "",
    ) -> CheckedImages:
        """List the tags that clients cannot read, and why.

        Args:
            patterns: Only tags whose REPOSITORY[:TAG] one of them matches.
            clients: What these cannot read; by default, one of every generation.
            platform: Of an index, the image for this platform counts: OS/ARCHITECTURE[/VARIANT].
            unsolved: Only what clients cannot read by tag, either.
            total: Count all tags.
            n: How many tags are checked at most.
            after: The end of the page before, REPOSITORY:TAG.

        Raises:
            ValueError: a pattern, client or platform is invalid.
        """
        check = ImageCheck(self.session.registry, Platform.parse(platform))
        readers = readers_of(clients or DEFAULT_READERS)
        found = check.page(selecting(patterns), _place(after), page_size(n), _within(patterns))
        judged = [(each, judge(each.facts, readers, only_unsolved=unsolved)) for each in found.tags]
        return CheckedImages(
            [_unreadable(each, why) for each, why in judged if why],
            ":".join(found.end) if found.end else None,
            len(found.tags),
            sum(is_artifact(each.facts) for each in found.tags),
            found.looked,
            self.session.registry.tags.count() if total else None,
        )

    def why(self, reference: str, repository: RepositoryName | None = None) -> Explanation:
        """Show what keeps a blob or manifest, and until when what nothing uses is kept.

        Args:
            reference: A digest, or a tag of the repository.
            repository: Only what keeps it there; null: in all repositories.

        Raises:
            BlobUnknown, DigestInvalid, TagInvalid.
            ValueError: there is no such tag, or the repository of a tag is not given.
        """
        return self.session.registry.uses.explain(self._digest(reference, repository), repository)

    def _digest(self, reference: str, repository: RepositoryName | None) -> Digest:
        """Return a digest, or the digest of a tag."""
        try:
            return Digest.parse(reference)
        except DigestInvalid:
            if repository is None:
                raise
            row = self.session.registry.manifests.peek(repository, Tag.parse(reference))
        if row is None:
            raise ValueError(f"there is no tag {reference} in {repository}")
        return row.digest


def _place(after: str) -> tuple[str, str]:
    """Return repository and tag of the end of a page."""
    repository, _, tag = after.rpartition(":")
    return repository, tag


def _within(patterns: Sequence[str]) -> str:
    """Return what the names of all repositories begin with that can match."""
    return fixed_start(patterns[0].partition(":")[0]) if len(patterns) == 1 else ""


def _unreadable(found: CheckedTag, why: Sequence[Judgement]) -> UnreadableTag:
    row = found.placed.row
    return UnreadableTag(found.placed.repository, row.name, row.digest, row.pulled_at, tuple(why))
