"""Immutable tags: pushed once, over either API, and then neither moved nor deleted.

The table follows the rules of quay#1927 as far as they are about what clients do.
"""

import json
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dualreg.image import media_types
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from tests import builders
from tests.apps import client_of
from tests.protocol.exchange import (
    REPOSITORY,
    TOKEN,
    World,
    lone,
    make_world,
    push_image,
    put_v1,
    v1_text,
    v2_codes,
)
from tests.state import snapshot

RULE = f"{REPOSITORY}:*"
NEW = builders.image(builders.layer({"new": b"n"}))
NEW_V1 = lone("new", builders.layer({"new": b"v1"}))
OTHER = "team/other"


@pytest.fixture
def world(client: FlaskClient, registry: Registry) -> World:
    """A repository with a little of everything, all of whose tags are immutable, and one beside it."""
    world = make_world(client)
    push_image(client, REPOSITORY, NEW, str(NEW.digest))
    push_image(client, OTHER, NEW, "one")
    put_v1(client, NEW_V1, TOKEN)
    assert registry.immutability.add(RULE)
    return world


def put(world: World, path: str, body: bytes, media_type: str) -> TestResponse:
    """Push a manifest."""
    return world.client.put(world.fill(path), data=body, content_type=media_type)


def put_new(path: str) -> Callable[[World], TestResponse]:
    """Return the push of an image that no tag points at."""
    return lambda world: put(world, path, NEW.manifest, NEW.media_type)


def put_old(path: str) -> Callable[[World], TestResponse]:
    """Return the push of the image that is tagged ``one`` and ``two``."""
    return lambda world: put(world, path, world.image.manifest, world.image.media_type)


def delete(path: str) -> Callable[[World], TestResponse]:
    """Return a deletion, over either API."""
    return lambda world: world.client.delete(world.fill(path), headers=TOKEN)


def put_tag(path: str, image: str) -> Callable[[World], TestResponse]:
    """Return the V1 request that points a tag at an image."""
    return lambda world: world.client.put(world.fill(path), json=world.fill(image), headers=TOKEN)


def end_push(tag: str) -> Callable[[World], TestResponse]:
    """Return the last request of Docker 0.6.0, which names the tags of images that the registry has."""
    listed = [{"id": NEW_V1.id, "Tag": tag}]
    return lambda world: world.client.put(world.fill("{v1}/images"), json=listed, headers=TOKEN)


REFUSED: dict[str, tuple[Callable[[World], TestResponse], str]] = {
    "a push of another image": (put_new("{repo}/manifests/one"), "one"),
    "a push of an index": (
        lambda world: put(world, "{repo}/manifests/one", world.index, media_types.OCI_INDEX),
        "one",
    ),
    "one of several tags": (put_new(f"{{repo}}/manifests/{NEW.digest}?tag=free&tag=two&tag=three"), "two"),
    "a delete of the tag": (delete("{repo}/manifests/one"), "one"),
    "a delete of its manifest": (delete("{repo}/manifests/{index}"), "index"),
    "a delete of the repository": (delete("{repo}/_dualreg/repository"), "index"),
    "a forced delete by no word": (delete("{repo}/_dualreg/repository?force=1"), "index"),
    "a V1 push of another image": (put_tag("{v1}/tags/v1", NEW_V1.id), "v1"),
    "a V1 push over a V2 tag": (put_tag("{v1}/tags/one", "{top}"), "one"),
    "a V1 tag of another image of the chain": (put_tag("{v1}/tags/v1", "{base}"), "v1"),
    "the end of a push of Docker 0.6.0": (end_push("v1"), "v1"),
    "a V1 delete of the tag": (delete("{v1}/tags/v1"), "v1"),
    "a V1 delete of all tags": (delete("{v1}/tags"), "index"),
    "a V1 delete of the repository": (delete("{v1}/"), "index"),
}


#: These point a tag at a V1 image of which there was no manifest.
MADE_BEFORE = (
    "a V1 push of another image",
    "a V1 tag of another image of the chain",
    "the end of a push of Docker 0.6.0",
)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(world: World, registry: Registry, name: str) -> None:
    """The answer names tag and rule in the client's dialect, and nothing has changed.

    A V1 image that was pushed before it is tagged stays, with its manifest.
    """
    request, tag = REFUSED[name]
    before = registry.tags.describe(RepositoryName(REPOSITORY), limit=10), snapshot(registry)
    answer = request(world)
    assert answer.status_code == 403
    if answer.request.path.startswith("/v2/"):
        assert v2_codes(answer) == ["DENIED"]
        text = json.loads(answer.data)["errors"][0]["message"]
    else:
        text = v1_text(answer)
    assert f"{REPOSITORY}:{tag} cannot be moved or deleted (rule {RULE})" in text
    after = registry.tags.describe(RepositoryName(REPOSITORY), limit=10), snapshot(registry)
    assert after[0] == before[0]
    assert after[1] == before[1] or name in MADE_BEFORE


