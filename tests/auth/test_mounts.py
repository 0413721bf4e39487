"""Mounts from a repository that the token does not cover: asked for once, then an upload begins."""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from tests.auth.conftest import Guarded, basic, bearer
from tests.auth.test_forged_tokens import rs256, trusting

__all__ = ["trusting"]

DATA = b"of the source"
MOUNT = f"/v2/own/app/blobs/uploads/?mount={Digest.of(DATA)}&from=src/app"
TARGET, SOURCE = "repository:own/app:pull,push", "repository:src/app:pull"


def mount(own: Guarded, headers: Mapping[str, str]) -> tuple[int, str]:
    """Return the status of a mount, and the scope that the answer asks for."""
    own.registry.uploads.ingest(RepositoryName("src/app"), [DATA])
    answer = own.client.post(MOUNT, headers=headers)
    challenge = answer.headers.get("WWW-Authenticate", "")
    asked = re.search(r'scope="([^"]*)"', challenge)
    assert (answer.status_code == 401) is ('error="insufficient_scope"' in challenge)
    return answer.status_code, asked[1] if asked else ""


@pytest.mark.parametrize(("rule", "status"), [("src/*", 201), ("", 202)])
def test_a_token_for_the_target_is_asked_for_the_source_once(
    guard: Callable[..., Guarded], tmp_path: Path, rule: str, status: int
) -> None:
    """The challenge names both, and what comes back is final, be it that the source is not granted."""
    own = guard(audit=str(tmp_path / "audit"))
    alice = own.account("alice", ("own/*", "pull,push"), *([(rule, "pull")] if rule else []))
    refused, scope = mount(own, bearer(own.token(TARGET, headers=alice)))
    assert (refused, scope) == (401, f"{TARGET} {SOURCE}")
    for scopes in ([scope], [SOURCE, TARGET]):
        assert mount(own, bearer(own.token(*scopes, headers=alice))) == (status, "")
    assert '"denied"' not in (tmp_path / "audit").read_text()


@pytest.mark.slow
def test_credentials_that_cannot_cover_more_are_not_asked(guarded: Guarded) -> None:
    """A password, a token in its place, and a token that had no place for another scope."""
    alice = guarded.account("alice", ("own/*", "pull,push"))
    many = guarded.token(TARGET, *(f"repository:x{number}:pull" for number in range(100)), headers=alice)
    same = guarded.token(*[TARGET] * 100, SOURCE, headers=alice)
    target = guarded.token(TARGET, headers=alice)
    for headers in (alice, basic("alice", target), bearer(many), bearer(same)):
        assert mount(guarded, headers) == (202, "")


@pytest.mark.parametrize(
    ("age", "names", "status"),
    [(300, [], 401), (300, ["src/app"], 202), (0, [], 202), (50, [], 202), (None, [], 202)],
    ids=["old", "old, and names the source", "new", "by a clock that is slow", "of unknown age"],
)
def test_tokens_of_other_issuers_are_asked_when_they_are_old(
    trusting: Guarded, age: int | None, names: list[str], status: int
) -> None:
    """One that was just issued may be the answer to the challenge; so is one that names the source."""
    access: list[dict[str, Any]] = [{"type": "repository", "name": "own/app", "actions": ["pull", "push"]}]
    access += [{"type": "repository", "name": name, "actions": []} for name in names]
    token = rs256(access=access, iat=None if age is None else int(time.time()) - age)
    assert mount(trusting, bearer(token))[0] == status
