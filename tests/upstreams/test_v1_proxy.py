"""Content of a registry of the V1 API: one of ours, whose V2 API nothing asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dualreg.acting import Api
from dualreg.image.names import RepositoryName, Tag
from tests.migrate import stock_trees
from tests.migrate.commands import command
from tests.migrate.fronts import Front, front
from tests.migrate.trees import Tree
from tests.programs import dualreg_server
from tests.upstreams.world import Here, There, errors_of, here

NAME = RepositoryName("old/team/app")


class Old:
    """A V1 registry, and the tree that its images come from."""

    def __init__(self, folder: Path) -> None:
        """Make two images, one on the other, and a tag."""
        self.data, self.tree = folder / "data", Tree(folder / "tree")
        self.base = self.tree.image("base", stock_trees.LAYERS["a"])
        self.top = self.tree.image("top", stock_trees.LAYERS["b"], parent=self.base)
        self.tree.tag("team/app", "1", self.top)
        command(self.data, f"run v1-tree:{self.tree.root}")
        self.host = ""

    def tag(self, tag: str, image: str) -> None:
        """Point a tag at an image, there."""
        path = f"/v1/repositories/team/app/tags/{tag}"
        There(self.host).send("PUT", path, f'"{image}"'.encode(), "application/json")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Old:
    """The registry, which is not served yet."""
    return Old(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def host(old: Old) -> Iterator[str]:
    """Where it is served."""
    with dualreg_server(old.data) as old.host:
        yield old.host


@pytest.fixture
def between(host: str) -> Iterator[Front]:
    """A proxy before it."""
    with front(host) as proxied:
        yield proxied


@pytest.fixture
def new(between: Front, tmp_path: Path) -> Iterator[Here]:
    """A registry that serves it as ``old/*``."""
    with here(tmp_path / "data", between.url, "old/*", api="v1", check_interval="0s") as opened:
        yield opened


@pytest.mark.slow
def test_clients_of_both_generations_pull(new: Here, between: Front, old: Old) -> None:
    """Over V1, images have their IDs; over V2, they are a manifest. Each layer is transferred once."""
    assert new.get(f"{NAME}/tags/list").get_json()["tags"] == ["1"]
    assert new.client.get(f"/v1/repositories/{NAME}/tags").get_json() == {"1": old.top}
    session = {"Authorization": f'Token signature=0,repository="{NAME}",access=read'}
    ancestry = new.client.get(f"/v1/images/{old.top}/ancestry", headers=session)
    assert ancestry.get_json() == [old.top, old.base]
    manifest = new.get(f"{NAME}/manifests/1").get_json(force=True)
    layers = [new.get(f"{NAME}/blobs/{each['digest']}").data for each in manifest["layers"]]
    assert layers == [stock_trees.LAYERS["a"], stock_trees.LAYERS["b"]]
    assert sum(path.endswith("/layer") for _, path in between.seen) == 2
    assert not any(path.startswith("/v2/") for _, path in between.seen)
    assert errors_of(new.client.post(f"/v2/{NAME}/blobs/uploads/"))[0] == 405
    assert new.get(f"{NAME}/manifests/2").status_code == 404
    assert new.get("old/none/manifests/1").status_code == 404


@pytest.mark.slow
def test_tags_follow_and_outlive_failures(new: Here, between: Front, old: Old) -> None:
    """A tag that moves there moves here; while the registry is down, it stays as it was."""
    old.tag("moving", old.base)
    assert new.client.get(f"/v1/repositories/{NAME}/tags/moving").get_json() == old.base
    before = new.get(f"{NAME}/manifests/moving").headers["Docker-Content-Digest"]
    old.tag("moving", old.top)
    after = new.get(f"{NAME}/manifests/moving").headers["Docker-Content-Digest"]
    assert after != before
    assert new.client.get(f"/v1/repositories/{NAME}/tags").get_json()["moving"] == old.top
    moves = new.registry.history.page(NAME, Tag("moving"), limit=9).rows
    assert [str(each.new) for each in moves] == [after, before]
    assert {(each.api, each.actor) for each in moves} == {(Api.UPSTREAM, between.url)}
    between.answer = lambda _path, _said: 0
    stale = new.get(f"{NAME}/manifests/moving")
    assert stale.headers["Docker-Content-Digest"] == after
    assert stale.headers["Warning"].startswith('110 - "Response is Stale: ')
    assert errors_of(new.get("old/team/other/manifests/1"))[0] == 503
