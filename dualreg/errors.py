"""What can go wrong, as facts.

There is no HTTP status and no wire code here: those are in ``web/v1/errors.py`` and ``web/v2/errors.py``.

RegistryError
├── NameInvalid · TagInvalid · ImageIdInvalid            a name outside its grammar
├── DigestInvalid · DigestMismatch · ChecksumMismatch    a malformed address, or not that of the bytes
├── SizeMismatch · BodyTruncated · RangeInvalid          fewer, more or other bytes than were declared
├── RequestInvalid · PageInvalid · TooManyTags           a request that says nothing meaningful, or too much
├── ManifestTooLarge · ReferencesMissing · ManifestInvalid ── ManifestUnverified
├── ImageInvalid · ImageExists · ImageIncomplete         V1 images
├── RepositoryUnknown · BlobUnknown · UploadUnknown · ImageUnknown
├── ManifestUnknown ── TagUnknown
├── UploadBusy · SourceBusy                              not now: others are at it
├── PreconditionFailed · BlobInUse · ManifestInUse       not, or no longer, as the client believes
├── Unauthenticated · Denied · TooManyAttempts           who may
└── Unsupported                                          switched off, or not offered

What is broken, which is the operator's business and not a client's, is in ``errors.py``.
"""

from typing import ClassVar


class BlobMissing(Exception):
    """The catalog says the bytes are there, the store has none: damage, to be reported as a fault of ours."""


class CatalogUnreachable(Exception):
    """The database of relations cannot be opened, or has another schema than this version works with."""


class BlobDamaged(Exception):
    """Bytes that were verified have another size than the catalog recorded for their digest."""


class RegistryError(Exception):
    """A request that cannot be granted, and why.

    Attributes:
        message: One sentence for people; the same for every instance of a class.
        detail: JSON-serialisable facts about this instance: names, digests, sizes in bytes.
    """

    message: ClassVar[str] = "the request cannot be granted"

    def __init__(self, **detail: object) -> None:
        """Keep *detail*; every value must be JSON-serialisable."""
        super().__init__(self.message, detail)
        self.detail = detail

    def __str__(self) -> str:
        """Return the message with its details: for logs and terminals."""
        facts = ", ".join(f"{key}={value!r}" for key, value in self.detail.items())
        return f"{self.message} ({facts})" if facts else self.message


class NameInvalid(RegistryError):
    """A repository name outside the grammar, or longer than 255 characters."""

    message = "invalid repository name"


class TagInvalid(RegistryError):
    """A tag outside ``[A-Za-z0-9_][A-Za-z0-9._-]{0,127}``."""

    message = "invalid tag name"


class ImageIdInvalid(RegistryError):
    """A V1 image id that is not 64 (or, in the oldest images, 16) lower-case hex digits."""

    message = "Invalid image ID"


class DigestInvalid(RegistryError):
    """A digest that cannot be parsed, or uses an algorithm that is not offered."""

    message = "invalid digest"


class DigestMismatch(RegistryError):
    """The bytes do not hash to the digest they were offered under."""

    message = "provided digest did not match uploaded content"


class ChecksumMismatch(RegistryError):
    """The V1 payload checksum is not that of the JSON and layer received."""

    message = "Checksum mismatch"


class SizeMismatch(RegistryError):
    """Another number of bytes than was declared."""

    message = "provided length did not match content length"


class BodyTruncated(RegistryError):
    """The connection ended before the body did."""

    message = "the request body ended early"


class RangeInvalid(RegistryError):
    """Bytes offered for another offset than the upload's next one.

    Detail: ``repository``, ``upload`` and ``offset`` (bytes held), so that the wire can say where to resume.
    """

    message = "the chunk does not start where the upload ends"


class RequestInvalid(RegistryError):
    """A body or header that says nothing meaningful."""

    message = "Invalid data"


class PageInvalid(RegistryError):
    """A page that cannot be: its size, order, prefix or beginning."""

    message = "invalid page requested"


class ManifestInvalid(RegistryError):
    """A manifest that is not the JSON document its media type promises."""

    message = "manifest invalid"


class ManifestUnverified(ManifestInvalid):
    """A schema 1 manifest without signatures, or with one that does not prove it."""

    message = "manifest failed signature verification"


class ManifestTooLarge(RegistryError):
    """A manifest, or V1 image JSON, over the limit."""

    message = "document too large"


class ReferencesMissing(RegistryError):
    """A manifest that names what its repository does not hold. Detail: ``digests``, a list of texts."""

    message = "manifest references a blob unknown to this repository"


class ImageInvalid(RegistryError):
    """A V1 image JSON or layer that cannot be an image's."""

    message = "Invalid image"


class ImageExists(RegistryError):
    """A complete V1 image is never replaced. Docker knows this exact text and skips the image."""

    message = "Image already exists"


class ImageIncomplete(RegistryError):
    """A V1 image whose JSON, layer or checksum has not arrived yet."""

    message = "Image is being uploaded, retry later"


class RepositoryUnknown(RegistryError):
    """No such repository."""

    message = "repository name not known to registry"


class BlobUnknown(RegistryError):
    """This repository holds no such blob."""

    message = "blob unknown to registry"


class ManifestUnknown(RegistryError):
    """This repository holds no such manifest."""

    message = "manifest unknown"


class TagUnknown(ManifestUnknown):
    """This repository has no such tag, or none that the dialect can show."""

    message = "Tag not found"


class UploadUnknown(RegistryError):
    """No such upload in this repository: finished, cancelled, expired, or never begun."""

    message = "blob upload unknown to registry"


class ImageUnknown(RegistryError):
    """No such V1 image in this repository."""

    message = "Image not found"


class UploadBusy(RegistryError):
    """Another request is writing this upload now."""

    message = "another request is writing this upload"


class PreconditionFailed(RegistryError):
    """The tag or manifest is not what the client said it must be. Detail: ``current``, a digest or None."""

    message = "precondition failed"


class TooManyTags(RegistryError):
    """More tags in one request than are taken."""

    message = "too many tags"


class BlobInUse(RegistryError):
    """A blob that a manifest or a V1 image of the repository names. Detail: ``referrers``."""

    message = "blob is in use"


class ManifestInUse(RegistryError):
    """A manifest that an index of the repository names. Detail: ``referrers``."""

    message = "manifest is in use"


class Unauthenticated(RegistryError):
    """Who asks is not known, or a token covers less. Detail: ``scope`` wanted; ``error`` of RFC 6750."""

    message = "Requires authorization"


class Denied(RegistryError):
    """Who asks is known, and may not."""

    message = "requested access to the resource is denied"


class TooManyAttempts(RegistryError):
    """Too many logins failed. Detail: ``retry_after``, in seconds."""

    message = "too many failed logins"


class SourceBusy(RegistryError):
    """As many images are on their way from the legacy source as may. Detail: ``retry_after``, in seconds."""

    message = "the image is not here yet, and others are on their way in"


class Unsupported(RegistryError):
    """An operation that is switched off or not offered."""

    message = "The operation is unsupported"
