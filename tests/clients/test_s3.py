"""Instances over one bucket: clients of every generation, both databases, and what else reads the bucket."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from dualreg.settings import Settings
from dualreg.web.app import create_app
from dualreg.web.context import parts_in
from tests import builders
from tests.contracts.postgresql import DATABASES, database_of
from tests.contracts.radosgw import reference_settings, s3_bucket, settings_of
from tests.contracts.s3_faults import faulty
from tests.programs import (
    DUALREG,
    dualreg_process,
    free_port,
    hopping,
    require,
    running,
    until,
    wait_until_up,
)
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Refused, Wire
from tests.protocol.everyone import push_by_some, require_some_pull

pytestmark = [pytest.mark.s3, pytest.mark.client]

#: Requests for lists of objects, and of uploads of parts.
LISTS = re.compile(r"GET .*[?&](list-type|uploads)")


def settings(url: str, database: str) -> dict[str, str]:
    """Return the settings of an instance over a bucket and a catalog."""
    return {**settings_of(url), "database": database}


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of an empty store."""
    with s3_bucket() as url:
        yield url


@contextmanager
def instances(folder: Path, number: int, chosen: Mapping[str, str]) -> Iterator[list[str]]:
    """Run instances that share nothing but the bucket and the catalog; yield where each serves."""
    with ExitStack() as stack:
        run = stack.enter_context
        yield [
            run(dualreg_process(folder / f"data{each}", workers=1, **chosen)).host for each in range(number)
        ]


@pytest.mark.parametrize("kind", DATABASES)
def test_every_request_goes_to_another_instance(tmp_path: Path, url: str, kind: str) -> None:
    """What clients of all generations push, those of all generations pull; then from a catalog made anew."""
    with database_of(kind) as database:
        chosen = settings(url, database or f"sqlite:///{tmp_path}/catalog.sqlite3")
        with instances(tmp_path, 2, chosen) as hosts, hopping(hosts):
            push_by_some(hosts[0])
            require_some_pull(hosts[0])
    chosen["database"] = f"sqlite:///{tmp_path}/rebuilt.sqlite3"
    run(tmp_path, chosen, "db", "rebuild", "--data", tmp_path / "data0")
    with instances(tmp_path, 1, chosen) as hosts:
        require_some_pull(hosts[0])


@pytest.mark.parametrize("mode", ["stream", "chunks", "monolithic", "single"])
def test_large_blobs_hop(tmp_path: Path, url: str, mode: str) -> None:
    """In every way in which clients upload; both APIs, and ranges of the result."""
    image = builders.image(builders.layer({"big": os.urandom(20 << 20)}), builders.layer({"a": b"1"}))
    chain = builders.v1_chain(builders.layer({"big": os.urandom(9 << 20)}))
    chosen = settings(url, f"sqlite:///{tmp_path}/catalog.sqlite3")
    with instances(tmp_path, 2, chosen) as hosts, hopping(hosts):
        V2Client(hosts[0], mode=mode).push("team/big", "1", image)
        V1Client(hosts[0]).push("team/old", "1", chain)
        assert [*V2Client(hosts[0]).pull("team/big", "1").layers] == [*image.layers]
        assert [each.layer for each in V1Client(hosts[0]).pull("team/old", "1")] == [chain[0].layer]
        digest, data = next((each, data) for each, data in image.blobs.items() if len(data) > 20 << 20)
        for first, last in ((0, 9), (9 << 20, (9 << 20) + 99), (len(data) - 5, len(data) - 1)):
            span = {"Range": f"bytes={first}-{last}"}
            answer = Wire(hosts[0]).send("GET", f"/v2/team/big/blobs/{digest}", span)
            assert (answer.status, answer.body) == (206, data[first : last + 1])


def test_a_backup_moves_a_registry(tmp_path: Path, url: str) -> None:
    """From a bucket to a folder, and from there to another bucket; blobs are verified on both ways."""
    image, chosen = builders.image(builders.layer({"a": b"1"})), settings(url, "")
    with dualreg_process(tmp_path / "data", **chosen) as (host, _, _):
        V2Client(host).push("team/app", "1", image)
        run(tmp_path, chosen, "backup", tmp_path / "backup", "--data", tmp_path / "data")
    other = chosen | {"store": chosen["store"] + "-moved"}
    run(tmp_path, other, "restore", tmp_path / "backup", "--data", tmp_path / "moved")
    run(tmp_path, other, "fsck", "--read", "--data", tmp_path / "moved")
    with dualreg_process(tmp_path / "moved", **other) as (host, _, _):
        assert [*V2Client(host).pull("team/app", "1").layers] == [*image.layers]


def run(folder: Path, chosen: Mapping[str, str], *command: str | Path) -> None:
    """Run a command of dualreg's to its end; it must succeed."""
    log = folder / "command.log"
    env = {f"DUALREG_{name.upper()}": value for name, value in chosen.items() if value}
    with running([DUALREG, *command], log, env) as process:
        assert until(lambda: process.poll() is not None, 60)
    assert process.poll() == 0, log.read_text()


