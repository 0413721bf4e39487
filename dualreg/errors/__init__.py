"""Errors: what can go wrong, as typed facts, and the text in which people read them.

HTTP statuses and wire codes are in ``web/v1/errors.py`` and ``web/v2/errors.py``, which render these facts.

Faults, for the operator: logged, and answered with 500 or 503; never a client's mistake
├── BlobMissing · BlobDamaged                            the store differs from the catalog
├── CatalogUnreachable                                   no database, or one with another schema
└── AuditUnavailable                                     the audit log cannot be written

RegistryError, for the client: the request is refused
├── NameInvalid · TagInvalid · ImageIdInvalid            a name outside its grammar
├── DigestInvalid · DigestMismatch · ChecksumMismatch    a malformed digest, or not the digest of the bytes
├── SizeMismatch · BodyTruncated · RangeInvalid          more, fewer or other bytes than declared
├── RequestInvalid · PageInvalid · TooManyTags · ListTooLong  a malformed or excessive request
├── ManifestTooLarge · ReferencesMissing · ManifestInvalid ── ManifestUnverified
├── ImageInvalid · ImageExists · ImageIncomplete         V1 images
├── ImageUnreadable                                      no edition that the client can read
├── RepositoryUnknown · BlobUnknown · ManifestUnknown · TagUnknown · UploadUnknown · ImageUnknown
├── DownloadFailed · UpstreamBusy                        an upstream registry fails, or is waited for
├── UploadBusy · SourceBusy · ServerBusy · ServerStopping  retry later
├── ViewsPending · LayersPending                         being prepared; retry later
├── TooManyRequests · TooManyUploads · TooManyStagedBytes  more than a client may send
├── PreconditionFailed · BlobInUse · ManifestInUse       the state does not allow it
├── TagImmutable · Unsigned · QuotaExceeded              a policy does not allow it
├── NotRestorable · DeletedForGood                       nor does the history of a tag, or the store
├── Unauthenticated · Denied · TooManyAttempts           authentication and authorization
├── LoginRefused · IssuerUnavailable                     logins of people by an issuer
├── NotAllowed · KeyUnknown · LoginUnknown               accounts, keys and permission rules
├── DiskReserved · ReadOnly                              nothing can be added for now
├── NamespaceUnknown · RepositoryOwned · UpstreamFailed  content of another registry
└── Unsupported                                          disabled or not offered

Fields have plain types, since this package imports nothing of the others and every part imports it: names,
tags and IDs are text by class already, a digest is passed as ``str(digest)``.
"""

from dualreg.errors.base import Fact, RegistryError, shown
from dualreg.errors.content import (
    BlobInUse,
    BlobUnknown,
    DeletedForGood,
    ImageExists,
    ImageIncomplete,
    ImageInvalid,
    ImageUnknown,
    ImageUnreadable,
    ManifestInUse,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    ManifestUnverified,
    NotRestorable,
    PreconditionFailed,
    QuotaExceeded,
    ReferencesMissing,
    RepositoryUnknown,
    TagImmutable,
    TagUnknown,
    Unsigned,
)
from dualreg.errors.faults import AuditUnavailable, BlobDamaged, BlobMissing, CatalogUnreachable
from dualreg.errors.requests import (
    Denied,
    ImageIdInvalid,
    IssuerUnavailable,
    KeyUnknown,
    LayersPending,
    ListTooLong,
    LoginRefused,
    LoginUnknown,
    NameInvalid,
    NamespaceUnknown,
    NotAllowed,
    PageInvalid,
    ReadOnly,
    RepositoryOwned,
    RequestInvalid,
    ServerBusy,
    SourceBusy,
    TagInvalid,
    TooManyAttempts,
    TooManyRequests,
    TooManyTags,
    Unauthenticated,
    Unsupported,
    UpstreamBusy,
    UpstreamFailed,
    ViewsPending,
)
from dualreg.errors.transfers import (
    BodyTruncated,
    ChecksumMismatch,
    DigestInvalid,
    DigestMismatch,
    DiskReserved,
    DownloadFailed,
    RangeInvalid,
    ServerStopping,
    SizeMismatch,
    TooManyStagedBytes,
    TooManyUploads,
    UploadBusy,
    UploadUnknown,
)

__all__ = [
    "AuditUnavailable",
    "BlobDamaged",
    "BlobInUse",
    "BlobMissing",
    "BlobUnknown",
    "BodyTruncated",
    "CatalogUnreachable",
    "ChecksumMismatch",
    "DeletedForGood",
    "Denied",
    "DigestInvalid",
    "DigestMismatch",
    "DiskReserved",
    "DownloadFailed",
    "Fact",
    "ImageExists",
    "ImageIdInvalid",
    "ImageIncomplete",
    "ImageInvalid",
    "ImageUnknown",
    "ImageUnreadable",
    "IssuerUnavailable",
    "KeyUnknown",
    "LayersPending",
    "ListTooLong",
    "LoginRefused",
    "LoginUnknown",
    "ManifestInUse",
    "ManifestInvalid",
    "ManifestTooLarge",
    "ManifestUnknown",
    "ManifestUnverified",
    "NameInvalid",
    "NamespaceUnknown",
    "NotAllowed",
    "NotRestorable",
    "PageInvalid",
    "PreconditionFailed",
    "QuotaExceeded",
    "RangeInvalid",
    "ReadOnly",
    "ReferencesMissing",
    "RegistryError",
    "RepositoryOwned",
    "RepositoryUnknown",
    "RequestInvalid",
    "ServerBusy",
    "ServerStopping",
    "SizeMismatch",
    "SourceBusy",
    "TagImmutable",
    "TagInvalid",
    "TagUnknown",
    "TooManyAttempts",
    "TooManyRequests",
    "TooManyStagedBytes",
    "TooManyTags",
    "TooManyUploads",
    "Unauthenticated",
    "Unsigned",
    "Unsupported",
    "UploadBusy",
    "UploadUnknown",
    "UpstreamBusy",
    "UpstreamFailed",
    "ViewsPending",
    "shown",
]
