"""A state machine of two processes over one registry: each repeats only what Flask would answer now."""

from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from werkzeug.test import create_environ

from dualreg.assembly import build_registry
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.catalog.database import Catalog
from dualreg.errors import RegistryError
from dualreg.image.names import RepositoryName, Tag
from dualreg.settings import Settings
from dualreg.storage.memory import MemoryStore
from dualreg.web.app import create_app
from dualreg.web.lane import Lane
from tests import quick
from tests.apps import answer_at_once, answer_of
from tests.auth.conftest import PASSWORD, basic, bearer
from tests.builders import image, layer, v1_chain, zstd_image
from tests.contracts.postgresql import migrated_postgresql
from tests.databases import database_in
from tests.properties.registries import push_v1, push_v2
from tests.protocol.clients.v2 import DOCKER, DOCKER_1_10
from tests.soak import short_or_long

NAMES = [RepositoryName("team/a"), RepositoryName("b")]
IMAGES = [image(layer({"f": b"1"})), image(layer({"f": b"2"}), oci=True), zstd_image(layer({"f": b"3"}))]
CHAIN = v1_chain(layer({"v": b"1"}))
TAGS = [Tag("one"), Tag("two")]
PATHS = [
    "/v2/",
    "/v2/_catalog",
    "/v2/_catalog?n=1",
    *(f"/v2/{name}/tags/list" for name in NAMES),
    *(f"/v2/{name}/manifests/{tag}" for name in NAMES for tag in TAGS),
    *(f"/v2/{name}/manifests/{each.digest}" for name in NAMES for each in IMAGES),
    *(f"/v2/{name}/blobs/{digest}" for name in NAMES for each in IMAGES for digest in each.blobs),
]
#: Clients of which each reads something else, and two that say the same in Accept.
CLIENTS = [
    {},
    {"User-Agent": "docker/1.9.1"},
    {"Accept": ", ".join(DOCKER_1_10), "User-Agent": "docker/1.10.3"},
    {"Accept": ", ".join(DOCKER), "User-Agent": "docker/20.10.24"},
    {"Accept": ", ".join(DOCKER), "User-Agent": "docker/28.0.0"},
]
ADDRESS = {"REMOTE_ADDR": "127.0.0.1"}
PROCESS, NAME = st.integers(0, 1), st.sampled_from(NAMES)


class Processes(RuleBasedStateMachine):
    """Two applications, each with connections of its own to one catalog, and one store."""

    postgresql: ClassVar[bool] = False

    def __init__(self) -> None:
        """Begin with an account that may pull from one repository."""
        super().__init__()
        self.stack = ExitStack()
        folder = Path(self.stack.enter_context(TemporaryDirectory(dir=quick.memory_folder())))
        chosen = Settings(data=folder, auth="accounts", audit="off")
        url = self.stack.enter_context(migrated_postgresql()) if self.postgresql else database_in(folder)
        store, self.apps = MemoryStore(), list[Flask]()
        for _ in range(2):
            catalog = self.stack.enter_context(closing(Catalog(url)))
            self.accounts = Accounts(catalog, Passwords(rounds=4))
            self.registry = build_registry(catalog, store)
            self.apps.append(create_app(chosen, self.registry))
        self.accounts.add("alice", PASSWORD)
        self.accounts.grant("alice", "team/*", "pull")
        self.credentials: list[dict[str, str]] = [{}, basic("alice")]

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.stack.close()

    @rule(name=NAME, tag=st.sampled_from(TAGS), pushed=st.sampled_from(IMAGES))
    def push(self, name: RepositoryName, tag: Tag, pushed: Any) -> None:
        """Push an image; the tag may move."""
        push_v2(self.registry, name, tag, pushed)

    @rule(name=NAME)
    def push_over_v1(self, name: RepositoryName) -> None:
        """Push an image over V1, unless it is there."""
        self._try(lambda: push_v1(self.registry, name, TAGS[0], CHAIN))

    @rule(name=NAME, tag=st.sampled_from(TAGS))
    def delete_tag(self, name: RepositoryName, tag: Tag) -> None:
        """Delete a tag, if it is there."""
        self._try(lambda: self.registry.tags.delete(name, tag))

    @rule(name=NAME, pushed=st.sampled_from(IMAGES))
    def delete_manifest(self, name: RepositoryName, pushed: Any) -> None:
        """Delete a manifest, if it is there."""
        self._try(lambda: self.registry.manifests.delete(name, pushed.digest))

    @rule(pushed=st.sampled_from(IMAGES))
    def lose(self, pushed: Any) -> None:
        """Lose the bytes of a manifest, which no row says."""
        self.registry.state.store.delete(pushed.digest)

    @rule(pattern=st.sampled_from(["team/*", "b"]))
    def grant(self, pattern: str) -> None:
        """Let the account pull more."""
        self.accounts.grant("alice", pattern, "pull")

    @rule(pattern=st.sampled_from(["team/*", "b"]))
    def revoke(self, pattern: str) -> None:
        """Take a permission back, if it has it."""
        self._try(lambda: self.accounts.ungrant("alice", pattern, None))

    @rule(
        scope=st.sampled_from([*(f"repository:{name}:pull" for name in NAMES), "registry:catalog:*"]),
        process=PROCESS,
    )
    def get_token(self, scope: str, process: int) -> None:
        """Get a token for what is allowed now; it stays valid."""
        query = {"scope": scope}
        client = self.apps[process].test_client(use_cookies=False)
        answer = client.get("/token", query_string=query, headers=basic("alice"))
        self.credentials = [*self.credentials[:2], bearer(answer.json["token"])]

    @rule(
        path=st.sampled_from(PATHS),
        process=PROCESS,
        method=st.sampled_from(["GET", "HEAD"]),
        client=st.sampled_from(CLIENTS),
    )
    def read(self, path: str, process: int, method: str, client: dict[str, str]) -> None:
        """Read with every credential, twice: the lane answers what Flask does."""
        lane = self.apps[process].wsgi_app
        assert isinstance(lane, Lane)
        for headers in self.credentials:
            asked = create_environ(path, method=method, headers=headers | client, environ_base=ADDRESS)
            at_once = answer_at_once(lane, {**asked})
            answers = [answer_of(each, {**asked}) for each in (lane, lane, lane.application)]
            assert answers[0] == answers[1] == answers[2]
            assert at_once in (None, answers[0])

    def _try(self, act: Any) -> None:
        try:
            act()
        except (RegistryError, ValueError):
            return


class ProcessesOverPostgresql(Processes):
    """The same, over one PostgreSQL."""

    postgresql = True


@pytest.mark.slow
@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(Processes, marks=pytest.mark.sqlite),
        pytest.param(ProcessesOverPostgresql, marks=pytest.mark.postgres),
    ],
)
def test_what_is_repeated_is_what_flask_answers(machine: type[Processes]) -> None:
    """Whatever was pushed, deleted, lost, granted or revoked, by either process."""
    chosen = settings(
        max_examples=short_or_long(5, 500),
        stateful_step_count=short_or_long(20, 60),
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
    run_state_machine_as_test(machine, settings=chosen)
