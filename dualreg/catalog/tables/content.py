"""Tables of repositories and their content."""

from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    String,
    Text,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from dualreg.catalog.columns import DigestColumn, NameColumn, UtcDateTime
from dualreg.catalog.tables.base import ROW_ID, Table
from dualreg.image.digest import Digest


class Repositories(Table):
    """Repositories. ``upstream`` is the URL of the registry that their content comes from; NULL: clients."""

    __tablename__ = "repositories"

    id: Mapped[int] = mapped_column(ROW_ID, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(NameColumn, unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    upstream: Mapped[str | None] = mapped_column(Text)


class Blobs(Table):
    """Blobs in the store, whichever repositories may read them."""

    __tablename__ = "blobs"

    digest: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    verified_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    condemned_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    damaged_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)


class RepositoryBlobs(Table):
    """Links: the blobs that a repository may read.

    ``candidate_since`` is since when the link may be garbage; NULL: it is in use, or was not looked at.
    """

    __tablename__ = "repository_blobs"
    __table_args__ = (
        Index(
            "ix_repository_blobs_candidate",
            "candidate_since",
            "repository_id",
            "digest",
            sqlite_where=text("candidate_since IS NOT NULL"),
            postgresql_where=text("candidate_since IS NOT NULL"),
        ),
    )

    repository_id: Mapped[int] = mapped_column(ForeignKey(Repositories.id), primary_key=True)
    digest: Mapped[Digest] = mapped_column(
        DigestColumn, ForeignKey(Blobs.digest), primary_key=True, index=True
    )
    linked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    candidate_since: Mapped[datetime | None] = mapped_column(UtcDateTime)


_LINK = [RepositoryBlobs.repository_id, RepositoryBlobs.digest]


class Manifests(Table):
    """Manifests: linked blobs that are manifests of the repository."""

    __tablename__ = "manifests"
    __table_args__ = (
        ForeignKeyConstraint(["repository_id", "digest"], _LINK),
        # The orders in which referrers are paged: all of them, or those of one type.
        Index("ix_manifests_subject", "repository_id", "subject", "pushed_at", "digest"),
        Index("ix_manifests_typed", "repository_id", "subject", "artifact_type", "pushed_at", "digest"),
    )

    repository_id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    media_type: Mapped[str]
    subject: Mapped[Digest | None] = mapped_column(DigestColumn)
    artifact_type: Mapped[str]
    annotations: Mapped[dict[str, str]] = mapped_column(JSON)
    pushed_at: Mapped[datetime] = mapped_column(UtcDateTime)


_MANIFEST = [Manifests.repository_id, Manifests.digest]


class ManifestChildren(Table):
    """Children of manifests that are in the repository."""

    __tablename__ = "manifest_children"
    __table_args__ = (
        ForeignKeyConstraint(["repository_id", "manifest"], _MANIFEST, ondelete="CASCADE"),
        ForeignKeyConstraint(["repository_id", "child"], _LINK),
        Index(None, "repository_id", "child"),
    )

    repository_id: Mapped[int] = mapped_column(primary_key=True)
    manifest: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    child: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    position: Mapped[int] = mapped_column(Integer)


class MissingChildren(Table):
    """Children that are not in the repository yet: of indexes, and of any manifest from upstream."""

    __tablename__ = "missing_children"
    __table_args__ = (
        ForeignKeyConstraint(["repository_id", "manifest"], _MANIFEST, ondelete="CASCADE"),
        Index(None, "repository_id", "child"),
    )

    repository_id: Mapped[int] = mapped_column(primary_key=True)
    manifest: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    child: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True, server_default="manifest")
    position: Mapped[int] = mapped_column(Integer)


