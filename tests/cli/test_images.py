"""``dualreg images check`` says which clients cannot read a tag, why, and what they get by tag."""

import json
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.jws import SigningKey, sign
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.readers import READERS
from dualreg.registry import Registry
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.builders import Image
from tests.migrate.stock_trees import LAYERS, schema1_payload
from tests.programs import dualreg_server, unannounced
from tests.properties.registries import push_v2
from tests.state import blob_file

NAME = RepositoryName("team/app")
OLD = ("docker-1.9", "v1")
_DOCKER, _OCI = builders.image(LAYERS["a"]), builders.image(LAYERS["a"], oci=True)
_ATTESTATION = {"platform": {"os": "unknown", "architecture": "unknown"}}


def _changed(image: Image, **members: Any) -> Image:
    return replace(image, manifest=json.dumps(json.loads(image.manifest) | members).encode())


def _layers(image: Image, media_type: str, **members: Any) -> Image:
    (layer,) = json.loads(image.manifest)["layers"]
    return _changed(image, layers=[layer | {"mediaType": media_type} | members])


def _configured(**config: Any) -> Image:
    return builders.image(LAYERS["a"], **config)


#: What is pushed as tags: images, and what each client misses of them and gets.
_ZSTD = builders.zstd_image(LAYERS["a"])
_FOREIGN = _layers(_DOCKER, media_types.DOCKER_LAYER_FOREIGN, digest=f"sha256:{'0' * 64}")
_DEEP = builders.image(*[LAYERS["a"]] * 126)
IMAGES: Mapping[str, tuple[Image, Mapping[str, tuple[str, str | None]]]] = {
    "docker": (_DOCKER, {"docker-1.9": ("schema 2", "schema 1"), "v1": ("schema 2", "V1 image")}),
    "oci": (
        _OCI,
        {"docker-1.13": ("OCI", "schema 2"), "docker-1.9": ("OCI", "schema 1"), "v1": ("OCI", "V1 image")},
    ),
    "zstd": (
        _ZSTD,
        {
            "docker-20.10": ("zstd layers", "gzip layers"),
            "docker-1.13": ("OCI, zstd layers", "schema 2, gzip layers"),
            "docker-1.9": ("OCI, zstd layers", "schema 1"),
            "v1": ("OCI, zstd layers", "V1 image"),
        },
    ),
    "foreign": (
        _FOREIGN,
        {
            "docker-20.10": ("foreign layers", None),
            "docker-1.13": ("foreign layers", None),
            "docker-1.9": ("schema 2, foreign layers", None),
            "v1": ("schema 2, foreign layers", None),
        },
    ),
    "untold": (
        _configured(history=[]),
        {
            "docker-1.9": ("schema 2, no history in the config", "schema 1"),
            "v1": ("schema 2, no history in the config", "V1 image"),
        },
    ),
    "deep": (
        _DEEP,
        {
            "docker-20.10": ("too many layers", None),
            "docker-1.13": ("too many layers", None),
            "docker-1.9": ("schema 2", "schema 1"),
            "v1": ("schema 2", "V1 image"),
        },
    ),
    "encrypted": (
        _layers(_DOCKER, "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
        {
            client: (f"{form}layers of an unknown type", None)
            for client, form in (
                ("containerd-2.1", ""), ("docker-20.10", ""), ("docker-1.13", ""),
                ("docker-1.9", "schema 2, "), ("v1", "schema 2, "),
            )
        },
    ),
    "windows": (
        _configured(os="windows"),
        {
            client: (f"{form}not for the platform", None)
            for client, form in (
                ("containerd-2.1", ""), ("docker-20.10", ""), ("docker-1.13", ""),
                ("docker-1.9", "schema 2, "), ("v1", "schema 2, "),
            )
        },
    ),
    "chart": (_changed(_OCI, config=builders.descriptor("application/x.chart", _OCI.config)), {}),
}  # fmt: skip
_EVERYONE = ("containerd-2.1", "docker-20.10", "docker-1.13", *OLD)


def _entry(image: Image, architecture: str = "amd64") -> Mapping[str, Any]:
    platform = {"os": "linux", "architecture": architecture}
    return builders.descriptor(image.media_type, image.manifest, platform=platform)


_PLAIN, _ABSENT = _entry(_DOCKER), _entry(_OCI) | {"digest": f"sha256:{'1' * 64}"}
INDEXES: Mapping[str, tuple[bytes, Mapping[str, tuple[str, str | None]]]] = {
    "list": (
        builders.index_of(_PLAIN, oci=False),
        {"docker-1.9": ("index, schema 2", "schema 1"), "v1": ("index, schema 2", "V1 image")},
    ),
    "attested": (
        builders.index_of(_entry(_OCI), _entry(_OCI) | _ATTESTATION),
        {
            "docker-1.13": ("OCI, attestations", "manifest list"),
            "docker-1.9": ("index, attestations, OCI", "schema 1"),
            "v1": ("index, attestations, OCI", "V1 image"),
        },
    ),
    "arm": (
        builders.index_of(_entry(_OCI, "arm64")),
        {
            "containerd-2.1": ("not for the platform", None),
            "docker-20.10": ("not for the platform", None),
            "docker-1.13": ("OCI, not for the platform", None),
            "docker-1.9": ("index, not for the platform", None),
            "v1": ("index, not for the platform", None),
        },
    ),
    "sparse": (
        builders.index_of(_ABSENT, oci=False),
        {
            client: (f"{form}sparse index", None)
            for client, form in (
                ("containerd-2.1", ""), ("docker-20.10", ""), ("docker-1.13", ""),
                ("docker-1.9", "index, "), ("v1", "index, "),
            )
        },
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a registry with all of these, and a schema 1 image."""
    folder = tmp_path_factory.mktemp("data")
    settings = Settings(data=folder, sparse_indexes=True)
    prepare(settings)
    registry = open_registry(settings)
    for tag, (image, _) in IMAGES.items():
        push_v2(registry, NAME, Tag(tag), image)
    for tag, (payload, _) in INDEXES.items():
        registry.manifests.put(NAME, Tag(tag), json.loads(payload)["mediaType"], payload)
    _push_schema1(registry)
    registry.tags.record_pull(NAME, Tag("old"))
    registry.close()
    return folder


def _push_schema1(registry: Registry) -> None:
    body = sign(schema1_payload(NAME, "old", LAYERS["a"]), SigningKey.generate(), registry.now())
    registry.manifests.put(NAME, Tag("old"), media_types.SCHEMA1_SIGNED, body)


def check(data: Path, *arguments: str) -> Result:
    """Run the command."""
    return unannounced(CliRunner().invoke(main, ["images", "check", *arguments, "--data", str(data)]))


def test_what_clients_cannot_read(data: Path) -> None:
    """Every tag, as it is stored and by tag, for clients of every generation."""
    result = check(data, "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    found = {
        line["tag"].partition(":")[2]: {
            client: (", ".join(each["obstacles"]), each["by_tag"])
            for each in line["unreadable"]
            for client in each["clients"]
        }
        for line in lines
    }
    old = {"containerd-2.1": ("schema 1", "schema 2"), "v1": ("schema 1", "V1 image")}
    expected = {tag: missing for tag, (_, missing) in (*IMAGES.items(), *INDEXES.items()) if missing}
    assert found == {**expected, "old": old}
    assert result.exit_code == 1
    assert [line["tag"] for line in lines if line["pulled_at"]] == ["team/app:old"]


#: Clients of the names: their User-Agent, and whether they name the media types that they read.
_AGENTS = {
    "containerd-2.1": ("containerd/v2.1.4", True),
    "docker-20.10": ("docker/20.10.24 go/go1.19.8 os/linux arch/amd64", True),
    "docker-1.13": ("docker/1.13.1 go/go1.7.5 os/linux arch/amd64", True),
    "docker-1.9": ("docker/1.9.1 go/go1.4.2 os/linux arch/amd64", False),
}


@pytest.mark.parametrize("name", _AGENTS)
def test_what_clients_get_by_tag(data: Path, tmp_path: Path, name: str) -> None:
    """What is promised is served: in a format that the client reads, without zstd if it reads none."""
    agent, names_types = _AGENTS[name]
    headers = {"User-Agent": agent, **({"Accept": ", ".join(READERS[name].manifests)} if names_types else {})}
    promised = [
        json.loads(line)["tag"].partition(":")[2]
        for line in check(data, "--json", "--for", name).stdout.splitlines()
        if all(each["by_tag"] for each in json.loads(line)["unreadable"])
    ]
    with closing(open_registry(Settings(data=shutil.copytree(data, tmp_path / "data")))) as registry:
        client = client_of(registry)
        for tag in promised:
            answer = client.get(f"/v2/{NAME}/manifests/{tag}", headers=headers)
            assert (tag, answer.status_code) == (tag, 200), answer.data
            assert answer.headers["Content-Type"] in READERS[name].manifests
            assert READERS[name].zstd or b"+zstd" not in answer.data
    assert promised


def test_the_table(data: Path) -> None:
    """Clients that miss the same share a line; artifacts are only counted."""
    result = check(data, "*:zstd", "team/app:chart", "--for", "docker-26,docker-20.10,docker-1.13,docker-1.9")
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    assert [[cell.strip() for cell in line if cell] for line in lines] == [
        ["TAG", "LAST PULL", "CLIENT", "AS STORED", "BY TAG"],
        ["team/app:zstd", "never", "docker-20.10", "zstd layers", "gzip layers"],
        ["team/app:zstd", "never", "docker-1.13", "OCI, zstd layers", "schema 2, gzip layers"],
        ["team/app:zstd", "never", "docker-1.9", "OCI, zstd layers", "schema 1"],
        ["2 tags: 1 not readable by a client as stored, 0 not by tag, either; 1 artifact."],
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["team/app:zstd"], 1),
        (["team/app:zstd", "--unsolved"], 0),
        (["team/app:zstd", "--for", "docker-23"], 0),
        (["team/app:arm", "--unsolved"], 1),
        (["team/app:arm", "--platform", "linux/arm64", "--unsolved"], 0),
        (["other"], 0),
        (["--for", "docker-2"], 2),
        (["--platform", "linux"], 2),
        (["team/[ab]"], 2),
    ],
)
def test_exit_statuses(data: Path, arguments: list[str], code: int) -> None:
    """1 if anything is listed, 2 for what is no client, platform or pattern."""
    assert check(data, *arguments).exit_code == code


@pytest.mark.slow
def test_what_an_upstream_has_is_not_damaged(data: Path, tmp_path: Path) -> None:
    """Of an image whose manifest alone was asked for, that says enough; a config that was lost is."""
    behind, config = tmp_path / "behind", json.loads(_DOCKER.manifest)["config"]["digest"]
    with dualreg_server(shutil.copytree(data, tmp_path / "there")) as host:
        settings = Settings.model_validate({"data": behind, "upstreams": {"*": f"http://{host}"}})
        prepare(settings)
        with closing(open_registry(settings)) as registry:
            assert client_of(registry).get(f"/v2/{NAME}/manifests/docker").status_code == 200
    stored = json.loads(check(behind, "--for", "docker-1.9", "--json").stdout)["unreadable"]
    assert [each["obstacles"] for each in stored] == [["schema 2"]]
    blob_file(tmp_path / "there", Digest.parse(config)).unlink()
    assert "damaged" in check(tmp_path / "there", "*:docker", "--for", "docker-1.9").stdout
