"""What is found out about requests without Flask: the same as by it."""

from itertools import product

import pytest
from flask import Request

from dualreg.web.application import Application
from dualreg.web.v2 import _NAMESPACE

LENGTHS = [None, "", "0", "5", "007", "9" * 18, "9" * 19, "9" * 5000, "-5", "+5", " 5", "5 ", "5.0", "٣", "x"]


@pytest.mark.parametrize("coding", [None, "", "chunked", "gzip, chunked", "gzip"])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_length_of_a_body(length: str | None, coding: str | None) -> None:
    """It is what Flask reads, whatever was sent."""
    sent = {"CONTENT_LENGTH": length, "HTTP_TRANSFER_ENCODING": coding}
    environ = {"wsgi.url_scheme": "http", "REQUEST_METHOD": "PUT", "SERVER_NAME": "a", "SERVER_PORT": "80"}
    environ |= {name: value for name, value in sent.items() if value is not None}
    assert Application.request_class(environ).content_length == Request(environ).content_length


@pytest.mark.parametrize("spelled", [*map("".join, product(["n", "%6e", "%6E"], ["s", "%73"]))])
def test_a_namespace_is_found_in_each_spelling(spelled: str) -> None:
    """Of a parameter whose name may be escaped; other queries are not parsed."""
    environ = {"wsgi.url_scheme": "http", "REQUEST_METHOD": "GET", "SERVER_NAME": "a", "SERVER_PORT": "80"}
    asked = Request(environ | {"QUERY_STRING": f"n=1&{spelled}=docker.io"})
    assert asked.args["ns"] == "docker.io"
    assert _NAMESPACE.search(asked.query_string)
    assert not _NAMESPACE.search(b"digest=sha256%3A0a&offset=5")
