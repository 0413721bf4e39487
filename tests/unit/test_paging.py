"""The parameters of pages, as clients write them."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from flask import Flask

from dualreg.errors import PageInvalid
from dualreg.image.names import Tag
from dualreg.operations.places import format_place
from dualreg.settings import Settings
from dualreg.web.paging import PAGE_LIMIT, next_link, page_number, page_size, parse_cursor

INSTANT = datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)
_app = Flask("paging")
_app.extensions["dualreg"] = SimpleNamespace(settings=Settings())


@pytest.mark.parametrize(
    ("query", "size"),
    [("", 7), ("?n=0", 0), ("?n=1", 1), ("?n=0020", 20), ("?n=1000", 1000), ("?n=1001", 1000),
     ("?n=99999", 1000), ("?n=" + "9" * 300, 1000), ("?n=" + "0" * 300 + "5", 5)],
)  # fmt: skip
def test_page_sizes(query: str, size: int) -> None:
    """Nobody gets more than PAGE_LIMIT entries at once; numbers may be of any length."""
    assert PAGE_LIMIT == 1000
    with _app.test_request_context(f"/{query}"):
        assert page_size(7) == size


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "x", "0x10", "1e3", "%20", "\u0661"])
def test_page_sizes_that_are_none(text: str) -> None:
    """Are refused."""
    with _app.test_request_context("/", query_string={"n": text}), pytest.raises(PageInvalid):
        page_size(7)


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("", 1),
        ("?page=3", 3),
        ("?page=0", 1),
        ("?page=x", 1),
        ("?page=-2", 1),
        ("?page=" + "9" * 99, 999_999_999),
    ],
)
def test_page_numbers(query: str, number: int) -> None:
    """Old clients get a page, whatever they write."""
    with _app.test_request_context(f"/{query}"):
        assert page_number() == number


def test_cursors_come_back() -> None:
    """To the microsecond; without one there is none."""
    cursor = format_place(INSTANT, "v1-2.3")
    assert cursor == f"{int(INSTANT.timestamp())}123456-v1-2.3"
    with _app.test_request_context("/", query_string={"after": cursor}):
        assert parse_cursor(Tag.parse) == (INSTANT, "v1-2.3")
    with _app.test_request_context("/"):
        assert parse_cursor(Tag.parse) is None


@pytest.mark.parametrize("after", ["", "1", "-x", "x-1", "1-", "1" * 18 + "-x", "1-" + "x" * 201, "\u0661-x"])
def test_cursors_that_are_none(after: str) -> None:
    """Are refused."""
    with _app.test_request_context("/", query_string={"after": after}), pytest.raises(PageInvalid):
        parse_cursor(str)


def test_links_are_of_this_url() -> None:
    """With the query of the next page instead of its own."""
    with _app.test_request_context("/v2/team/app/tags/list?n=2&last=a"):
        assert next_link({"n": 2, "last": "a b"}) == {
            "Link": '</v2/team/app/tags/list?n=2&last=a+b>; rel="next"'
        }
