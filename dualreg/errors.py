"""Errors: what can go wrong, as typed facts.

HTTP statuses and wire codes are in ``web/v1/errors.py`` and ``web/v2/errors.py``, which render these facts.

Faults, for the operator: logged, and answered with 500 or 503; never a client's mistake
├── BlobMissing · BlobDamaged                            the store differs from the catalog
├── CatalogUnreachable                                   no database, or one with another schema
└── AuditUnavailable                                     the audit log cannot be written

RegistryError, for the client: the request is refused
├── NameInvalid · TagInvalid · ImageIdInvalid            a name outside its grammar
├── DigestInvalid · DigestMismatch · ChecksumMismatch    a malformed digest, or not the digest of the bytes
├── SizeMismatch · BodyTruncated · RangeInvalid          more, fewer or other bytes than declared
├── RequestInvalid · PageInvalid · TooManyTags           a malformed or excessive request
├── ManifestTooLarge · ReferencesMissing · ManifestInvalid ── ManifestUnverified
├── ImageInvalid · ImageExists · ImageIncomplete         V1 images
├── RepositoryUnknown · BlobUnknown · ManifestUnknown · TagUnknown · UploadUnknown · ImageUnknown
├── UploadBusy · SourceBusy · ServerBusy                 retry later
├── PreconditionFailed · BlobInUse · ManifestInUse       the state does not allow it
├── Unauthenticated · Denied · TooManyAttempts           authentication and authorization
└── Unsupported                                          disabled or not offered

Fields have plain types, since this module imports nothing of the package and every part of the package
imports it: names, tags and IDs are text by class already, a digest is passed as ``str(digest)``.
"""

import json
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import ClassVar, dataclass_transform

#: What a field of an error may hold; all of it can be written as JSON.
Fact = str | int | Sequence[str] | None


class BlobMissing(Exception):
    """The store lacks the bytes of a blob that the catalog lists, or of an upload."""


class BlobDamaged(Exception):
    """Stored bytes differ from their digest, or verified ones from the size that the catalog records."""


class CatalogUnreachable(Exception):
    """The catalog's database cannot be opened, or its schema is not the one this version needs."""


class AuditUnavailable(Exception):
    """The audit log cannot be written, so nothing may be changed."""


@dataclass_transform(eq_default=False, kw_only_default=True)
@dataclass(eq=False, kw_only=True)
class RegistryError(Exception):
    """A request that is refused, and why.

    Subclasses are dataclasses of keyword-only fields. Text of clients is shortened where it is raised.

    Attributes:
        message: One line for people; the same for every instance of a class.
    """

    message: ClassVar[str] = "the request cannot be granted"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclass(eq=False, kw_only=True)(cls)

    def facts(self) -> dict[str, Fact]:
        """Return the fields by name, without optional ones that are not set."""
        values = ((field, getattr(self, field.name)) for field in fields(self))
        return {field.name: value for field, value in values if value is not None or field.default is MISSING}

    def __str__(self) -> str:
        """Return the message and the facts in one line, for logs and terminals."""
        facts = {name: value for name, value in self.facts().items() if value is not None}
        shown = [_shown(facts.pop("reason"))] if facts.get("reason") else []
        for name, value in facts.items():
            named = shown or not isinstance(value, str)
            shown.append(f"{name.replace('_', ' ')} {_shown(value)}" if named else _shown(value))
        return f"{self.message}: {', '.join(shown)}" if shown else self.message


def _shown(value: Fact) -> str:
    """Return a fact as text; quoted, if it is empty or would break the line or the terminal."""
    if isinstance(value, str):
        return value if value and value.isprintable() else json.dumps(value)
    return " ".join(map(_shown, value)) if isinstance(value, Sequence) else str(value)


class NameInvalid(RegistryError):
    """A repository name outside the grammar, or longer than 255 characters."""

    message = "invalid repository name"
    name: str


class TagInvalid(RegistryError):
    """A tag outside ``[A-Za-z0-9_][A-Za-z0-9._-]{0,127}``."""

    message = "invalid tag name"
    tag: str


class ImageIdInvalid(RegistryError):
    """A V1 image ID that is not 64 (or, in the oldest images, 16) lower-case hex digits."""

    message = "Invalid image ID"
    id: str


class DigestInvalid(RegistryError):
    """A digest that cannot be parsed, or whose algorithm is not offered.

    Attributes:
        digest: The malformed digest.
        algorithm: The algorithm, if only that was given.
    """

    message = "invalid digest"
    digest: str | None = None
    algorithm: str | None = None


class DigestMismatch(RegistryError):
    """The bytes do not hash to the digest they were pushed under."""

    message = "provided digest did not match uploaded content"
    digest: str


