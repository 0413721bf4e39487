"""What it costs to know who asks: statements, and hashes of passwords."""

from collections.abc import Iterator
from typing import Any

import bcrypt
import pytest
from sqlalchemy import event

from dualreg.catalog.database import Catalog
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from tests import builders
from tests.auth.conftest import Guarded, bearer
from tests.properties.registries import push_v1, push_v2

pytestmark = pytest.mark.usefixtures("lasting_v1_switch")

IMAGE = builders.image(builders.layer({"a": b"1"}))
CHAIN = builders.v1_chain(builders.layer({"b": b"2"}))
NAME = RepositoryName("team/app")


@pytest.fixture
def statements(catalog: Catalog) -> Iterator[list[str]]:
    """Every statement that is executed, but for those that begin a transaction."""
    seen: list[str] = []

    def note(*event_: Any) -> None:
        if not event_[2].startswith(("BEGIN", "SELECT pg_current_snapshot")):  # has anything changed?
            seen.append(event_[2])

    event.listen(catalog.engine, "before_cursor_execute", note)
    yield seen
    event.remove(catalog.engine, "before_cursor_execute", note)


def test_tokens_carry_the_answer(guarded: Guarded, statements: list[str]) -> None:
    """A request with a token asks the database what one without accounts asks, in both dialects."""
    alice = guarded.account("alice", ("team/*", "pull,push"))
    push_v2(guarded.registry, NAME, Tag("one"), IMAGE)
    push_v1(guarded.registry, NAME, Tag("v1"), CHAIN)
    token = bearer(guarded.token(f"repository:{NAME}:pull,push", headers=alice))
    begun = guarded.client.get(f"/v1/repositories/{NAME}/images", headers=alice)
    session = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}
    requests = {
        "/v2/": (token, 0),
        f"/v2/{NAME}/manifests/one": (token, 1),
        f"/v2/{NAME}/blobs/{Digest.of(IMAGE.config)}": (token, 1),
        f"/v1/images/{CHAIN[0].id}/layer": (session, 1),
        f"/v1/images/{CHAIN[0].id}/ancestry": (session, 1),
    }
    for path, (headers, budget) in requests.items():
        guarded.client.get(path, headers=headers)  # the key that it is signed with is read once a minute
        push_v2(
            guarded.registry, NAME, Tag("other"), IMAGE
        )  # a commit: what was answered before is forgotten
        for expected in (budget, 0):
            statements.clear()
            assert guarded.client.get(path, headers=headers).status_code == 200
            assert len(statements) == expected, statements


def test_a_password_is_hashed_once(
    guarded: Guarded, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a client that sends Basic everywhere; four small questions remain, once after a commit."""
    alice = guarded.account("alice", ("team/*", "pull,push"))
    checked, check = [], bcrypt.checkpw
    monkeypatch.setattr(bcrypt, "checkpw", lambda *given: checked.append(given) or check(*given))
    numbers = []
    for _ in range(3):  # the first one notes where the account is known, the last one is repeated
        statements.clear()
        assert guarded.client.get("/v2/", headers=alice).status_code == 200
        numbers.append(len(statements))
    assert (len(checked), numbers[1:]) == (1, [4, 0])
