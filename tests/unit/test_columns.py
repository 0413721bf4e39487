"""Columns: values are written as SQLAlchemy itself would write them."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from dualreg.catalog.columns import UtcDateTime

_ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_YEAR_2, _YEAR_9998 = datetime(2, 1, 1), datetime(9998, 12, 31)  # noqa: DTZ001 -- bounds have no zone


@given(st.datetimes(_YEAR_2, _YEAR_9998, timezones=_ZONES))
@example(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
def test_instants_have_the_text_of_the_library(at: datetime) -> None:
    """An instant of any zone is written to SQLite in UTC, in the form that comparisons of texts rely on."""
    ours = UtcDateTime().bind_processor(sqlite.dialect())
    library = sqlite.DATETIME().bind_processor(sqlite.dialect())
    assert ours
    assert library
    assert ours(at) == library(at.astimezone(UTC))
    assert ours(None) is None
