"""What nginx makes of a static tree: answers as of a registry, with the headers that caches need."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.export import Export, entries_to_export
from dualreg.migrate.names import Names
from dualreg.migrate.run import Status
from dualreg.migrate.targets.base import TargetInvalid
from dualreg.migrate.targets.static_tree import StaticTreeTarget
from dualreg.registry import Registry
from tests import builders
from tests.builders import Image
from tests.migrate.stock_trees import LAYERS
from tests.nginx.static import static_server
from tests.protocol.clients.wire import Wire

FOREVER = "public, max-age=31536000, immutable"
APP = RepositoryName("team/app")
#: What a V1 client may be answered with.
JSON = "application/json"


def push(registry: Registry, name: RepositoryName, tag: str, *, oci: bool = False, author: str = "") -> Image:
    """Push an image of one layer."""
    image = builders.image(LAYERS["a"], oci=oci, author=author or tag)
    for blob in image.blobs.values():
        registry.uploads.ingest(name, [blob])
    registry.manifests.put(name, Tag(tag), image.media_type, image.manifest)
    return image


def export(registry: Registry, place: Path) -> None:
    """Export everything to a static tree."""
    outcomes = Export(registry, StaticTreeTarget(place, registry)).export_all(
        [*entries_to_export(registry, Names())], jobs=2
    )
    assert {outcome.status for outcome in outcomes} <= {Status.DONE, Status.SAME}


@pytest.mark.client
def test_names_and_paths_of_every_sort(opened: Registry, tmp_path: Path) -> None:
    """Tags that differ in nothing but case, or are called as lists are; a path with quotes and braces."""
    pushed = {}
    for number, tag in enumerate(("1.0-RC1", "1.0-rc1", "1x0-RC1", "json", "JSON", "Images")):
        for name in (APP, RepositoryName("team/tags/app")):
            image = push(opened, name, tag, oci=bool(number % 2))
            pushed[f"/v2/{name}/manifests/{tag}"] = image.media_type, str(image.digest)
    place = tmp_path / 'a "b"; {\\c\\\\ \'d'
    export(opened, place)
    with static_server(place, tmp_path) as host:
        for path, told in pushed.items():
            answer = Wire(host).send("GET", path)
            assert (answer.headers["content-type"], answer.headers["docker-content-digest"]) == told, path
            assert str(Digest.of(answer.body)) == told[1]


@pytest.mark.client
def test_answers_can_be_cached(opened: Registry, tmp_path: Path) -> None:
    """What has a digest, forever; what tags and lists name is asked for again, at the price of a 304."""
    image = push(opened, APP, "latest", oci=True)
    export(opened, tmp_path / "static")
    config = Digest.of(image.config)
    with static_server(tmp_path / "static", tmp_path) as host:
        wire = Wire(host)
        digest, kind = str(image.digest), image.media_type
        (v1,) = json.loads(wire.send("GET", "/v1/repositories/team/app/images").body)
        for path, type_, cache in (
            ("/v2/team/app/manifests/latest", kind, "no-cache"),
            (f"/v2/team/app/manifests/{digest}", kind, FOREVER),
            (f"/v2/team/app/blobs/{config}", "application/octet-stream", FOREVER),
            ("/v2/team/app/tags/list", JSON, "no-cache"),
            ("/v2/_catalog", JSON, "no-cache"),
            ("/v2/", JSON, "no-store"),
            ("/v1/repositories/team/app/tags", JSON, "no-cache"),
            ("/v1/repositories/team/app/images", JSON, "no-cache"),
            (f"/v1/images/{v1['id']}/json", JSON, FOREVER),
            (f"/v1/images/{v1['id']}/ancestry", JSON, FOREVER),
            (f"/v1/images/{v1['id']}/layer", "application/octet-stream", FOREVER),
        ):
            answer, head = wire.send("GET", path), wire.send("HEAD", path)
            assert answer.status == head.status == 200, path
            assert (answer.headers["content-type"], answer.headers["cache-control"]) == (type_, cache), path
            assert {**answer.headers, "date": ""} == {**head.headers, "date": ""}
            assert "vary" not in answer.headers
            same = wire.send("GET", path, {"If-None-Match": answer.headers["etag"]})
            assert (same.status, same.body) == (304, b""), path
            assert same.headers["etag"] == answer.headers["etag"]
            is_v2 = path.startswith("/v2/")
            assert (answer.headers.get("docker-distribution-api-version") == "registry/2.0") == is_v2
        tagged = wire.send("HEAD", "/v2/team/app/manifests/latest").headers
        assert tagged["docker-content-digest"] == digest
        assert tagged["etag"] == f'"{digest}"'
        assert wire.send("HEAD", f"/v2/team/app/blobs/{config}").headers["docker-content-digest"] == str(
            config
        )
        part = wire.send("GET", f"/v2/team/app/blobs/{config}", {"Range": "bytes=2-5"})
        assert (part.status, part.body) == (206, image.config[2:6])


@pytest.mark.client
def test_referrers_are_listed(opened: Registry, tmp_path: Path) -> None:
    """Of a manifest that has some, and of one that has none."""
    image, other = push(opened, APP, "latest", oci=True), push(opened, APP, "other", oci=True)
    opened.uploads.ingest(APP, [b"{}"])
    subject = builders.descriptor(image.media_type, image.manifest)
    config = builders.descriptor("application/vnd.example.sbom", b"{}")
    document = {"schemaVersion": 2, "config": config, "layers": [], "subject": subject}
    payload = json.dumps(document | {"annotations": {"a": "é"}}).encode()
    opened.manifests.put(APP, Digest.of(payload), media_types.OCI_MANIFEST, payload)
    export(opened, tmp_path / "static")
    with static_server(tmp_path / "static", tmp_path) as host:
        for each, expected in ((image, [str(Digest.of(payload))]), (other, [])):
            answer = Wire(host).send("GET", f"/v2/team/app/referrers/{each.digest}?artifactType=x/y")
            assert (answer.status, answer.headers["content-type"]) == (200, media_types.OCI_INDEX)
            assert answer.headers["cache-control"] == "no-cache"
            listed = json.loads(answer.body)["manifests"]
            assert [entry["digest"] for entry in listed] == expected
        (found,) = json.loads(Wire(host).send("GET", f"/v2/team/app/referrers/{image.digest}").body)[
            "manifests"
        ]
        assert found["artifactType"] == "application/vnd.example.sbom"
        assert found["annotations"] == {"a": "é"}


@pytest.mark.client
def test_refusals_are_those_of_a_registry(opened: Registry, tmp_path: Path) -> None:
    """In JSON, with the codes of the specification, for both generations."""
    push(opened, APP, "latest")
    export(opened, tmp_path / "static")
    with static_server(tmp_path / "static", tmp_path) as host:
        for method, path, status, code in (
            ("GET", "/v2/team/app/manifests/none", 404, "MANIFEST_UNKNOWN"),
            ("HEAD", "/v2/team/app/manifests/none", 404, None),
            ("GET", f"/v2/team/app/blobs/sha256:{'0' * 64}", 404, "BLOB_UNKNOWN"),
            ("GET", "/v2/none/tags/list", 404, "NAME_UNKNOWN"),
            ("PUT", "/v2/team/app/manifests/latest", 405, "UNSUPPORTED"),
            ("POST", "/v2/team/app/blobs/uploads/", 405, "UNSUPPORTED"),
            ("GET", "/v2/team/app/", 404, None),
            ("GET", "/v1/repositories/none/images", 404, None),
            *(("GET", f"/nginx{rest}", 404, None) for rest in (".conf", "-server.conf", "/team/app/")),
            ("PUT", "/v1/repositories/team/app/", 405, None),
        ):
            answer = Wire(host).send(method, path, body=b"{}" if method in ("PUT", "POST") else None)
            assert (answer.status, answer.headers["content-type"]) == (status, JSON), path
            assert answer.headers["cache-control"] == "no-store"
            if code:
                assert json.loads(answer.body)["errors"][0]["code"] == code
                assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
            elif method != "HEAD" and path.startswith("/v1"):
                assert json.loads(answer.body)["error"]


@pytest.mark.slow
@pytest.mark.client
def test_pulls_go_on_while_the_tree_is_updated(opened: Registry, tmp_path: Path) -> None:
    """A tag moves at once, with its type and digest, without a reload; lists name nothing that is missing."""
    place, done, pulls = tmp_path / "static", Event(), count()
    push(opened, APP, "latest", author="0")
    export(opened, place)

    def pull(wire: Wire) -> None:
        listed = json.loads(wire.send("GET", "/v2/team/app/tags/list").body)["tags"]
        for tag in listed:
            answer = wire.send("GET", f"/v2/team/app/manifests/{tag}")
            assert answer.status == 200, tag
            assert str(Digest.of(answer.body)) == answer.headers["docker-content-digest"]
            document = json.loads(answer.body)
            assert answer.headers["content-type"] == document["mediaType"]
            for each in (document["config"], *document["layers"]):
                blob = wire.send("GET", f"/v2/team/app/blobs/{each['digest']}")
                assert Digest.of(blob.body) == Digest.parse(each["digest"])
        next(pulls)

    def pull_on(host: str) -> None:
        while not done.is_set():
            pull(Wire(host))

    with static_server(place, tmp_path) as host, ThreadPoolExecutor(2) as pool:
        pulling = [pool.submit(pull_on, host) for _ in range(2)]
        for number in range(1, 6):
            image = push(opened, APP, "latest", oci=bool(number % 2), author=str(number))
            push(opened, APP, f"v{number}", oci=bool(number % 2), author=f"v{number}")
            export(opened, place)
            assert Wire(host).send("HEAD", "/v2/team/app/manifests/latest").headers["etag"] == (
                f'"{image.digest}"'
            )
        done.set()
        for each in pulling:
            each.result()
    assert next(pulls) > 2


@pytest.mark.slow
@pytest.mark.client
def test_a_tag_that_moves_all_the_time(opened: Registry, tmp_path: Path) -> None:
    """Digest and type are those of the body, at whatever moment of a request it moves."""
    images = {tag: push(opened, APP, tag, oci=tag == "two") for tag in ("one", "two")}
    export(opened, tmp_path / "static")
    references, done = tmp_path / "static/nginx" / APP / "_references", Event()
    targets = [(references / tag).readlink() for tag in images]

    def move() -> None:
        while not done.is_set():
            for target in targets:
                (references / ".one").symlink_to(target)
                (references / ".one").rename(references / "one")

    with static_server(tmp_path / "static", tmp_path) as host, ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move)
        try:
            for _ in range(500):
                answer = Wire(host).send("GET", "/v2/team/app/manifests/one")
                assert answer.status == 200
                assert answer.headers["docker-content-digest"] == str(Digest.of(answer.body))
                assert answer.headers["content-type"] == json.loads(answer.body)["mediaType"]
        finally:
            done.set()
        moving.result()


def test_lists_name_what_the_server_finds(
    opened: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any time, also if the export is killed then: tags, and referrers."""
    place, listed = tmp_path / "static", list[str]()

    def checked(staged: str, path: str, rename: Callable[[str, str], None] = os.rename) -> None:
        file = Path(path)
        is_list = file.parent.name in ("tags", "referrers") and "v2" in file.relative_to(place).parts
        found = json.loads(Path(staged).read_bytes()) if is_list else {}
        for name in [each["digest"] for each in found.get("manifests", [])] + found.get("tags", []):
            assert (place / "nginx" / APP / "_references" / name / "manifest").is_file(), name
            listed.append(name)
        rename(staged, path)

    monkeypatch.setattr(os, "rename", checked)
    image = push(opened, APP, "latest", oci=True)
    opened.uploads.ingest(APP, [b"{}"])
    subject = builders.descriptor(image.media_type, image.manifest)
    config = builders.descriptor("application/vnd.example.sbom", b"{}")
    document = {"schemaVersion": 2, "config": config, "layers": [], "subject": subject}
    payload = json.dumps(document).encode()
    opened.manifests.put(APP, Digest.of(payload), media_types.OCI_MANIFEST, payload)
    export(opened, place)
    assert sorted(listed) == ["latest", str(Digest.of(payload))]


@pytest.mark.parametrize("name", ["$uri", "new\nline", "bell\a", "\udcff"])
def test_paths_that_nginx_cannot_be_told(opened: Registry, tmp_path: Path, name: str) -> None:
    """One readable line, and nothing is written."""
    with pytest.raises(TargetInvalid) as raised:
        StaticTreeTarget(tmp_path / name / "static", opened)
    assert str(raised.value).isprintable()
    assert not (tmp_path / name).exists()
