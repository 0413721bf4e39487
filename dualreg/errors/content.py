"""Errors of content: what is malformed, missing, there already or in use."""

from collections.abc import Sequence

from dualreg.errors.base import RegistryError, listed, shown


class ManifestTooLarge(RegistryError):
    """A manifest, V1 document or form over the limit in bytes."""

    message = "document too large"
    details = "at most {limit} bytes are accepted"
    limit: int


class ReferencesMissing(RegistryError):
    """A manifest that references blobs or manifests that its repository lacks."""

    message = "manifest references a blob unknown to this repository"
    digests: Sequence[str]

    def explanation(self) -> str:
        """Name them."""
        return f"{listed(self.digests)}: push it first"


class ManifestInvalid(RegistryError):
    """A manifest that is not the JSON document its media type promises.

    Attributes:
        media_type: The media type, if that is what is wrong.
        digest: The descriptor or digest that is wrong.
        algorithm: The digest algorithm, if only that was given.
    """

    message = "manifest invalid"
    reason: str
    media_type: str | None = None
    digest: str | None = None
    algorithm: str | None = None


class ManifestUnverified(ManifestInvalid):
    """A schema 1 manifest without signatures, or with one that does not verify."""

    message = "manifest failed signature verification"


class ImageInvalid(RegistryError):
    """A malformed V1 image JSON or layer."""

    message = "Invalid image"
    reason: str


class ImageExists(RegistryError):
    """The V1 image is complete and is never replaced. Docker knows this exact text and skips the image."""

    message = "Image already exists"
    id: str


class ImageIncomplete(RegistryError):
    """A V1 image whose JSON, layer or checksum has not arrived yet."""

    message = "Image is being uploaded, retry later"
    id: str


class RepositoryUnknown(RegistryError):
    """No such repository."""

    message = "repository name not known to registry"
    name: str


class BlobUnknown(RegistryError):
    """No such blob in this repository."""

    message = "blob unknown to registry"
    digest: str


class ManifestUnknown(RegistryError):
    """No such manifest in this repository, or none that the client can read; *reason* then says why."""

    message = "manifest unknown"
    reference: str
    reason: str | None = None

    def explanation(self) -> str:
        """Name the tag or digest, and why the client cannot have it."""
        return f"{shown(self.reference)}: {self.reason}" if self.reason else shown(self.reference)


class ImageUnreadable(RegistryError):
    """An image that is here, but not in a form that the client can read; *reason* says why."""

    message = "this client cannot read the image"
    reason: str


class TagUnknown(RegistryError):
    """No such tag in this repository, or none that V1 clients can use."""

    message = "Tag not found"
    tag: str


class ImageUnknown(RegistryError):
    """No such V1 image in this repository."""

    message = "Image not found"
    id: str


class TagImmutable(RegistryError):
    """A change of a tag that a rule makes immutable."""

    message = "the tag is immutable"
    details = (
        "{repository}:{tag} cannot be moved or deleted (rule {rule}): "
        "use another tag, or ask the operator of this registry to remove the rule"
    )
    repository: str
    tag: str
    rule: str


class Unsigned(RegistryError):
    """An image without a signature that a policy requires.

    Attributes:
        policy: The name of the table in the settings.
        reason: What was found instead.
    """

    message = "the image has no valid signature"
    details = "{repository}@{digest}: {reason} (policy {policy})"
    repository: str
    digest: str
    policy: str
    reason: str


class QuotaExceeded(RegistryError):
    """Content that does not fit; all numbers are bytes.

    Attributes:
        quota: Its pattern.
    """

    message = "the quota is exceeded"
    details = (
        "{repository} needs {needed} bytes more, and the quota {quota} has used {used} of {limit} bytes: "
        "delete images, or ask the operator of this registry for more"
    )
    repository: str
    quota: str
    used: int
    limit: int
    needed: int


class PreconditionFailed(RegistryError):
    """The tag or manifest is not in the state that the client requires.

    Attributes:
        current: The current digest; None if there is none.
    """

    message = "precondition failed"
    current: str | None

    def explanation(self) -> str:
        """Name the current digest."""
        return f"the current digest is {self.current}" if self.current else "there is no such manifest now"


class BlobInUse(RegistryError):
    """A blob that manifests or V1 images of the repository (*referrers*) reference, and *tags* lead to.

    Without referrers, it is a manifest itself.
    """

    message = "blob is in use"
    digest: str
    referrers: Sequence[str]
    tags: Sequence[str] = ()

    def explanation(self) -> str:
        """Name what has to be deleted first."""
        if not self.referrers:
            return f"{self.digest} is a manifest: delete it as one"
        return f"{self.digest} is part of {_users(self.referrers, self.tags)}: delete that first"


class NotRestorable(RegistryError):
    """A tag that cannot be restored, and the *reason*."""

    message = "tag cannot be restored"
    repository: str
    tag: str
    reason: str

    def explanation(self) -> str:
        """Name the tag and the reason."""
        return f"{self.repository}:{self.tag}: {self.reason}"


class DeletedForGood(RegistryError):
    """A deleted manifest that cannot be restored, because bytes of it, or of what it names, are gone."""

    message = "deleted for good"
    repository: str
    digest: str

    def explanation(self) -> str:
        """Name the manifest."""
        return f"{self.repository}@{self.digest} cannot be restored: bytes of it are gone; push it again"


class ManifestInUse(RegistryError):
    """A manifest that indexes of the repository (*referrers*) reference, and *tags* lead to."""

    message = "manifest is in use"
    digest: str
    referrers: Sequence[str]
    tags: Sequence[str] = ()

    def explanation(self) -> str:
        """Name what has to be deleted first."""
        if not self.referrers:
            return f"{self.digest} has {_tags(self.tags)}: delete that first"
        return f"{self.digest} is part of {_users(self.referrers, self.tags, 'index')}: delete that first"


def _users(referrers: Sequence[str], tags: Sequence[str], kind: str = "manifest") -> str:
    """Return the manifests and V1 images that use something, with the tags that lead to it."""
    manifests = [each for each in referrers if ":" in each]
    users = f"{kind} {listed(manifests)}" if manifests else f"V1 image {listed(referrers)}"
    return f"{users} ({_tags(tags)})" if tags else users


def _tags(tags: Sequence[str]) -> str:
    return f"{'tag' if len(tags) == 1 else 'tags'} {listed(tags)}"
