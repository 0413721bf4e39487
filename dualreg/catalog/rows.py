"""Rows: the immutable values that queries return, so that nothing of SQLAlchemy leaves this package."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag, UploadId


class Origin(StrEnum):
    """The generation of the client that last pushed a tag."""

    V1 = "v1"
    V2 = "v2"


#: All of them.
ORIGINS = (Origin.V1, Origin.V2)
#: What ``UploadRow.stalled`` is of bytes that came in one request, and that nobody may write to.
WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class RepositoryRow:
    """A repository.

    Attributes:
        policies: The version of the policies when it was locked; None: there were none, or it is not locked.
    """

    id: int
    name: RepositoryName
    policies: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A blob; *size* in bytes.

    Attributes:
        noted_at: Since when its link is a candidate of the garbage collection, if that was asked for;
            None: it is none.
        is_damaged: Whether its bytes were found to be lost or damaged, if that was asked for.
    """

    digest: Digest
    size: int
    noted_at: datetime | None = field(default=None, compare=False)
    is_damaged: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """A manifest; *size* in bytes.

    Attributes:
        origin: The origin of the tag by which it was found; None if it was found by digest.
        noted_at: Since when it is a candidate of the garbage collection, if it was found by digest; None: it
            is none.
        checked_at: When upstream was last asked about the tag by which it was found; None: it was not.
    """

    repository_id: int
    digest: Digest
    media_type: str
    size: int
    origin: Origin | None = None
    noted_at: datetime | None = field(default=None, compare=False)
    checked_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag and the manifest that it points at; *size* is that of the manifest, in bytes.

    Attributes:
        pushed_at: When the tag was last pushed.
        pulled_at: When the tag was last pulled, which is recorded with some delay; None if never.
    """

    name: Tag
    digest: Digest
    media_type: str
    size: int
    pushed_at: datetime
    pulled_at: datetime | None
    origin: Origin


class PlacedTag(NamedTuple):
    """A tag and its repository.

    Attributes:
        lacking: Of an index, the manifests that it names and the repository does not have.
    """

    repository_id: int
    repository: RepositoryName
    row: TagRow
    lacking: frozenset[Digest] = frozenset()


@dataclass(frozen=True, slots=True)
class ReferrerRow:
    """A manifest with a subject; *size* in bytes."""

    digest: Digest
    media_type: str
    size: int
    artifact_type: str
    annotations: Mapping[str, str]
    pushed_at: datetime


class OtherUploads(NamedTuple):
    """The bytes of the other uploads in progress: those of the same client, and all of them."""

    own: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class UploadRow:
    """An upload.

    Attributes:
        offset: Number of bytes that are durable.
        digest_so_far: The digest of these bytes; None if no single hasher saw all of them.
        staged: The name of its bytes in the store.
        layout: What the store needs besides to go on with them, see ``BlobStore.layout``.
        stalled: The process that lost the lease, and may still write to these bytes; None: there is none.
            WHOLE: nobody may.
        others: What else was in progress when the lease was taken.
    """

    id: UploadId
    repository_id: int
    offset: int
    digest_so_far: Digest | None
    touched_at: datetime
    staged: UploadId
    layout: str
    stalled: str | None
    others: OtherUploads = field(default_factory=OtherUploads)


@dataclass(frozen=True, slots=True)
class UnderwayRow:
    """How far an upload is that another process may write to.

    Attributes:
        repository: Whose upload it is.
        offset, staged, layout: As of ``UploadRow``.
        until: When its lease runs out; None: there is none.
        process: The one that took the last lease.
    """

    repository: RepositoryName
    id: UploadId
    offset: int
    staged: UploadId
    layout: str
    until: datetime | None
    process: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease of an upload.

    Attributes:
        token: What tells it from other leases.
        process: The process that took it; empty: not known which.
    """

    token: str
    process: str


@dataclass(frozen=True, slots=True)
class V1ImageRow:
    """A V1 image; *layer_size* in bytes.

    ``layer``, ``layer_size`` and ``diff_id`` are None until the layer has arrived.

    Attributes:
        json: The digest of the image JSON.
        checksum: The payload checksum; None for an image that was derived from a manifest.
        tarsum: The TarSum that the client sent, if it did.
        tarsum_verified: Whether it matches the layer; None if the payload checksum made that unnecessary.
        promised_at: When a client was last told that the image is present; None of one that is not recorded.
    """

    repository_id: int
    id: ImageId
    parent: ImageId | None
    json: Digest
    layer: Digest | None
    layer_size: int | None
    diff_id: Digest | None
    checksum: Digest | None
    complete: bool
    tarsum: str | None = None
    tarsum_verified: bool | None = None
    promised_at: datetime | None = field(default=None, compare=False)

    def columns(self) -> dict[str, object]:
        """Return the row of ``V1Images``."""
        return {
            "repository_id": self.repository_id,
            "image_id": self.id,
            "parent_id": self.parent,
            "json": self.json,
            "layer": self.layer,
            "diff_id": self.diff_id,
            "checksum": self.checksum,
            "complete": self.complete,
            "tarsum": self.tarsum,
            "tarsum_verified": self.tarsum_verified,
        }


