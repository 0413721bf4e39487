"""``dualreg derive`` makes what clients get by tag, points tags at it, and back."""

import csv
import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg import assembly
from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.jws import SigningKey, sign
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.migrate.stock_trees import LAYERS, schema1_payload
from tests.programs import dualreg_server, unannounced
from tests.properties.registries import push_v2

NAME = RepositoryName("team/app")
#: A client that each edition is for.
READERS = {
    "--schema2": {
        "User-Agent": "docker/1.13.1",
        "Accept": f"{media_types.DOCKER_MANIFEST}, {media_types.DOCKER_LIST}",
    },
    "--oci": {
        "User-Agent": "docker/20.10.24",
        "Accept": f"{media_types.OCI_MANIFEST}, {media_types.OCI_INDEX}",
    },
    "--gzip": {
        "User-Agent": "docker/20.10.24",
        "Accept": ", ".join((*media_types.IMAGES, *media_types.INDEXES)),
    },
}
#: The tags for which it is made; all others are in such a form themselves.
NEEDED = {
    "--schema2": {"many", "oci", "old", "zstd"},
    "--oci": {"docker", "old", "zstd"},
    "--gzip": {"zstd"},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with an image of every format, and an artifact."""
    folder = tmp_path_factory.mktemp("built")
    prepare(Settings(data=folder))
    with closing(open_registry(Settings(data=folder))) as registry:
        docker, oci = builders.image(LAYERS["a"]), builders.image(LAYERS["b"], oci=True)
        for tag, image in (("docker", docker), ("oci", oci), ("zstd", builders.zstd_image(LAYERS["c"]))):
            push_v2(registry, NAME, Tag(tag), image)
        registry.manifests.put(NAME, Tag("many"), media_types.OCI_INDEX, builders.index(oci))
        _push_schema1(registry, "old", LAYERS["a"])
        chart = json.loads(oci.manifest)
        chart["config"]["mediaType"] = "application/x.chart"
        payload = json.dumps(chart).encode()
        registry.manifests.put(NAME, Tag("chart"), media_types.OCI_MANIFEST, payload)
    return folder


def _push_schema1(registry: Registry, tag: str, layer: bytes) -> None:
    registry.uploads.ingest(NAME, [layer])
    body = sign(schema1_payload(NAME, tag, layer), SigningKey.generate(), registry.now())
    registry.manifests.put(NAME, Tag(tag), media_types.SCHEMA1_SIGNED, body)


@pytest.fixture
def data(built: Path, tmp_path: Path) -> Path:
    """A copy of that registry."""
    return shutil.copytree(built, tmp_path / "data")


def derive(data: Path, *arguments: str, code: int = 0) -> Result:
    """Run the command; it must exit with *code*."""
    line = ["derive", *arguments, "--data", str(data)]
    result = unannounced(CliRunner().invoke(main, line, env={"DUALREG_CONFIG": None}))
    assert result.exit_code == code, result.output
    return result


def lines(result: Result) -> Mapping[str, Mapping[str, Any]]:
    """Return the lines of JSON that a command printed, by tag."""
    found = map(json.loads, result.stdout.splitlines())
    return {each["tag"].partition(":")[2]: each for each in found}


def served(data: Path, only: Iterable[str] = (), **headers: str) -> dict[str, str]:
    """Return the digest that a client gets for each tag, or for some."""
    with closing(open_registry(Settings(data=data))) as registry:
        client, tags = client_of(registry), [*only] or registry.tags.list(NAME).rows
        answers = {tag: client.get(f"/v2/{NAME}/manifests/{tag}", headers=headers) for tag in tags}
    return {tag: answer.headers["Docker-Content-Digest"] for tag, answer in answers.items()}


@pytest.mark.parametrize("edition", NEEDED)
def test_editions_are_those_that_clients_get(data: Path, edition: str) -> None:
    """Made of the tags that need one, and the same each time; the tags stay, and so do artifacts."""
    before = served(data, **{"Cache-Control": "no-transform"})
    first, again = (lines(derive(data, "team/*", edition, "--json", "--jobs", "2")) for _ in range(2))
    assert first == again
    assert first.keys() == NEEDED[edition]
    assert {each["status"] for each in first.values()} == {"done"}
    got = served(data, **READERS[edition], only=first)
    assert {tag: (each["old"], each["new"]) for tag, each in first.items()} == {
        tag: (before[tag], digest) for tag, digest in got.items()
    }
    assert served(data, **{"Cache-Control": "no-transform"}) == before


def test_layers_take_what_they_take(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command waits for them for longer than requests do."""
    monkeypatch.setattr(assembly, "_PATIENCE", 0.0)
    derived = lines(derive(data, "team/*", "--gzip", "--json"))
    assert {each["status"] for each in derived.values()} == {"done"}


def test_tags_are_moved_and_moved_back(data: Path, tmp_path: Path) -> None:
    """By the file that was written before each move; a tag that was moved since is left alone."""
    before, path = served(data), tmp_path / "moves.csv"
    moved = lines(derive(data, "team/app", "--schema2", "--retag", "--csv", str(path), "--json"))
    after = served(data)
    assert after == before | {tag: each["new"] for tag, each in moved.items()}
    with path.open(newline="") as file:
        rows = {row["tag"]: (row["old"], row["new"]) for row in csv.DictReader(file)}
    assert rows == {tag: (before[tag], after[tag]) for tag in NEEDED["--schema2"]}
    assert derive(data, "team/app", "--schema2").stdout == "6 same\n"
    with closing(open_registry(Settings(data=data))) as registry:
        push_v2(registry, NAME, Tag("zstd"), newer := builders.image(LAYERS["f"]))
    for _ in range(2):
        output = derive(data, "--undo", str(path), code=1).output
        assert "team/app:zstd: failed: schema2: the tag was moved or deleted meanwhile\n" in output
        assert "3 done, 1 failed" in output
        assert served(data) == before | {"zstd": str(newer.digest)}


@pytest.mark.parametrize("fault", ["encrypted", "lost"])
def test_a_tag_stays_at_an_index_whose_edition_would_lack_images(
    data: Path, tmp_path: Path, fault: str
) -> None:
    """Clients that read all of them would miss them; the edition for others is made."""
    images = [builders.image(LAYERS["b"], oci=True), builders.image(LAYERS["f"], oci=True)]
    if fault == "encrypted":
        images[1] = builders.retyped(images[1], f"{media_types.OCI_LAYER_GZIP}+encrypted")
    with closing(open_registry(Settings(data=data))) as registry:
        for image in images:
            push_v2(registry, NAME, Tag("part"), image)
        payload = builders.index(*images)
        registry.manifests.put(NAME, Tag("part"), media_types.OCI_INDEX, payload)
        if fault == "lost":
            registry.state.store.delete(Digest.of(images[1].layers[0]))
    before = served(data)["part"]
    output = derive(
        data, "team/app:part", "--schema2", "--retag", "--csv", str(tmp_path / "moves.csv"), code=1
    ).output
    assert "team/app:part: failed: schema2: this client cannot read the image: " in output
    assert served(data)["part"] == before
    assert "1 done" in derive(data, "team/app:part", "--schema2").output


def test_a_dry_run_changes_nothing(data: Path, tmp_path: Path) -> None:
    """Neither of the editions nor of the moves back."""
    before = {path: path.stat().st_size for path in (data / "docker").rglob("*")}
    output = derive(data, "*", "--schema2", "--oci", "--dry-run").output
    assert "team/app:zstd: planned: oci: sha256:" in output
    assert "5 same, 7 planned" in output or "7 planned, 5 same" in output
    assert {path: path.stat().st_size for path in (data / "docker").rglob("*")} == before
    derive(data, "*", "--gzip", "--retag", "--csv", str(path := tmp_path / "moves.csv"))
    moved = served(data)
    assert "1 planned" in derive(data, "--undo", str(path), "--dry-run").output
    assert served(data) == moved


def test_what_cannot_be_made_is_reported(data: Path) -> None:
    """With the reason; everything else is made."""
    with closing(open_registry(Settings(data=data))) as registry:
        _push_schema1(registry, "cut", LAYERS["d"][:-9])
    output = derive(data, "*", "--schema2", code=1).output
    assert "team/app:cut: failed: schema2: schema 1 that cannot be converted\n" in output
    assert "4 done" in output


@pytest.mark.parametrize(
    "line",
    [
        "", "team/app", "--schema2", "team/app --schema2 --oci --retag --csv new", "team/app --oci --retag",
        "team/app --oci --csv new --dry-run", "team/app --undo empty", "te?m --oci",
    ],
)  # fmt: skip
def test_options_that_contradict_each_other(
    data: Path, tmp_path: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is begun."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    derive(data, *line.split(), code=2)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "text", ["repository,tag\n", "a,b\nc,d\n", "repository,tag,edition,old,new,origin\nx,1,oci,a,b,v2\n"]
)
def test_a_file_of_something_else(data: Path, tmp_path: Path, text: str) -> None:
    """It is refused as a whole, and an existing file is not written over."""
    (tmp_path / "moves.csv").write_text(text + "x,y\n")
    path = str(tmp_path / "moves.csv")
    assert "not a file of derive --csv" in derive(data, "--undo", path, code=1).output
    assert "File exists" in derive(data, "team/app", "--oci", "--csv", path, code=1).output


@pytest.mark.slow
def test_editions_of_what_an_upstream_has(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tags that were pulled; the layers are fetched for it. The tags are not ours to move."""
    behind = tmp_path / "behind"
    with dualreg_server(shutil.copytree(built, tmp_path / "there")) as host:
        monkeypatch.setenv("DUALREG_UPSTREAMS", f"*=http://{host}")
        settings = Settings.model_validate({"data": behind, "upstreams": {"*": f"http://{host}"}})
        prepare(settings)
        with closing(open_registry(settings)) as registry:
            client = client_of(registry, settings)
            for tag in ("zstd", "old"):
                assert client.get(f"/v2/{NAME}/manifests/{tag}").status_code == 200
        assert "2 done" in derive(behind, "*", "--schema2").output
        path = tmp_path / "moves.csv"
        output = derive(behind, "*", "--schema2", "--retag", "--csv", str(path), code=1).output
    assert "2 failed" in output
    assert host in output
