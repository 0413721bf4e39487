"""Rows: what clients and tools ask again and again, of the V2 API."""

import json
from collections.abc import Callable, Sequence

from dualreg.image.digest import Digest
from tests.benchmarks.images import REPOSITORY, accepting, catalogued, pushed, tagged
from tests.benchmarks.rows import Ask, Effort, Row, has, read
from tests.benchmarks.servers import Server, basic
from tests.benchmarks.wire import Answer
from tests.builders import Image


def rows(effort: Effort) -> Sequence[Row]:
    """Return the rows."""
    return (
        read("HEAD manifest by tag", _manifest("HEAD", lambda _: "latest"), effort),
        read("GET manifest by tag", _manifest("GET", lambda _: "latest"), effort),
        read("HEAD manifest by digest", _manifest("HEAD", lambda image: str(image.digest)), effort),
        read("GET manifest by digest", _manifest("GET", lambda image: str(image.digest)), effort),
        read("HEAD blob of 4 KiB", _blob("HEAD"), effort),
        read("GET blob of 4 KiB", _blob("GET"), effort),
        read("GET /v2/", _check, effort),
        read(f"GET tags/list of {effort.listed}", _tags(effort.listed), effort),
        read(f"GET _catalog of {effort.listed}", _catalog(effort.listed), effort),
        read("GET /token with a password", _token, effort, _issues_tokens),
    )


def _manifest(method: str, reference: Callable[[Image], str]) -> Callable[[Server], Ask]:
    def ask(server: Server) -> Ask:
        image = pushed(server)
        path = f"/v2/{REPOSITORY}/manifests/{reference(image)}"
        headers = accepting(image, server.login(REPOSITORY))
        return Ask(server.host, method, path, has(len(image.manifest)), headers)

    return ask


def _blob(method: str) -> Callable[[Server], Ask]:
    def ask(server: Server) -> Ask:
        layer = pushed(server).layers[0]
        path = f"/v2/{REPOSITORY}/blobs/{Digest.of(layer)}"
        return Ask(server.host, method, path, has(len(layer)), server.login(REPOSITORY))

    return ask


def _check(server: Server) -> Ask:
    return Ask(server.host, "GET", "/v2/", lambda _: True, server.login(REPOSITORY))


def _tags(number: int) -> Callable[[Server], Ask]:
    def ask(server: Server) -> Ask:
        repository = tagged(server, number)
        path = f"/v2/{repository}/tags/list"
        return Ask(server.host, "GET", path, _lists("tags", number), server.login(repository))

    return ask


def _catalog(number: int) -> Callable[[Server], Ask]:
    def ask(server: Server) -> Ask:
        catalogued(server, number)
        login = server.bearer("registry:catalog:*")
        return Ask(server.host, "GET", f"/v2/_catalog?n={number}", _lists("repositories", number), login)

    return ask


def _lists(key: str, number: int) -> Callable[[Answer], bool]:
    return lambda answer: len(json.loads(answer.body)[key]) == number


def _token(server: Server) -> Ask:
    path = f"/token?service=dualreg&scope=repository:{REPOSITORY}:pull"
    host = server.issuer.host if server.issuer else server.host
    return Ask(host, "GET", path, lambda answer: bool(json.loads(answer.body)["token"]), basic())


def _issues_tokens(server: Server) -> bool:
    return server.accounts or server.issuer is not None