class Tags(Table):
    """Tags: each points at a manifest of its repository.

    ``checked_at`` is when upstream was last asked what the tag points at; NULL: it does not come from there.
    """

    __tablename__ = "tags"
    __table_args__ = (
        ForeignKeyConstraint(["repository_id", "manifest"], _MANIFEST, ondelete="CASCADE"),
        Index(None, "repository_id", "manifest"),
        Index(None, "repository_id", "updated_at", "name"),
    )

    repository_id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    manifest: Mapped[Digest] = mapped_column(DigestColumn)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    pulled_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    origin: Mapped[str] = mapped_column(String(8), server_default="v2")
    agent: Mapped[str | None] = mapped_column(String(255))
    checked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Uploads(Table):
    """Uploads in progress. ``offset`` bytes are durable; the request that writes holds the ``lease``.

    ``staged`` names the bytes in the store; ``layout`` is what the store needs besides. ``process`` took the
    last lease. ``stalled`` is a process that lost its lease and may still write to these bytes; NULL: there
    is none; WHOLE: nobody may write to them. ``client`` is who started it; empty: not known. ``arriving`` is
    how much its writer has received beyond the offset, as far as is known.
    """

    __tablename__ = "uploads"
    __table_args__ = (Index(None, "client", "touched_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey(Repositories.id))
    offset: Mapped[int] = mapped_column(BigInteger)
    digest_so_far: Mapped[Digest | None] = mapped_column(DigestColumn)
    lease: Mapped[str | None] = mapped_column(String(36))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    process: Mapped[str] = mapped_column(String(100), server_default="")
    staged: Mapped[str] = mapped_column(String(36), server_default="", index=True)
    layout: Mapped[str] = mapped_column(Text, server_default="")
    stalled: Mapped[str | None] = mapped_column(String(100))
    client: Mapped[str] = mapped_column(String(64), server_default="")
    arriving: Mapped[int] = mapped_column(BigInteger, server_default="0")
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    touched_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class V1Images(Table):
    """V1 images. ``layer`` and the columns derived from it are NULL until the layer has arrived.

    ``touched_at`` is when a client last sent something of an image that is not complete.
    """

    __tablename__ = "v1_images"
    __table_args__ = (
        ForeignKeyConstraint(["repository_id", "json"], _LINK),
        ForeignKeyConstraint(["repository_id", "layer"], _LINK),
        Index(None, "repository_id", "json"),
        Index(None, "repository_id", "layer"),
        Index(None, "repository_id", "parent_id"),
        Index(None, "image_id"),
    )

    repository_id: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(String(64))
    json: Mapped[Digest] = mapped_column(DigestColumn)
    layer: Mapped[Digest | None] = mapped_column(DigestColumn)
    diff_id: Mapped[Digest | None] = mapped_column(DigestColumn)
    checksum: Mapped[Digest | None] = mapped_column(DigestColumn)
    complete: Mapped[bool]
    tarsum: Mapped[str | None] = mapped_column(String(100))
    tarsum_verified: Mapped[bool | None]
    touched_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class V1SentLayers(Table):
    """Layers that other clients sent for V1 images, by payload checksum; NULL: only compared, not kept."""

    __tablename__ = "v1_sent_layers"
    __table_args__ = (
        ForeignKeyConstraint(
            ["repository_id", "image_id"], [V1Images.repository_id, V1Images.image_id], ondelete="CASCADE"
        ),
    )

    repository_id: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    checksum: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    layer: Mapped[Digest | None] = mapped_column(DigestColumn)
    diff_id: Mapped[Digest] = mapped_column(DigestColumn)


class TranscodedLayers(Table):
    """The gzip editions of layers that are compressed with zstd.

    ``digest`` is NULL while there is none. ``made_by`` is the version of the rules and of the library that
    compressed it or, without a ``digest``, that found out that the layer cannot be read. ``process`` took the
    ``lease``: it is making the edition.
    """

    __tablename__ = "transcoded_layers"

    source: Mapped[Digest] = mapped_column(
        DigestColumn, ForeignKey(Blobs.digest, ondelete="CASCADE"), primary_key=True
    )
    digest: Mapped[Digest | None] = mapped_column(
        DigestColumn, ForeignKey(Blobs.digest, ondelete="CASCADE"), index=True
    )
    made_by: Mapped[str | None] = mapped_column(String(64))
    lease: Mapped[str | None] = mapped_column(String(36))
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    process: Mapped[str] = mapped_column(String(100), server_default="")


class ManifestViews(Table):
    """What manifests are to clients of another generation; a NULL ``view`` means that they cannot use it."""

    __tablename__ = "manifest_views"
    __table_args__ = (
        ForeignKeyConstraint(["repository_id", "manifest"], _MANIFEST, ondelete="CASCADE"),
        Index(None, "repository_id", "kind", "view"),
    )

    repository_id: Mapped[int] = mapped_column(primary_key=True)
    manifest: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    view: Mapped[str | None] = mapped_column(String(135))


class QuotaUsage(Table):
    """What has been counted for a quota: the bytes of the blobs in QuotaLinks, each once."""

    __tablename__ = "quota_usage"

    pattern: Mapped[str] = mapped_column(String(255), primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)


class QuotaLinks(Table):
    """Links that count for a quota."""

    __tablename__ = "quota_links"

    pattern: Mapped[str] = mapped_column(
        String(255), ForeignKey(QuotaUsage.pattern, ondelete="CASCADE"), primary_key=True
    )
    digest: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    repository_id: Mapped[int] = mapped_column(
        ForeignKey(Repositories.id, ondelete="CASCADE"), primary_key=True, index=True
    )
