"""Tables of what was deleted and can be restored, for as long as the setting ``undelete_grace`` says.

They name repositories, which may be gone. No foreign key leads to ``blobs``: an older release, which knows
nothing of these tables, may delete them.
"""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from dualreg.catalog.columns import DigestColumn, NameColumn, UtcDateTime
from dualreg.catalog.tables.base import Table
from dualreg.image.digest import Digest


class DeletedRepositories(Table):
    """When repositories were last deleted; ``ended_at`` is NULL while, or if, a part of one is left."""

    __tablename__ = "deleted_repositories"

    name: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    began_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DeletedManifests(Table):
    """Manifests that were deleted; ``v1_view`` is the V1 image, pushed by a client, that each was made of."""

    __tablename__ = "deleted_manifests"
    __table_args__ = (
        Index("ix_deleted_manifests_subject", "repository", "subject"),
        Index("ix_deleted_manifests_time", "repository", "deleted_at", "digest"),
    )

    repository: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    digest: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    media_type: Mapped[str]
    subject: Mapped[Digest | None] = mapped_column(DigestColumn)
    v1_view: Mapped[str | None] = mapped_column(String(64))
    pushed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class DeletedImages(Table):
    """V1 images of deleted manifests, as in ``v1_images``, with their ancestors."""

    __tablename__ = "deleted_images"

    repository: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    image_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(String(64))
    json: Mapped[Digest] = mapped_column(DigestColumn)
    layer: Mapped[Digest] = mapped_column(DigestColumn)
    diff_id: Mapped[Digest] = mapped_column(DigestColumn)
    checksum: Mapped[Digest | None] = mapped_column(DigestColumn)
    tarsum: Mapped[str | None] = mapped_column(String(100))
    tarsum_verified: Mapped[bool | None]
    deleted_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class DeletedBlobs(Table):
    """What deleted manifests and V1 images consist of. The garbage collection keeps the bytes of these.

    ``owner`` is the digest of a manifest or the id of a V1 image, and ``role`` what the blob is to it: that
    of a child, ``document`` for the manifest or the JSON itself, or ``layer``.
    """

    __tablename__ = "deleted_blobs"
    __table_args__ = (Index("ix_deleted_blobs_digest", "digest", "deleted_at"),)

    repository: Mapped[str] = mapped_column(NameColumn, primary_key=True)
    owner: Mapped[str] = mapped_column(String(135), primary_key=True)
    digest: Mapped[Digest] = mapped_column(DigestColumn, primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)
    deleted_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