@dataclass(frozen=True, slots=True)
class SentLayer:
    """What a client sent as the layer of a V1 image.

    Attributes:
        layer: The blob; None if it was only compared, since the image was complete.
        checksum: The payload checksum; None for the layer of an image that was derived from a manifest.
    """

    layer: Digest | None
    diff_id: Digest
    checksum: Digest | None


@dataclass(frozen=True, slots=True)
class UpstreamCount:
    """What was counted of an upstream. The fields are keys of ``--json``.

    Attributes:
        upstream: Its URL.
        hits: Pulls by tag of images that were here.
        misses: Manifests and blobs that were fetched.
        stale: Answers with what is here because the upstream failed.
        errors: Requests for what is not here that the upstream, or its connection, failed.
        bytes: Of blobs that were fetched.
    """

    upstream: str
    hits: int = 0
    misses: int = 0
    stale: int = 0
    errors: int = 0
    bytes: int = 0


class KeptImage(NamedTuple):
    """An image of an upstream that is here.

    Attributes:
        digest: Of its manifest or index.
        used_at: When it was fetched, or last pulled by tag.
    """

    repository: RepositoryName
    digest: Digest
    used_at: datetime


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A V1 client, and the number of its requests, all and refused ones.

    Attributes:
        version: Such as ``docker/1.5.0``; for other programs, the start of ``User-Agent``.
        repository: Empty for requests that concern no repository.
    """

    address: str
    version: str
    repository: str
    first_seen: datetime
    last_seen: datetime
    requests: int
    refused: int


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account.

    Attributes:
        password_hash: A bcrypt hash; None for a robot, and for an account of an issuer.
        disabled_at: Since when it is disabled; None: it is not.
        password_changed_at: When the password last changed, or all logins were ended; None: never, as far
            as is known.
        login_ends_at: Until when its issuer has vouched for it; None: it is an account of ours.
    """

    name: str
    password_hash: str | None = field(repr=False)
    robot: bool
    created_at: datetime
    disabled_at: datetime | None = None
    password_changed_at: datetime | None = None
    login_ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ImmutableRow:
    """A rule of immutable tags; *pattern* is one of ``REPOSITORY:TAG``."""

    pattern: str
    added_at: datetime


@dataclass(frozen=True, slots=True)
class QuotaRow:
    """How many bytes the repositories that match *pattern* may have together.

    Attributes:
        size: The limit.
        soft: From how many bytes on clients are warned; None: they are not.
        used: How many there are; None: nothing was counted yet, and nothing is refused.
    """

    pattern: str
    size: int
    soft: int | None = None
    used: int | None = None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """How much a repository or namespace has; each blob counts once.

    Attributes:
        name: Empty: the whole registry.
        bytes: Of all its blobs.
        own: Of those that nothing else has.
    """

    name: str
    blobs: int
    bytes: int
    own: int


@dataclass(frozen=True, slots=True)
class PermissionRow:
    """A permission rule.

    Attributes:
        who: An account, ``@GROUP``, ``authenticated`` or ``anonymous``.
        pattern: A pattern of repository names; ``{account}`` stands for the name of the account.
    """

    who: str
    pattern: str
    actions: frozenset[str]


@dataclass(frozen=True, slots=True)
class SecretRow:
    """What is stored of an API key or refresh token.

    Attributes:
        hash: The SHA-256 of the secret.
        limits: The scopes to which a key is limited; empty: no limit.
        service: The service for which a refresh token was issued.
        binding: A fingerprint of the credentials for which a refresh token was issued; of a key, the id of
            the key that it was made with, and ends with; empty: none.
        used_at: When a key was last used, which is recorded with some delay; None: never, as far as is known.
    """

    id: str
    kind: str
    account: str
    hash: str = field(repr=False)
    limits: str
    note: str
    service: str
    binding: str = field(repr=False)
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None = None
