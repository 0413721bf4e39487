"""What all tables share."""

from typing import ClassVar

from sqlalchemy import (
    BigInteger,
    Integer,
    MetaData,
)
from sqlalchemy.orm import DeclarativeBase

#: SQLite numbers rows by itself only for columns that it calls INTEGER.
ROW_ID = BigInteger().with_variant(Integer, "sqlite")


class Table(DeclarativeBase):
    """Gives every constraint a stable name, so that migrations can speak of it."""

    type_annotation_map: ClassVar = {int: ROW_ID}
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