def test_an_object_store_that_is_down_is_an_outage(tmp_path: Path, url: str) -> None:
    """Both dialects say when to come back; what has no need of it goes on, and all goes on by itself."""
    chosen = settings(url, f"sqlite:///{tmp_path}/catalog.sqlite3")
    image = builders.image(builders.layer({"a": b"1"}))
    chain = builders.v1_chain(builders.layer({"b": b"2"}))
    with (
        faulty(chosen["s3_endpoint"]) as (proxy, faults),
        dualreg_process(tmp_path / "data", workers=1, **chosen | {"s3_endpoint": proxy}) as (host, _, log),
    ):
        V2Client(host).push("team/app", "1", image)
        faults.kind, faults.times = "busy", 1 << 30
        with pytest.raises(Refused, match="503"):
            V2Client(host).push("team/app", "2", builders.image(builders.layer({"c": b"3"})))
        with pytest.raises(Refused, match="503"):
            V1Client(host).push("team/old", "1", chain)
        answer = Wire(host).send("GET", f"/v2/team/app/blobs/{next(iter(image.blobs))}")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert b"the object store of the registry does not answer" in answer.body
        assert Wire(host).send("GET", "/v2/").status == 200
        assert "Traceback" not in log.read_text()
        faults.times = 0
        blob = f"/v2/team/app/blobs/{next(iter(image.blobs))}"
        assert until(lambda: Wire(host).send("GET", blob).status == 200)
        V1Client(host).push("team/old", "1", chain)
        assert [*V2Client(host).pull("team/app", "1").layers] == [*image.layers]


@pytest.mark.parametrize("redirects", ["off", "on"])
def test_round_trips(tmp_path: Path, url: str, redirects: str) -> None:
    """Requests to the object store, by what clients ask; none lists. Link files are written in parallel."""
    chosen, image = settings(url, ""), builders.image(builders.layer({"a": b"1"}))
    blob, data = next(iter(image.blobs.items()))
    with faulty(chosen["s3_endpoint"]) as (proxy, faults):
        del chosen["database"]
        given = {**chosen, "s3_endpoint": proxy, "s3_redirects": redirects}
        app = create_app(Settings(data=tmp_path, **given))
        client, everything = app.test_client(), list[tuple[str, str]]()
        faults.requests.clear()

        def trips(method: str, path: str, **given: Any) -> tuple[int, list[str]]:
            """Return how many requests one takes besides those for link files, and the methods of these."""
            everything.extend(faults.requests)
            faults.requests.clear()
            assert client.open(path, method=method, **given).status_code < 308
            asked = [each for each in faults.requests if "?delete" not in each[1]]
            links = [method for method, path in asked if "/repositories/" in path]
            return len(asked) - len(links), sorted(links)

        client.head("/v2/team/app/blobs/sha256:" + "0" * 64)
        for digest, each in image.blobs.items():
            location = client.patch(_begun(client), data=each).headers["Location"]
            end = f"{location}{'&' if '?' in location else '?'}digest={digest}"
            assert trips("PUT", end) == (2, ["GET", "PUT"])
        accept = {"Accept": image.media_type}
        manifest = "/v2/team/app/manifests/1"
        headers = {"Content-Type": image.media_type}
        pushed = trips("PUT", manifest, data=image.manifest, headers=headers)
        assert pushed == (2, ["GET"] * 5 + ["PUT"] * 3)
        assert trips("HEAD", f"/v2/team/app/blobs/{blob}") == (0, [])
        assert trips("GET", manifest, headers=accept) == (1, [])
        assert trips("GET", manifest, headers=accept) == (0, [])
        assert trips("HEAD", manifest, headers=accept) == (0, [])
        assert trips("GET", f"/v2/team/app/blobs/{blob}") == (0 if redirects == "on" else 1, [])
        assert trips("GET", "/v2/team/app/tags/list") == (0, [])
        assert trips("PATCH", _begun(client), data=data) == (1, [])
        parts_in(app.extensions).registry.state.store._seen.clear()  # type: ignore[attr-defined] -- S3Store's
        assert trips("GET", f"/v2/team/app/blobs/{blob}") == (1, [])
        other = f"/v2/team/app/manifests/{image.digest}"
        assert client.put("/v2/team/app/manifests/2", data=image.manifest, headers=headers).status_code == 201
        assert client.get("/v1/repositories/team/app/tags").status_code == 200
        assert trips("DELETE", _begun(client)) == (0, [])
        assert trips("DELETE", manifest) == (0, ["GET"] * 2)
        assert trips("DELETE", other) == (0, ["GET"] * 9)
        assert trips("DELETE", f"/v2/team/app/blobs/{blob}") == (0, ["GET"])
        _begun(client)
        assert trips("DELETE", "/v2/team/app/_dualreg/repository")[0] == 0
        store = parts_in(app.extensions).registry.state.store
        store.flush()  # type: ignore[attr-defined] -- S3Store's
        assert not [each for each in [*everything, *faults.requests] if LISTS.match(" ".join(each))]
        assert [*store.link_paths()] == []


def _begun(client: FlaskClient) -> str:
    """Begin an upload; return where it goes on."""
    return str(client.post("/v2/team/app/blobs/uploads/").headers["Location"])


def test_the_reference_registry_serves_the_bucket(tmp_path: Path, url: str) -> None:
    """It finds images by tag and digest where it keeps its own."""
    require("docker-registry", package="docker-registry")
    image, chosen = builders.image(builders.layer({"a": b"1"})), settings(url, f"sqlite:///{tmp_path}/c.db")
    with dualreg_process(tmp_path / "data", **chosen) as (host, _, _):
        V2Client(host).push("team/app", "1", image)
    port = free_port()
    configuration, log = tmp_path / "config.yml", tmp_path / "reference.log"
    storage = {"s3": reference_settings(url), "redirect": {"disable": True}}
    document = {"version": 0.1, "storage": storage, "http": {"addr": f"127.0.0.1:{port}"}}
    configuration.write_text(json.dumps(document))
    with running(["docker-registry", "serve", configuration], log) as process:
        wait_until_up(f"http://127.0.0.1:{port}/v2/", process, log)
        pulled = V2Client(f"127.0.0.1:{port}").pull("team/app", "1")
        assert [*pulled.layers] == [*image.layers]
        assert pulled.digest == str(image.digest)
