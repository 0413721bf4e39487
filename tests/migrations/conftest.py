"""Fixtures: Alembic itself, which other tests do without."""

from collections.abc import Iterator

import pytest

from tests import quick


@pytest.fixture(autouse=True)
def _real() -> Iterator[None]:
    """Run the migrations whenever a catalog is made."""
    with quick.real_migrations():
        yield