class ChecksumMismatch(RegistryError):
    """The V1 payload checksum is not that of the JSON and layer received."""

    message = "Checksum mismatch"
    id: str
    expected: str


class SizeMismatch(RegistryError):
    """The number of bytes differs from what was declared.

    Attributes:
        promised: The length that Content-Range gives, in bytes.
        declared: The Content-Length, in bytes.
        received: The length of the body, in bytes.
        digest: The blob that a manifest gives a wrong size for.
        stored: The size of that blob, in bytes.
        stated: Its size according to the manifest, in bytes.
    """

    message = "provided length did not match content length"
    promised: int | None = None
    declared: int | None = None
    received: int | None = None
    digest: str | None = None
    stored: int | None = None
    stated: int | None = None


class BodyTruncated(RegistryError):
    """The connection ended before the body did.

    Attributes:
        received: Bytes that arrived.
        declared: Bytes that Content-Length promised; None for a chunked body.
    """

    message = "the request body ended early"
    received: int
    declared: int | None = None


class RangeInvalid(RegistryError):
    """A chunk that does not start at the upload's next offset.

    Attributes:
        repository: The repository of the upload.
        upload: The upload's ID.
        offset: Bytes received so far: where the client has to resume.
    """

    message = "the chunk does not start where the upload ends"
    repository: str
    upload: str
    offset: int


class RequestInvalid(RegistryError):
    """A malformed body, header or parameter; *service* or *scope* of a token, if that is what is wrong."""

    message = "Invalid data"
    reason: str
    service: str | None = None
    scope: str | None = None


class PageInvalid(RegistryError):
    """A page with an invalid size (``n``), start (``after``), prefix or order (``sort``)."""

    message = "invalid page requested"
    n: str | None = None
    after: str | None = None
    prefix: str | None = None
    sort: str | None = None


class TooManyTags(RegistryError):
    """More tags in one request than the limit."""

    message = "too many tags"
    limit: int


class ManifestTooLarge(RegistryError):
    """A manifest, or V1 image JSON, over the limit in bytes."""

    message = "document too large"
    limit: int


class ReferencesMissing(RegistryError):
    """A manifest that references blobs or manifests that its repository lacks."""

    message = "manifest references a blob unknown to this repository"
    digests: Sequence[str]


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


class TagUnknown(RegistryError):
    """No such tag in this repository, or none that V1 clients can use."""

    message = "Tag not found"
    tag: str


class UploadUnknown(RegistryError):
    """No such upload in this repository: finished, cancelled, expired, or never started."""

    message = "blob upload unknown to registry"
    upload: str


class ImageUnknown(RegistryError):
    """No such V1 image in this repository."""

    message = "Image not found"
    id: str


class UploadBusy(RegistryError):
    """Another request is writing this upload, or the V1 image *id*, now."""

    message = "another request is writing this upload"
    upload: str | None = None
    id: str | None = None


class SourceBusy(RegistryError):
    """The maximum number of images is being imported on demand; retry in *retry_after* seconds."""

    message = "too many images are being imported on demand"
    retry_after: int


class ServerBusy(RegistryError):
    """All threads that such requests may take are busy; retry in *retry_after* seconds."""

    message = "the server is busy with other uploads and downloads"
    retry_after: int


class PreconditionFailed(RegistryError):
    """The tag or manifest is not in the state that the client requires.

    Attributes:
        current: The current digest; None if there is none.
    """

    message = "precondition failed"
    current: str | None


class BlobInUse(RegistryError):
    """A blob that manifests or V1 images of the repository (*referrers*) reference."""

    message = "blob is in use"
    digest: str
    referrers: Sequence[str]


class ManifestInUse(RegistryError):
    """A manifest that indexes of the repository (*referrers*) reference."""

    message = "manifest is in use"
    digest: str
    referrers: Sequence[str]


class Unauthenticated(RegistryError):
    """The client is anonymous where it may not be, its credentials are wrong, or its token covers too little.

    Attributes:
        scope: What a token has to cover.
        error: The error code of RFC 6750, if a token was sent.
    """

    message = "Requires authorization"
    reason: str | None = None
    scope: str | None = None
    error: str | None = None


class Denied(RegistryError):
    """The client is authenticated and lacks the permission."""

    message = "requested access to the resource is denied"
    repository: str
    action: str


class TooManyAttempts(RegistryError):
    """Too many logins failed; retry in *retry_after* seconds."""

    message = "too many failed logins"
    retry_after: int


class Unsupported(RegistryError):
    """An operation that is disabled (by *setting*) or not offered (for *account*)."""

    message = "The operation is unsupported"
    setting: str | None = None
    account: str | None = None
