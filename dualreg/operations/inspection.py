"""What images are, and what keeps blobs."""

from dataclasses import dataclass

from dualreg.errors import DigestInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag, parse_reference
from dualreg.image.platform import Platform
from dualreg.operations.session import Group
from dualreg.registry.faces import Faces
from dualreg.registry.inspection import Inspected
from dualreg.registry.uses import Explanation


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
        return inspection.inspect(repository, wanted, Platform.parse(platform), trust)

    def faces(self, repository: RepositoryName, tag: Tag) -> Faces:
        """Show a tag as V1 clients and as others see it: each V1 image opposite its layer, and who sees it.

        Of an index, this is the image for linux/amd64.

        Raises:
            ManifestUnknown: there is no such tag.
        """
        trust, settings = self.session.trust(repository), self.session.settings
        return self.session.registry.comparison.faces(repository, tag, trust, settings.v1)

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
