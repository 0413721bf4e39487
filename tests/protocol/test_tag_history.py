"""The history of tags over HTTP, as distribution-spec#606 proposes."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from dualreg.assembly import build_registry
from dualreg.image import media_types
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests.apps import client_of
from tests.builders import image, layer, v1_chain
from tests.conftest import Clock
from tests.protocol.exchange import push_v1
from tests.protocol.test_extensions import push

ONE, TWO = image(layer({"a": b"1"}), oci=True), image(layer({"a": b"2"}))
PATH = "/v2/t/x/_oci/tag-history/1"
EVENT = "org.opencontainers.distribution.tag."


@pytest.fixture
def pushed(client: FlaskClient, clock: Clock) -> FlaskClient:
    """A client, after a tag was created, moved, not moved, deleted, and created again; a second apart."""
    for each in (ONE, TWO, TWO, None, ONE):
        if each is None:
            assert client.delete("/v2/t/x/manifests/1").status_code == 202
        else:
            push(client, each, "t/x", "1", "other")
        clock.advance(timedelta(seconds=1))
    return client


def listed(client: FlaskClient, path: str) -> list[Any]:
    """Return the entries of a list, page by page."""
    found = []
    while path:
        answer = client.get(path)
        assert (answer.status_code, answer.content_type) == (200, media_types.OCI_INDEX)
        assert (answer.json["schemaVersion"], answer.json["mediaType"]) == (2, media_types.OCI_INDEX)
        found += answer.json["manifests"]
        path = answer.headers.get("Link", "").partition(">")[0].lstrip("<")
    return found


def seconds(entries: list[Any]) -> list[tuple[str, int, str]]:
    """Return event, second and image of each."""
    names = {str(ONE.digest): "one", str(TWO.digest): "two"}
    return [
        (
            each["annotations"][f"{EVENT}event"],
            int(each["annotations"][f"{EVENT}timestamp"][17:19]),
            names[each["digest"]],
        )
        for each in entries
    ]


ALL = [("created", 4, "one"), ("deleted", 3, "two"), ("created", 1, "two"), ("created", 0, "one")]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ALL),
        ("&before=2026-01-01T00:00:03Z", ALL[2:]),
        ("&before=2026-01-01T01:00:03.5+01:00", ALL[1:]),
        ("&since=2026-01-01T00:00:01Z", ALL[:2]),
        ("&since=2025-12-31T23:59:59.9Z&before=2026-01-01T00:00:02Z", ALL[2:]),
        (f"&digest={ONE.digest}", [ALL[0], ALL[3]]),
        (f"&digest={TWO.digest}&since=2026-01-01T00:00:01Z", [ALL[1]]),
        (f"&digest=sha256:{'0' * 64}", []),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_moves_are_listed(pushed: FlaskClient, query: str, size: int, expected: list[Any]) -> None:
    """Newest first, page by page, each exactly once; bounded by times, or of one digest."""
    assert seconds(listed(pushed, f"{PATH}?n={size}{query}")) == expected


def test_an_entry(pushed: FlaskClient) -> None:
    """It is the descriptor of the manifest, with what the proposal requires, and more."""
    deleted = listed(pushed, PATH)[1]
    assert deleted == {
        "mediaType": TWO.media_type,
        "digest": str(TWO.digest),
        "size": len(TWO.manifest),
        "annotations": {
            f"{EVENT}timestamp": "2026-01-01T00:00:03Z",
            f"{EVENT}event": "deleted",
            "io.dualreg.tag.api": "v2",
            "io.dualreg.tag.from": str(TWO.digest),
        },
    }


def test_no_history_is_an_empty_list(pushed: FlaskClient) -> None:
    """Of unknown tags and repositories, and if none is asked for; so clients see that there is the list."""
    for path in ("/v2/t/x/_oci/tag-history/absent", "/v2/absent/_oci/tag-history/1", f"{PATH}?n=0"):
        answer = pushed.get(path)
        assert (answer.status_code, answer.json["manifests"]) == (200, [])
        assert "Link" not in answer.headers


def test_the_history_outlives_its_repository(pushed: FlaskClient) -> None:
    """All of it, and the deletion."""
    assert pushed.delete("/v2/t/x/_dualreg/repository").status_code == 202
    assert seconds(listed(pushed, PATH)) == [("deleted", 5, "one"), *ALL]


@pytest.mark.parametrize("query", ["before=yesterday", "since=2026-01-01", "after=1-x", "n=-1", "after=1"])
def test_bad_pages(pushed: FlaskClient, query: str) -> None:
    """The parameter is named."""
    answer = pushed.get(f"{PATH}?{query}")
    assert (answer.status_code, answer.json["errors"][0]["code"]) == (400, "PAGINATION_NUMBER_INVALID")
    assert query.partition("=")[0] in answer.json["errors"][0]["message"]


def test_what_bridge_hides_is_no_history(registry: Registry, client: FlaskClient) -> None:
    """V2 clients that do not see tags of V1 clients do not see where these pointed."""
    push_v1(client, "t/x", v1_chain(layer({"a": b"3"})), "1")
    push(client, ONE, "t/x", "1")
    (moved, created) = listed(client, PATH)
    assert (created["annotations"]["io.dualreg.tag.api"], moved["digest"]) == ("v1", str(ONE.digest))
    state = registry.state
    apart = client_of(build_registry(state.catalog, state.store, Settings(bridge="off")))
    assert seconds(listed(apart, PATH)) == [("created", 0, "one")]
