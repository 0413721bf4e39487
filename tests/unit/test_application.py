"""Routes: what ``Application`` finds by one expression is what Flask would find."""

from collections.abc import Iterator

import pytest
from flask import Flask
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException
from werkzeug.test import create_environ

from dualreg.settings import Settings
from dualreg.web.app import create_app
from dualreg.web.application import Application
from dualreg.web.context import close

_PIECES = (
    "", "v2", "a", "library", "blobs", "uploads", "manifests", "tags", "list", "latest", "_catalog",
    "referrers", "sha256:00ff", "sha512:0", "tarsum+sha256:0", "6b3c-9d", "A_b.c", "é", "a%2Fb", "a b", "..",
)  # fmt: skip
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_HOSTS = ("registry:5000", "10.0.0.1", "[::1]:5000", "", "a..b", "a" * 64, "a_b", ":5000")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """An application with all routes."""
    data = tmp_path_factory.mktemp("data")
    app = create_app(Settings.model_validate({"data": data, "auth": "accounts"}))
    yield app
    close(app)


@given(
    st.lists(st.sampled_from(_PIECES), max_size=8).map(lambda pieces: "/v2/" + "/".join(pieces)),
    st.sampled_from(_METHODS),
    st.sampled_from(_HOSTS),
)
@example("/v2/a/blobs/uploads/", "POST", "h")
@example("/v2/a/blobs/uploads/manifests/x", "PUT", "h")
@example("/v2/a/blobs/uploads/blobs/sha256:0", "GET", "h")
@example("/v2/a/blobs/sha256:0", "OPTIONS", "h")
def test_routes_are_those_of_flask(app: Application, path: str, method: str, host: str) -> None:
    """A request is taken by the route that Flask would choose, with the same values, or refused alike."""
    asked = {"PATH_INFO": path.encode().decode("latin-1"), "HTTP_HOST": host}
    environ = create_environ(method=method) | asked
    with app.request_context(environ) as context:
        request = context.request
        found = request.url_rule, request.view_args, type(request.routing_exception)
    assert found == _found_by_flask(app, environ)


def _found_by_flask(app: Application, environ: dict[str, object]) -> tuple[object, object, type]:
    try:
        adapter = Flask.create_url_adapter(app, app.request_class(environ))
        assert adapter
        return *adapter.match(return_rule=True), type(None)
    except HTTPException as error:
        return None, None, type(error)


def test_pushes_need_no_search_for_their_routes(app: Application) -> None:
    """The requests of a push and of a pull are among those that one expression finds."""
    digest = f"sha256:{'0' * 64}"
    for method, path in (
        ("HEAD", f"blobs/{digest}"),
        ("POST", "blobs/uploads/"),
        ("PATCH", "blobs/uploads/6b3c-9d"),
        ("PUT", "blobs/uploads/6b3c-9d"),
        ("PUT", "manifests/v1.0"),
        ("GET", f"manifests/{digest}"),
        ("GET", f"blobs/{digest}"),
    ):
        environ = create_environ(f"/v2/library/alpine/{path}", "http://registry:5000", method=method)
        assert app.create_url_adapter(app.request_class(environ)) is None, (method, path)
