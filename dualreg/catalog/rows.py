"""What queries return: frozen records. Nothing of SQLAlchemy leaves this package."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag, UploadId


class Origin(StrEnum):
    """The generation of client that pointed a tag where it points."""

    V1 = "v1"
    V2 = "v2"


#: Every one there is.
ORIGINS = (Origin.V1, Origin.V2)


@dataclass(frozen=True, slots=True)
class RepositoryRow:
    """A repository."""

    id: int
    name: RepositoryName


@dataclass(frozen=True, slots=True)
class BlobRow:
    """A blob that a repository may read; *size* in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """A manifest of a repository; *size* in bytes.

    Attributes:
        origin: Of the tag that it was found by; None if it was found otherwise.
    """

    repository_id: int
    digest: Digest
    media_type: str
    size: int
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class TagRow:
    """A tag with what it points at; *size* is that of the manifest, in bytes.

    Attributes:
        pulled_at: When the tag was last pulled, give or take the delay of writing it; None if never.
    """

    name: Tag
    digest: Digest
    media_type: str
    size: int
    pushed_at: datetime
    pulled_at: datetime | None
    origin: Origin


@dataclass(frozen=True, slots=True)
class ReferrerRow:
    """A manifest that is about another one; *size* in bytes."""

    digest: Digest
    media_type: str
    size: int
    artifact_type: str
    annotations: Mapping[str, str]
    pushed_at: datetime


@dataclass(frozen=True, slots=True)
class UploadRow:
    """An upload, as it is while its lease is held.

    Attributes:
        offset: Bytes that are durable.
        digest_so_far: Of those bytes, if one hasher saw them all.
    """

    id: UploadId
    repository_id: int
    offset: int
    digest_so_far: Digest | None
    touched_at: datetime


@dataclass(frozen=True, slots=True)
class V1ImageRow:
    """A V1 image; *layer_size* in bytes.

    Until it is complete, ``layer`` and what follows from it may be missing.

    Attributes:
        checksum: The payload checksum; None if nobody sent this image.
        tarsum: As its client stated it.
        tarsum_verified: Whether it agrees with the layer; None if the payload checksum proved that already.
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


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A V1 client that came, with how often it came and was refused.

    Attributes:
        version: As ``docker/1.5.0``, else the start of what it calls itself.
        repository: Empty if its requests were about none.
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
    """An account; *password_hash* is bcrypt's, None of a robot."""

    name: str
    password_hash: str | None = field(repr=False)
    robot: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PermissionRow:
    """A permission line.

    Attributes:
        who: An account, ``@`` and a group, ``authenticated`` or ``anonymous``.
        pattern: Of repository names; ``{account}`` stands for the account's.
    """

    who: str
    pattern: str
    actions: frozenset[str]


@dataclass(frozen=True, slots=True)
class SecretRow:
    """What is kept of an API key or refresh token.

    Attributes:
        hash: SHA-256 of the secret.
        limits: Scopes beyond which a key is no good; empty: none.
        service: What a refresh token is for.
        binding: A fingerprint of what a refresh token was got by.
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
