"""What a real reference registry kept, taken in: copied, and in place with both registries on one folder."""

import http.client
import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.cli import main
from tests import builders
from tests.builders import V1Pushed
from tests.clients.stock import stock_registry
from tests.clients.tools import Failed, Tools, layout_manifest, verified
from tests.migrate.commands import command, content
from tests.migrate.trees import Tree
from tests.nginx.static import static_server
from tests.programs import dualreg_server
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client

pytestmark = [pytest.mark.client, pytest.mark.slow]


@pytest.fixture(scope="module")
def filled(layout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder that the stock registry wrote, and the digest of each tag that is left in it."""
    folder = tmp_path_factory.mktemp("filled")
    children = [
        builders.image(builders.layer({"c": name.encode()}), architecture=name) for name in ("amd64", "arm64")
    ]
    with stock_registry(folder / "stock", folder) as tools:
        for tag in ("base", "app"):
            for name in ("v2s2", "oci"):
                tools.push(f"--format={name}", f"oci:{layout}:{tag}", name=f"team/{name}:{tag}")
        tools.push("--format=v2s1", f"oci:{layout}:base", name="team/v2s1:base")
        tools.push(f"oci:{layout}:base", name="team/oci:moved")
        tools.push(f"oci:{layout}:app", name="team/oci:moved")
        client = V2Client(tools.host)
        for child in children:
            client.push("team/index", str(child.digest), child)
        client.push_manifest(
            "team/index", "1", "application/vnd.oci.image.index.v1+json", builders.index(*children)
        )
        tools.push(f"oci:{layout}:arm64", name="gone:1")
        gone = digest_of(tools.host, "gone", "1")
        assert delete(tools.host, f"/v2/gone/manifests/{gone}") == 202
        tags = {
            f"team/{name}:{tag}": digest_of(tools.host, f"team/{name}", tag)
            for name, tag in (
                ("v2s2", "base"), ("v2s2", "app"), ("oci", "base"), ("oci", "app"), ("oci", "moved"),
                ("v2s1", "base"), ("index", "1"),
            )
        }  # fmt: skip
    return folder / "stock", tags


def test_copied(filled: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Modern clients pull every tag under its digest, old ones read it, and nothing is wrong with it."""
    root, tags = filled
    command(tmp_path / "data", f"run registry-tree:{root}")
    assert "tags match the source" in command(tmp_path / "data", f"verify registry-tree:{root}").output
    with dualreg_server(tmp_path / "data") as host:
        pulled(Tools(tmp_path / "home", host), tags, tmp_path)


def test_in_place(filled: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """Both registries serve one folder after each other, and what dualreg takes in is there for the other."""
    root, tags = filled
    before = content(root)
    command(root, f"run registry-tree:{root}")
    with dualreg_server(root) as host:
        tools = Tools(tmp_path / "home", host)
        pulled(tools, tags, tmp_path / "ours")
        V1Client(host).push("team/new", "1", builders.v1_chain(builders.layer({"n": b"new"})))
    assert {path: each for path, each in content(root).items() if path in before} == before
    with stock_registry(root, tmp_path) as other:
        pulled(other, tags, tmp_path / "theirs")
        other.pull("team/new:1", f"dir:{tmp_path / 'new'}")
        with pytest.raises(Failed, match=r"manifest unknown|name unknown"):
            other.raw("gone:1")


def test_layouts_and_archives(layout: Path, tools: Tools, tmp_path: Path) -> None:
    """What skopeo, buildah and podman wrote is pulled afterwards, under the id that it had, and runs."""
    data = tmp_path / "data"
    command(data, f"run oci-layout:{layout} --repository team/layout")
    tools.skopeo("copy", f"oci:{layout}:app", f"docker-archive:{tmp_path / 'skopeo.tar'}:team/skopeo:1")
    image = tools.podman("pull", f"oci:{layout}:app").splitlines()[-1]
    tools.podman("tag", image, "localhost/team/podman:1")
    tools.podman("save", "--output", tmp_path / "podman.tar", "localhost/team/podman:1")
    for name in ("skopeo", "podman"):
        command(data, f"run docker-archive:{tmp_path / name}.tar")
        command(data, f"verify docker-archive:{tmp_path / name}.tar")
    config = layout_manifest(layout, "app")[1]["config"]["digest"]
    with dualreg_server(data) as host:
        client = Tools(tmp_path / "home", host)
        assert digest_of(host, "team/layout", "app") == layout_manifest(layout, "app")[0]
        for name in ("team/skopeo:1", "team/podman:1"):
            assert client.raw(name)["config"]["digest"] == config
            client.pull(name, f"dir:{tmp_path / name.replace('/', '-').replace(':', '-')}")
        assert [image.id for image in V1Client(host).pull("team/skopeo", "1")]
        greets(tools, f"{host}/team/podman:1", store="saved")


def test_an_old_registrys_images(layout: Path, tools: Tools, docker: Tools, tmp_path: Path) -> None:
    """Today's clients pull and run them; old ones find them as they were, and push no layer again."""
    with dualreg_server(tmp_path / "before") as host:
        Tools(tmp_path / "pusher", host).push("--format=v2s2", f"oci:{layout}:app", name="team/app:1")
        chain = V1Client(host).pull("team/app", "1")
    tree = Tree(tmp_path / "old")
    for image in chain:
        tree.image("", image.layer, id_=image.id, document=image.json)
    tree.tag("library/tool", "1", chain[-1].id)
    data = tmp_path / "data"
    command(data, f"run v1-tree:{tree.root} --link hard")
    assert "1 of 1" in command(data, f"verify v1-tree:{tree.root}").output
    with dualreg_server(data) as host:
        client, old = Tools(tmp_path / "home", host), V1Client(host)
        greets(tools, f"{host}/tool:1", store="old")
        run = ("run", "--rm", "--network=none", "--ulimit=nofile=1024:1024")
        assert docker.docker(*run, f"{host}/tool:1") == "hello from layers"
        assert old.pull("tool", "1") == chain
        again = [V1Pushed(image.id, image.json, image.layer) for image in chain]
        assert old.push("tool", "again", again) == []
        for form in ("v2s2", "oci", "v2s1"):
            client.pull("tool:again", f"dir:{tmp_path / form}", f"--format={form}")


def greets(tools: Tools, image: str, store: str) -> None:
    """Pull the image ``app``, and run it: replaced files are new, removed ones gone."""
    tools.podman("pull", "-q", "--tls-verify=false", image, store=store)
    run = ("run", "--rm", "--network=host", image)
    assert tools.podman(*run, store=store) == "hello from layers"
    assert "removed" not in tools.podman(*run, "ls", "/", store=store).split()


def pulled(tools: Tools, tags: dict[str, str], folder: Path) -> None:
    """Pull every tag, look at every byte, and at its digest."""
    folder.mkdir(exist_ok=True)
    for name, digest in tags.items():
        repository, _, tag = name.rpartition(":")
        if repository != "team/v2s1":  # each registry signs it with a key of its own
            assert digest_of(tools.host, repository, tag) == digest
        target = folder / name.replace("/", "-").replace(":", "-")
        tools.pull(name, f"dir:{target}")
        if repository not in ("team/v2s1", "team/index"):
            verified(target)


def digest_of(host: str, name: str, tag: str) -> str:
    """Return the digest that a registry tells of a tag."""
    accept = ", ".join(
        f"application/vnd.{kind}+json"
        for kind in (
            "docker.distribution.manifest.v2", "oci.image.manifest.v1", "oci.image.index.v1",
            "docker.distribution.manifest.list.v2",
        )
    )  # fmt: skip
    with closing(http.client.HTTPConnection(host, timeout=20)) as connection:
        connection.request("HEAD", f"/v2/{name}/manifests/{tag}", headers={"Accept": accept})
        return str(connection.getresponse().headers["Docker-Content-Digest"])


def delete(host: str, path: str) -> int:
    """Send a DELETE; return the status."""
    with closing(http.client.HTTPConnection(host, timeout=20)) as connection:
        connection.request("DELETE", path)
        return connection.getresponse().status


def test_exports(layout: Path, tools: Tools, tmp_path: Path) -> None:
    """The stock registry, skopeo, podman and a plain web server serve or read what was exported."""
    data = tmp_path / "data"
    with dualreg_server(data) as host:
        pusher = Tools(tmp_path / "pusher", host)
        pusher.push("--format=oci", f"oci:{layout}:app", name="team/oci:1")
        pusher.push("--format=v2s2", f"oci:{layout}:app", name="team/v2s2:1")
        V1Client(host).push("team/old", "1", builders.v1_chain(builders.layer({"n": b"new"})))
    for folder in ("stock", "layout-out", "static-out"):
        (tmp_path / folder).mkdir()
    exported(data, f"registry-tree:{tmp_path / 'tree'}")
    names = ("team/oci:1", "team/v2s2:1", "team/old:1")
    with stock_registry(tmp_path / "tree", tmp_path, readonly=True) as other:
        for name in names:
            other.pull(name, f"dir:{tmp_path / 'stock' / name.replace('/', '-').replace(':', '-')}")
    exported(data, f"oci-layout:{tmp_path / 'layout'}")
    for name in names:
        folder = tmp_path / "layout-out" / name.replace("/", "-").replace(":", "-")
        tools.skopeo("copy", f"oci:{tmp_path / 'layout'}:{name}", f"dir:{folder}")
        verified(folder)
    exported(data, f"docker-archive:{tmp_path / 'images.tar'}")
    for name in names:
        told = json.loads(tools.skopeo("inspect", f"docker-archive:{tmp_path / 'images.tar'}:{name}"))
        assert told["Layers"]
    assert "team/oci:1" in tools.podman("load", "--input", tmp_path / "images.tar", store="loaded")
    for part in ("--include team/o*", "--exclude team/o*"):
        exported(data, f"static-tree:{tmp_path / 'static'} {part}")
    with static_server(tmp_path / "static", tmp_path) as host:
        client = Tools(tmp_path / "home", host)
        for name in names:
            folder = tmp_path / "static-out" / name.replace("/", "-").replace(":", "-")
            client.pull(name, f"dir:{folder}")
            verified(folder)
            repository, _, tag = name.rpartition(":")
            assert digest_of(host, repository, tag).startswith("sha256:")
        assert len(V1Client(host).pull("team/old", "1")) == 1


def exported(data: Path, target: str) -> None:
    """Run ``dualreg export``."""
    result = CliRunner().invoke(
        main, ["export", *target.split(), "--data", str(data)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output


def test_over_the_wire(filled: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    """From a running stock registry, and on to another one."""
    root, tags = filled
    with stock_registry(root, tmp_path, readonly=True) as there:
        command(tmp_path / "data", f"run v2+http://{there.host}")
        command(tmp_path / "data", f"verify v2+http://{there.host}")
    with stock_registry(tmp_path / "onwards", tmp_path) as other:
        exported(tmp_path / "data", f"v2+http://{other.host}")
        kept = {name: digest for name, digest in tags.items() if not name.startswith("team/v2s1")}
        pulled(other, kept, tmp_path / "pulled")
