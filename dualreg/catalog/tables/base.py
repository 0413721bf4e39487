"""The base class of tables."""

from typing import ClassVar

from sqlalchemy import (
    BigInteger,
    Integer,
    MetaData,
)
from sqlalchemy.orm import DeclarativeBase

#: SQLite generates row numbers only for columns of type INTEGER.
ROW_ID = BigInteger().with_variant(Integer, "sqlite")


class Table(DeclarativeBase):
    """The base class of tables. Every constraint has a stable name, which migrations use."""

    type_annotation_map: ClassVar = {int: ROW_ID}
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
