"""Responses that are complete when they are made: the same as Flask's, for every server that sends them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from flask import Response

from dualreg.web.responses import Made

LENGTH = {"Content-Length": "5"}
#: Statuses, headers, and bodies.
MADE: list[tuple[int, Mapping[str, str], bytes]] = [
    (200, {"Content-Type": "application/json", **LENGTH}, b"[1,2]"),
    (201, {"Location": "/v2/a/b/blobs/sha256:0a", "Content-Length": "0"}, b""),
    (202, {"Location": "/v2/a/blobs/uploads/0a-1?offset=7", "Range": "0-6", "Content-Length": "0"}, b""),
    (202, {"Location": "http://höst/v2/a b?c", "Content-Length": "0"}, b""),
    (204, {"Docker-Upload-UUID": "0a-1", "Content-Length": "0"}, b""),
    (304, {"ETag": '"sha256:0a"', "Content-Length": "0"}, b""),
    (307, {"Location": "https://bucket/0a?X-Amz-Signature=%2B", "Content-Length": "0"}, b""),
    (416, {"Location": "/v2/a/blobs/uploads/0a-1", "Content-Type": "application/json", **LENGTH}, b"[1,2]"),
    (599, {"Content-Type": "application/json", **LENGTH}, b"[1,2]"),
]


def sent(response: Response, method: str) -> tuple[str, list[tuple[str, str]], bytes]:
    """Return what a server gets of a response."""
    begun: list[Any] = []
    body: Iterable[bytes] = response({"REQUEST_METHOD": method}, lambda *status: begun.append(status))
    content = b"".join(body)
    return begun[0][0], begun[0][1], content


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@pytest.mark.parametrize(("status", "headers", "body"), MADE)
def test_a_made_response_is_sent_as_flask_sends_it(
    status: int, headers: Mapping[str, str], body: bytes, method: str
) -> None:
    """Also after headers were added, and with something to be called at its end, which is called once."""
    theirs, closed = Response(body or None, status, headers), list[int]()
    if "Content-Type" not in headers:
        del theirs.headers["Content-Type"]
    for closes in (False, True):
        ours = Made(status, headers, body)
        for response in (ours, theirs):
            response.headers.add("Warning", '299 - "a"')
        if closes:
            ours.call_on_close(lambda: closed.append(1))
        assert sent(ours, method) == sent(theirs, method)
        assert ours.get_data() == body
        theirs.headers.remove("Warning")
    ours.close()
    assert closed == [1]
