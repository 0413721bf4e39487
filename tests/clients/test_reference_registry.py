"""The reference registry, on the folder that dualreg served: every link that dualreg wrote is right."""

import hashlib
import http.client
import json
from contextlib import closing
from pathlib import Path

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from tests import builders
from tests.clients.stock import stock_registry
from tests.clients.tools import Failed, Tools, layout_manifest, verified
from tests.migrate import stock_trees
from tests.migrate.commands import command, export
from tests.programs import dualreg_server
from tests.protocol.clients.v1 import V1Client

pytestmark = pytest.mark.client


def delete(host: str, path: str) -> int:
    """Send a DELETE; return the status."""
    with closing(http.client.HTTPConnection(host, timeout=20)) as connection:
        connection.request("DELETE", path)
        return connection.getresponse().status


def listed(host: str, path: str) -> object:
    """Return a JSON document."""
    with closing(http.client.HTTPConnection(host, timeout=20)) as connection:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())


@pytest.mark.slow
def test_the_reference_registry_serves_the_same_folder(layout: Path, tmp_path: Path) -> None:
    """What V1 and V2 clients pushed to dualreg is served unchanged; what was deleted, is not."""
    data = tmp_path / "data"
    chain = builders.v1_chain(builders.layer({"a": b"1"}), builders.layer({"b": b"2"}))
    with dualreg_server(data) as host:
        pusher = Tools(tmp_path / "pusher", host)
        for tag in ("base", "app", "opaque"):
            pusher.push("--format=oci", f"oci:{layout}:{tag}", name=f"team/oci:{tag}")
            pusher.push("--format=v2s2", f"oci:{layout}:{tag}", name=f"team/v2s2:{tag}")
        pusher.push("--format=oci", f"oci:{layout}:app", name="team/oci:twice")
        pusher.push("--format=oci", f"oci:{layout}:base", name="gone:1")
        V1Client(host).push("team/old", "1", chain)
        before = {name: pusher.raw(name) for name in ("team/oci:app", "team/v2s2:app", "team/old:1")}

        assert delete(host, "/v2/team/oci/manifests/twice") == 202
        opaque = layout_manifest(layout, "opaque")[0]
        assert delete(host, f"/v2/team/oci/manifests/{opaque}") == 202
        assert delete(host, f"/v2/gone/manifests/{layout_manifest(layout, 'base')[0]}") == 202
        catalog = listed(host, "/v2/_catalog")
        tags = {name: listed(host, f"/v2/team/{name}/tags/list") for name in ("oci", "v2s2", "old")}

    with stock_registry(data, tmp_path, readonly=True) as other:
        assert {name: other.raw(name) for name in before} == before
        for name in ("oci:base", "oci:app", "v2s2:base", "v2s2:app", "v2s2:opaque", "old:1"):
            other.pull(f"team/{name}", f"dir:{tmp_path / name}")
            verified(tmp_path / name)
        assert verified(tmp_path / "oci:app") == layout_manifest(layout, "app")
        seen = {name: sorted_tags(listed(other.host, f"/v2/team/{name}/tags/list")) for name in tags}
        assert seen == {name: sorted_tags(answer) for name, answer in tags.items()}
        assert seen["oci"] == ["app", "base"]
        assert catalog == {"repositories": ["team/oci", "team/old", "team/v2s2"]}
        for name in ("team/oci:twice", "team/oci:opaque", f"team/oci@{opaque}", "gone:1"):
            with pytest.raises(Failed, match=r"manifest unknown|name unknown"):
                other.raw(name)


def test_schema1_for_a_registry_that_does_not_know_it(tmp_path: Path) -> None:
    """Converted in the tree, it is schema 2 with the same layers; so is a tree that had it."""
    layers = [stock_trees.LAYERS[letter] for letter in "ab"]
    stock_trees.StockTree(tmp_path / "old").schema1("team/one", "1", *layers)
    command(tmp_path / "data", f"run registry-tree:{tmp_path / 'old'}")
    export(tmp_path / "data", f"registry-tree:{tmp_path / 'tree'}")
    with stock_registry(tmp_path / "tree", tmp_path) as other:
        assert other.raw("team/one:1")["schemaVersion"] == 1
        export(tmp_path / "data", f"registry-tree:{tmp_path / 'tree'} --convert schema1")
        assert other.raw("team/one:1")["mediaType"] == media_types.DOCKER_MANIFEST
        other.pull("team/one:1", f"dir:{tmp_path / 'pulled'}")
    _, manifest = verified(tmp_path / "pulled")
    assert [each["digest"] for each in manifest["layers"]] == [str(Digest.of(layer)) for layer in layers]


def sorted_tags(answer: object) -> list[str]:
    """Return the tags that a list of them names; the reference registry does not sort."""
    assert isinstance(answer, dict)
    return sorted(answer["tags"])


@pytest.mark.slow
def test_a_blob_deleted_by_dualreg_is_gone_there_too(tmp_path: Path) -> None:
    """A blob that was deleted from one of two repositories is refused there, and served from the other."""
    data, content = tmp_path / "data", b"in two repositories"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with dualreg_server(data) as host:
        for name in ("first", "second"):
            with closing(http.client.HTTPConnection(host, timeout=20)) as connection:
                connection.request("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", content)
                assert connection.getresponse().status == 201
        assert delete(host, f"/v2/first/blobs/{digest}") == 202
    with stock_registry(data, tmp_path, readonly=True) as other:
        statuses = {}
        for name in ("first", "second"):
            with closing(http.client.HTTPConnection(other.host, timeout=20)) as connection:
                connection.request("GET", f"/v2/{name}/blobs/{digest}")
                statuses[name] = connection.getresponse().status
        assert statuses == {"first": 404, "second": 200}