def test_a_child_of_an_immutable_index(world: World) -> None:
    """It has no tag of its own that is immutable, and stays as what the index names."""
    registry_client = world.client
    answer = registry_client.delete(world.fill("{repo}/manifests/{image}"))
    assert answer.status_code in (403, 405)
    assert v2_codes(answer) == ["DENIED"]


ALLOWED: dict[str, tuple[Callable[[World], TestResponse], int]] = {
    "the same image again": (put_old("{repo}/manifests/one"), 201),
    "the same image by its digest, and a new tag": (
        lambda world: put_old(f"{{repo}}/manifests/{world.image.digest}?tag=one&tag=new")(world),
        201,
    ),
    "a tag that is new": (put_new("{repo}/manifests/new"), 201),
    "the same V1 image again": (put_tag("{v1}/tags/v1", "{top}"), 200),
    "a new tag of an image that has an immutable one": (put_tag("{v1}/tags/new", "{top}"), 200),
    "another repository": (
        lambda world: put(world, f"/v2/{OTHER}/manifests/one", world.image.manifest, world.image.media_type),
        201,
    ),
    "a delete of an untagged manifest": (delete(f"{{repo}}/manifests/{NEW.digest}"), 202),
    "a delete in another repository": (delete(f"/v2/{OTHER}/manifests/one"), 202),
    "a forced delete of the repository": (delete("{repo}/_dualreg/repository?force=true"), 202),
    "a delete of a tag that does not exist": (delete("{repo}/manifests/absent"), 404),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed(world: World, name: str) -> None:
    """New tags, the same content again, and all that no rule is about."""
    request, status = ALLOWED[name]
    push_image(world.client, OTHER, world.image, str(world.image.digest))
    assert request(world).status_code == status


def test_a_tag_is_immutable_from_its_push_on(world: World) -> None:
    """The first push decides; once an operator removes the rule, it moves again."""
    assert put_new("{repo}/manifests/set")(world).status_code == 201
    assert put_old("{repo}/manifests/set")(world).status_code == 403


def test_an_operator_may_remove_the_rule(world: World, registry: Registry) -> None:
    """Other rules go on; without any, everything is as before."""
    registry.immutability.add("*:one")
    registry.immutability.remove(RULE)
    assert put_new("{repo}/manifests/two")(world).status_code == 201
    assert put_new("{repo}/manifests/one")(world).status_code == 403
    registry.immutability.remove("*:one")
    assert put_new("{repo}/manifests/one")(world).status_code == 201


def test_a_precondition_does_not_help(world: World) -> None:
    """A client that knows what the tag points at may not move it either."""
    path = world.fill("{repo}/manifests/one")
    headers = {"If-Match": f'"{world.image.digest}"'}
    moved = world.client.put(path, data=NEW.manifest, content_type=NEW.media_type, headers=headers)
    gone = world.client.delete(path, headers=headers)
    assert (moved.status_code, gone.status_code) == (403, 403)


@pytest.mark.slow
def test_another_process_obeys(world: World, registry: Registry) -> None:
    """One that has remembered the rules reads them again after a change, and only then."""
    other = client_of(type(registry).build(registry.state.without_links(), registry.rules))
    world = World(**(vars(world) | {"client": other}))
    assert put_new("{repo}/manifests/one")(world).status_code == 403
    registry.immutability.remove(RULE)
    assert put_new("{repo}/manifests/one")(world).status_code == 201


@pytest.mark.parametrize("pattern", ["team/app", "", "a:b:c", "team/?:v1", "Team/app:v1", "a b:*", "*" * 401])
def test_patterns_that_match_nothing(registry: Registry, pattern: str) -> None:
    """They are refused rather than kept."""
    with pytest.raises(ValueError, match="invalid pattern"):
        registry.immutability.add(pattern)
    assert registry.immutability.rules() == []


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [("*", True), ("team/*", True), ("team/app:v*", True), ("*:v1.0", True), ("team/app:V1.0", False)],
)
def test_what_a_pattern_matches(registry: Registry, pattern: str, *, rule: bool) -> None:
    """The same as everywhere: * matches anything, and tags are compared with their case."""
    registry.immutability.add(pattern)
    found = registry.immutability.rule_of(RepositoryName("team/app"), Tag("v1.0"))
    assert found == (pattern if rule else None)
