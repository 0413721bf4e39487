"""V1: an image that a client has pushed to one repository is not sent again to another."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from werkzeug.test import TestResponse

from dualreg.auth.audit import Audit
from dualreg.errors import AuditUnavailable, BlobDamaged, ReadOnly
from dualreg.image.names import RepositoryName, Tag
from dualreg.patterns import EVERYWHERE
from dualreg.registry import Registry, v1_mounts
from dualreg.registry.state import STEP, Arriving
from dualreg.registry.v1_holds import HOLD
from dualreg.registry.v1_mounts import V1Mounts
from dualreg.registry.writes import Writes
from tests import builders
from tests.auth.conftest import Guarded, basic, bearer
from tests.builders import V1Pushed
from tests.conftest import Clock
from tests.properties.registries import push_v1, push_v2
from tests.protocol.exchange import put_v1

CHAIN = builders.v1_chain(*(builders.layer({f"{number}": b"x" * 100}) for number in range(3)))
BASE, _, TOP = (image.id for image in CHAIN)
NEW, OLD = RepositoryName("mine/new"), RepositoryName("mine/old")


@pytest.fixture
def alice(guarded: Guarded) -> dict[str, str]:
    """The credentials of an account that may pull from mine/* and push to it."""
    return guarded.account("alice", ("mine/*", "pull,push"))


def session_of(begun: TestResponse) -> dict[str, str]:
    """Return the credentials of the session that a response begins."""
    return {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}


def probes(guarded: Guarded, headers: dict[str, str], chain: Sequence[V1Pushed] = CHAIN) -> list[int]:
    """Ask for every image, the base first, as a push to NEW does; return the statuses."""
    return ask(
        guarded, session_of(guarded.client.put(f"/v1/repositories/{NEW}/", headers=headers, json=[])), chain
    )


def ask(guarded: Guarded, session: dict[str, str], chain: Sequence[V1Pushed] = CHAIN) -> list[int]:
    """Ask for every image in a session; return the statuses."""
    paths = (f"/v1/images/{image.id}/json" for image in chain)
    return [guarded.client.get(path, headers=session).status_code for path in paths]


def images(registry: Registry) -> list[str]:
    """Return the IDs of the complete images of NEW, which may not exist."""
    with registry.state.catalog.read() as tx:
        return [*tx.v1_images.list(NEW)]


@pytest.mark.parametrize("order", [1, -1], ids=["base first", "top first"])
def test_an_image_of_another_repository(guarded: Guarded, alice: dict[str, str], order: int) -> None:
    """It is taken over with its JSON and layer, and stays when the other repository goes."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    assert probes(guarded, alice, CHAIN[::order]) == [200, 200, 200]
    tags = f"/v1/repositories/{NEW}/tags"
    assert guarded.client.put(f"{tags}/latest", headers=alice, data=json.dumps(TOP)).status_code == 200
    guarded.registry.repositories.delete(OLD)
    for image in CHAIN:
        assert guarded.client.get(f"/v1/images/{image.id}/json", headers=alice).data == image.json
        assert guarded.client.get(f"/v1/images/{image.id}/layer", headers=alice).data == image.layer
    ancestry = guarded.client.get(f"/v1/images/{TOP}/ancestry", headers=alice).json
    assert ancestry == [image.id for image in reversed(CHAIN)]


def test_an_image_that_v2_pushed(guarded: Guarded, alice: dict[str, str]) -> None:
    """A client that pulled it over V1 does not send it again."""
    push_v2(guarded.registry, OLD, Tag("latest"), builders.image(*(image.layer for image in CHAIN)))
    top = guarded.registry.bridge.resolve(OLD, Tag("latest"))
    chain = [V1Pushed(row.id, b"", b"") for row in guarded.registry.v1_images.ancestry(OLD, top)]
    assert probes(guarded, alice, chain[::-1]) == [200, 200, 200]
    assert [row.id for row in guarded.registry.v1_images.ancestry(NEW, top)] == [row.id for row in chain]


@pytest.mark.parametrize(
    "actions", ["", "pull", "push"], ids=["may do nothing", "may only pull", "may only push"]
)
def test_an_image_of_others(guarded: Guarded, alice: dict[str, str], actions: str) -> None:
    """An ID proves nothing: what others have under it could be anything, and is as if it did not exist."""
    if actions:
        guarded.accounts.grant("alice", "others/*", actions)
    push_v1(guarded.registry, RepositoryName("others/x"), Tag("latest"), CHAIN)
    assert probes(guarded, alice) == [404, 404, 404]
    assert images(guarded.registry) == []


def test_permissions_count_when_the_image_is_asked_for(guarded: Guarded, alice: dict[str, str]) -> None:
    """A session lasts for hours; an account that loses a permission meanwhile takes nothing over."""
    push_v1(guarded.registry, RepositoryName("team/x"), Tag("latest"), CHAIN)
    guarded.accounts.grant("alice", "team/*", "pull,push")
    session = session_of(guarded.client.put(f"/v1/repositories/{NEW}/", headers=alice, json=[]))
    assert ask(guarded, session, CHAIN[:1]) == [200]
    guarded.accounts.ungrant("alice", "team/*", None)
    assert ask(guarded, session) == [200, 404, 404]


def test_a_pull_takes_nothing_over(guarded: Guarded, alice: dict[str, str]) -> None:
    """It asks for images as a push does."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    push_v1(guarded.registry, NEW, Tag("latest"), CHAIN[:1])
    begun = guarded.client.get(f"/v1/repositories/{NEW}/images", headers=alice)
    assert ask(guarded, session_of(begun)) == [200, 404, 404]
    assert images(guarded.registry) == [BASE]


def lose_a_layer(registry: Registry) -> None:
    """Lose the bytes of the layer of the base."""
    row = registry.v1_images.get(OLD, BASE)
    assert row.layer
    registry.state.store.delete(row.layer)


@pytest.mark.parametrize(
    ("lose", "statuses"),
    [
        (lose_a_layer, [404, 404, 404]),
        (
            lambda registry: registry.state.store.delete(registry.v1_images.get(OLD, TOP).json),
            [200, 200, 404],
        ),
    ],
    ids=["layer of the base", "JSON of the top"],
)
def test_an_image_that_is_lost(
    guarded: Guarded, alice: dict[str, str], lose: Callable[[Registry], None], statuses: Sequence[int]
) -> None:
    """The client sends it, and what builds on it."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    lose(guarded.registry)
    assert probes(guarded, alice) == statuses


@pytest.mark.slow
def test_an_image_that_is_not_complete(guarded: Guarded, alice: dict[str, str]) -> None:
    """The push that began it may never end."""
    guarded.registry.v1_images.begin(OLD, BASE, CHAIN[0].json)
    guarded.registry.v1_images.put_layer(OLD, BASE, [CHAIN[0].layer])
    assert probes(guarded, alice, CHAIN[:1]) == [404]


@pytest.mark.parametrize("as_password", [False, True], ids=["as a bearer", "as a password"])
def test_a_token_reaches_what_it_names(guarded: Guarded, alice: dict[str, str], *, as_password: bool) -> None:
    """A session that began with a token for one repository takes nothing over from others."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    token = guarded.token(f"repository:{NEW}:pull,push", headers=alice)
    assert probes(guarded, basic("alice", token) if as_password else bearer(token)) == [404, 404, 404]


@pytest.mark.parametrize("limits", ["", f"repository:{NEW}:pull,push"])
def test_an_api_key_reaches_no_further(guarded: Guarded, alice: dict[str, str], limits: str) -> None:
    """It can be revoked, which a session does not notice."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    key = guarded.accounts.add_key("alice", limits=limits, note="", lifetime=None)
    assert alice
    assert probes(guarded, basic("alice", key.text)) == [404, 404, 404]


def test_an_account_that_is_removed(guarded: Guarded, alice: dict[str, str]) -> None:
    """Its sessions end later, and take nothing over until then, though all accounts may push there."""
    guarded.accounts.grant("authenticated", "mine/*", "pull,push")
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    session = session_of(guarded.client.put(f"/v1/repositories/{NEW}/", headers=alice, json=[]))
    assert guarded.authority._endings
    guarded.authority._endings._since()  # is remembered for half a minute
    guarded.accounts.remove("alice")
    assert ask(guarded, session) == [404, 404, 404]


@pytest.mark.slow
def test_a_mount_is_in_the_audit_log(guarded: Guarded, alice: dict[str, str]) -> None:
    """As a push, once."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    session = session_of(guarded.client.put(f"/v1/repositories/{NEW}/", headers=alice, json=[]))
    with patch.object(Audit, "write") as write:
        assert ask(guarded, session, [CHAIN[0], CHAIN[0]]) == [200, 200]
    (line,) = write.call_args_list
    assert (line.args[1], line.kwargs["action"], line.kwargs["repository"]) == ("write", "push", NEW)
    assert line.kwargs["account"] == "alice"
    with patch.object(Audit, "ready", side_effect=AuditUnavailable("full")):
        assert ask(guarded, session) == [200, 404, 404]


@pytest.mark.parametrize(("begun", "statuses"), [(0, [400, 404, 404]), (1, [200, 400, 404])])
def test_an_image_that_another_client_pushes(
    guarded: Guarded, clock: Clock, alice: dict[str, str], begun: int, statuses: Sequence[int]
) -> None:
    """It is that client's, and so is what builds on it; when it is left alone, it is taken over."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    alone = replace(CHAIN[begun], json=json.dumps({"id": CHAIN[begun].id}).encode())
    guarded.registry.v1_images.begin(NEW, alone.id, alone.json)
    assert probes(guarded, alice) == statuses
    clock.advance(HOLD)
    assert probes(guarded, alice) == [200, 200, 200]


def test_ancestors_in_a_circle(guarded: Guarded, clock: Clock, alice: dict[str, str]) -> None:
    """An image is not taken over onto one that has it as an ancestor."""
    base, middle, top = CHAIN
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    begun = guarded.client.put(f"/v1/repositories/{NEW}/", headers=alice, json=[])
    guarded.registry.v1_images.begin(NEW, top.id, json.dumps({"id": top.id}).encode())
    on_top = replace(base, json=json.dumps({"id": base.id, "parent": top.id}).encode())
    for image in (on_top, middle):
        put_v1(guarded.client, image, session_of(begun))
    clock.advance(HOLD)
    assert probes(guarded, alice, [top]) == [400]


def test_a_chain_that_would_be_too_long(
    guarded: Guarded, alice: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its base would be cut off."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    monkeypatch.setattr(v1_mounts, "CHAIN_LIMIT", 2)
    assert probes(guarded, alice) == [200, 200, 404]


def test_another_image_under_the_id_of_the_parent(guarded: Guarded, alice: dict[str, str]) -> None:
    """What builds on it in the other repository does not belong to this one."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    push_v1(guarded.registry, NEW, Tag("x"), [replace(CHAIN[0], layer=builders.layer({"other": b"1"}))])
    assert probes(guarded, alice) == [200, 404, 404]


@pytest.mark.slow
def test_a_long_chain(guarded: Guarded, alice: dict[str, str]) -> None:
    """It is taken over in steps."""
    chain = builders.v1_chain(*[CHAIN[0].layer] * (2 * STEP + 1), seed="long")
    push_v1(guarded.registry, OLD, Tag("latest"), chain)
    assert probes(guarded, alice, chain[::-1]) == [200] * len(chain)


def test_a_repository_that_has_lost_it_is_not_the_only_one(guarded: Guarded, alice: dict[str, str]) -> None:
    """The image comes from another one."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    lose_a_layer(guarded.registry)
    other = [
        replace(image, layer=builders.layer({f"{n}": b"x" * 100}) + b"") for n, image in enumerate(CHAIN)
    ]
    push_v1(guarded.registry, RepositoryName("mine/z"), Tag("latest"), other)
    assert probes(guarded, alice) == [200, 200, 200]


def test_an_image_that_goes_meanwhile(guarded: Guarded, alice: dict[str, str]) -> None:
    """The client sends it, and nothing of it is recorded."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    with patch.object(Arriving, "record", side_effect=BlobDamaged("gone")):
        assert probes(guarded, alice) == [404, 404, 404]
    assert images(guarded.registry) == []


def test_two_requests_for_one_chain(guarded: Guarded) -> None:
    """What another request has taken over meanwhile is not taken over again."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    take = V1Mounts._take

    def late(self: V1Mounts, *given: Any) -> None:
        with patch.object(V1Mounts, "_take", take):
            assert self.mount(NEW, CHAIN[1].id, EVERYWHERE)
        take(self, *given)

    with patch.object(V1Mounts, "_take", late):
        assert guarded.registry.v1_mounts.mount(NEW, TOP, EVERYWHERE)
    assert images(guarded.registry) == sorted(image.id for image in CHAIN)


def test_nothing_is_taken_over_while_writes_are_refused(guarded: Guarded, alice: dict[str, str]) -> None:
    """The push gets to hear why when it sends the image."""
    push_v1(guarded.registry, OLD, Tag("latest"), CHAIN)
    with patch.object(Writes, "require", side_effect=ReadOnly(reason="moving")):
        assert probes(guarded, alice) == [404, 404, 404]
