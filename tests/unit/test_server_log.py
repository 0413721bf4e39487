"""The access log: the same line whatever else gunicorn knows, and no secrets."""

import ssl
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace

import pytest
from gunicorn.config import Config

from dualreg.cli.server_log import ServerLog, is_replaced

ENVIRON = {
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/v2/a/manifests/b?token=s3cret",
    "PATH_INFO": "/v2/a/manifests/b",
    "QUERY_STRING": "token=s3cret",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "192.0.2.1",
    "HTTP_AUTHORIZATION": "Basic czNjcmV0OnMzY3JldA==",
    "HTTP_REFERER": "https://user:s3cret@elsewhere.example/",
    "HTTP_USER_AGENT": "docker/28\x1b[2J" + "x" * 400,
}


#: gunicorn's own format, and the seconds that the request took.
COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %(L)s'


@pytest.mark.parametrize("named", [COMBINED, COMBINED + " %(m)s %(U)s %({host}i)s %({etag}o)s %(D)s"])
def test_a_line_of_any_format(named: str) -> None:
    """Names of gunicorn's say what they say there, but never a query, an account, or a password."""
    cfg = Config()
    cfg.set("access_log_format", named)
    request = SimpleNamespace(
        headers=[("HOST", "registry\n"), ("AUTHORIZATION", "Basic czNjcmV0OnMzY3JldA==")]
    )
    response = SimpleNamespace(status="200 OK", headers=[("ETag", '"sha256:a"')], sent=7)
    log = ServerLog(cfg)
    atoms = log.atoms_wrapper_class(log.atoms(response, request, ENVIRON, timedelta(seconds=61.5)))
    line = named % atoms
    assert line.startswith("192.0.2.1 - - [")
    middle = (
        '"GET /v2/a/manifests/b HTTP/1.1" 200 7 "https://***@elsewhere.example/" "docker/28\\x1b[2J'
        + "x" * 287
    )
    assert middle + '" 61.500000' in line
    assert "s3cret" not in repr([line, atoms["q"], atoms["u"]])
    if named != COMBINED:
        assert line.endswith(' GET /v2/a/manifests/b registry\\n \\"sha256:a\\" 61500000')


@pytest.mark.parametrize(
    ("error", "is_sent", "expected"),
    [
        (KeyError(), False, True),
        (KeyError(), True, False),
        (ConnectionResetError(), False, False),
        (ssl.SSLError(ssl.SSL_ERROR_SSL, "bad record"), False, True),
        (ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "gone"), False, False),
    ],
)
def test_of_two_answers_one_is_logged(error: Exception, *, is_sent: bool, expected: bool) -> None:
    """That which the worker sends instead, if it sends one."""
    response = SimpleNamespace(headers_sent=is_sent)
    assert not is_replaced(response)
    found = []
    with suppress(type(error)):
        try:
            raise error
        finally:
            found.append(is_replaced(response))
    assert found == [expected]
