"""The table of what tags pointed at."""

from datetime import datetime

from sqlalchemy import BigInteger, Identity, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from dualreg.catalog.columns import DigestColumn, NameColumn, UtcDateTime
from dualreg.catalog.tables.base import ROW_ID, Table
from dualreg.image.digest import Digest


class TagHistory(Table):
    """Every move and deletion of a tag, written in its transaction, never changed.

    ``old`` is what the tag pointed at before; NULL: it was created. ``new`` is what it points at since; NULL:
    it was deleted. ``origin``, ``media_type`` and ``size`` are those of ``new``, or else of ``old``.
    Repositories are named, since rows outlive them. Of one tag, rows are in the order of ``at`` and then
    ``id``, and the ``old`` of each is the ``new`` of the one before. No ``id`` is used twice. On PostgreSQL,
    transactions that change different tags may be committed in another order than that of their rows.
    """

    __tablename__ = "tag_history"
    __table_args__ = (
        Index("ix_tag_history_tag", "repository", "tag", "at", "id"),
        Index("ix_tag_history_old", "repository", "old"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(ROW_ID, Identity(), primary_key=True)
    repository: Mapped[str] = mapped_column(NameColumn)
    tag: Mapped[str] = mapped_column(NameColumn)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(Text)
    api: Mapped[str] = mapped_column(String(16))
    old: Mapped[Digest | None] = mapped_column(DigestColumn)
    new: Mapped[Digest | None] = mapped_column(DigestColumn)
    origin: Mapped[str] = mapped_column(String(8))
    media_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
