"""Many clients at once, on a real server of two workers: nobody gets what nobody sent."""

import gzip
import itertools
import json
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests import builders
from tests.contracts.radosgw import STORES, s3_bucket, settings_of
from tests.programs import dualreg_server
from tests.protocol.clients.generation import V1_RELEASES
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import ProtocolError
from tests.races.site import at_once

PIECE = 1 << 16


@pytest.fixture(scope="module", params=STORES)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``dualreg serve`` with two workers, over files, and over a bucket."""
    with ExitStack() as stack:
        chosen = settings_of(stack.enter_context(s3_bucket())) if request.param == "s3" else {}
        data = tmp_path_factory.mktemp("races") / "data"
        yield stack.enter_context(dualreg_server(data, workers=2, **chosen))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["stream", "monolithic", "single", "chunks"])
def test_the_same_blob_from_everybody(host: str, mode: str) -> None:
    """All succeed, in one repository and in several; there is one blob."""
    data = os.urandom(300_000)
    digest = str(Digest.of(data))
    names = [f"race/{mode}{number % 3}" for number in range(9)]

    def push(name: str) -> bool:
        client = V2Client(host, mode=mode)
        return client.push_blob(name, digest, data)

    sent = at_once([lambda name=name: push(name) for name in names])
    assert any(sent)
    entry = {"digest": digest, "size": len(data)}
    assert {V2Client(host).pull_blob(name, entry) for name in names} == {data}


def test_one_upload_is_finished_once(host: str) -> None:
    """One of many requests finishes an upload; the others get the same answer after it, or 409 meanwhile."""
    data = os.urandom(200_000)
    client, digest = V2Client(host), Digest.of(data)
    location = client.start_upload("race/finish")
    assert client.wire.send("PATCH", location, {}, data).status == 202
    finish = f"{location}?digest={digest}"
    answers = at_once([lambda: V2Client(host).wire.send("PUT", finish, {}, b"")] * 6)
    statuses = sorted(answer.status for answer in answers)
    assert statuses[0] == 201
    assert set(statuses[1:]) <= {201, 409}
    assert client.pull_blob("race/finish", {"digest": str(digest), "size": len(data)}) == data


def stream(host: str, location: str, byte: bytes, count: int, gate: threading.Barrier) -> int:
    """PATCH *count* pieces of *byte*, in step with everybody else; return the status."""
    name, _, port = host.partition(":")
    with socket.create_connection((name, int(port)), timeout=30) as connection:
        head = f"PATCH {location} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        for _ in range(count):
            gate.wait(20)
            try:
                connection.sendall(f"{PIECE:x}\r\n".encode() + byte * PIECE + b"\r\n")
            except OSError:
                continue  # refused meanwhile: the others still count on us at the gate
        try:
            connection.sendall(b"0\r\n\r\n")
            return int(connection.recv(65536).split()[1])
        except (OSError, IndexError):
            return 0


@pytest.mark.parametrize("number", range(3))
def test_writers_of_one_upload_never_interleave(host: str, number: int) -> None:
    """Each body is in it whole or not at all."""
    name, count, letters = f"race/patch{number}", 40, [b"a", b"b", b"c"]
    client = V2Client(host)
    location = client.start_upload(name)
    gate = threading.Barrier(len(letters))
    statuses = at_once([lambda byte=byte: stream(host, location, byte, count, gate) for byte in letters])
    assert 202 in statuses
    assert set(statuses) <= {202, 409, 0}
    held = client.wire.send("GET", location).headers["range"]
    length = int(held.partition("-")[2]) + 1
    bodies = [byte * (PIECE * count) for byte, status in zip(letters, statuses, strict=True) if status != 409]
    candidates = [
        b"".join(order)
        for size in range(1, len(bodies) + 1)
        for order in itertools.permutations(bodies, size)
        if sum(map(len, order)) == length
    ]
    for data in candidates:
        answer = client.wire.send("PUT", f"{location}?digest={Digest.of(data)}", {}, b"")
        if answer.status == 201:
            entry = {"digest": str(Digest.of(data)), "size": length}
            assert client.pull_blob(name, entry) == data
            return
    pytest.fail(f"{length} bytes are no sequence of whole bodies; {statuses}")


@pytest.mark.slow
def test_a_tag_that_moves_always_resolves(host: str) -> None:
    """Readers of both dialects get one image or the other, whole, at every moment."""
    images = [builders.image(builders.layer({"f": bytes([number])})) for number in range(2)]
    name, writer = "race/tag", V2Client(host)
    for image in images:
        writer.push(name, "latest", image)
    done = threading.Event()

    def move() -> int:
        moves = 0
        while not done.is_set():
            image = images[moves % 2]
            writer.push_manifest(name, "latest", image.media_type, image.manifest)
            moves += 1
        return moves

    def read_v2() -> set[str]:
        client = V2Client(host)
        return {client.pull(name, "latest").digest for _ in range(25)}

    def read_v1() -> set[str]:
        client = V1Client(host)
        return {client.pull(name, "latest")[-1].id for _ in range(12)}

    with ThreadPoolExecutor(4) as pool:
        moving = pool.submit(move)
        try:
            by_v2, by_v1 = pool.submit(read_v2), pool.submit(read_v1)
            seen_v2, seen_v1 = by_v2.result(60), by_v1.result(60)
        finally:
            done.set()
        assert moving.result(60) > 2
    assert seen_v2 <= {str(image.digest) for image in images}
    assert seen_v1 <= {Digest.of(image.config).hex for image in images}


@pytest.mark.slow
def test_two_v1_pushers_of_different_images(host: str) -> None:
    """On a common base, into one repository: both are complete, and so is what V2 sees of them."""
    base = builders.layer({"base": os.urandom(50_000)})
    chains = [
        builders.v1_chain(base, seed="race base")
        + [
            builders.V1Pushed(
                image.id,
                json.dumps(
                    json.loads(image.json) | {"parent": builders.v1_chain(base, seed="race base")[0].id}
                ).encode(),
                image.layer,
            )
            for image in builders.v1_chain(builders.layer({"top": os.urandom(50_000)}), seed=f"race {number}")
        ]
        for number in range(4)
    ]
    V1Client(host).push("race/v1", "base", chains[0][:1])
    at_once(
        [
            lambda number=number, chain=chain: V1Client(host).push("race/v1", f"tag{number}", chain)
            for number, chain in enumerate(chains)
        ]
    )
    for number, chain in enumerate(chains):
        pulled = V1Client(host).pull("race/v1", f"tag{number}")
        assert [(image.id, image.layer) for image in pulled] == [(image.id, image.layer) for image in chain]
        layers = V2Client(host).pull("race/v1", f"tag{number}").layers
        assert layers == [image.layer for image in chain]


def gzip_of(release: int, tar: bytes) -> bytes:
    """Compress as one release does: the others write other bytes of the same files."""
    return gzip.compress(tar, compresslevel=release + 1, mtime=0)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_releases_that_compress_the_common_base_differently(host: str, number: int) -> None:
    """All push it for the first time, at once: nobody fails, and everybody pulls the same base."""
    name, common = f"race/releases{number}", builders.tar({"base": os.urandom(1000) * 300})
    pushers = {}
    for release, generation in enumerate(V1_RELEASES[1:]):
        base = builders.v1_chain(gzip_of(release, common), seed=name)[0]
        (top,) = builders.v1_chain(builders.layer({"top": bytes([release])}), seed=f"{name} {release}")
        own = base.json.replace(f'"Size": {len(base.layer)}'.encode(), b'"Size": 1')
        above = json.dumps(json.loads(top.json) | {"parent": base.id}).encode()
        chain = [builders.V1Pushed(base.id, own, base.layer), builders.V1Pushed(top.id, above, top.layer)]
        pushers[f"tag{release}"] = (V1Client(host, generation=generation), chain)
    at_once([lambda each=each: each[1][0].push(name, each[0], each[1][1]) for each in pushers.items()])
    bases = set()
    for tag, (_, chain) in pushers.items():
        base, top = V1Client(host).pull(name, tag)
        assert (gzip.decompress(base.layer), top.layer) == (common, chain[1].layer)
        assert V2Client(host).pull(name, tag).layers == [base.layer, top.layer]
        bases.add(base.layer)
    assert len(bases) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_other_files_under_the_same_id(host: str, number: int) -> None:
    """Of clients that push them at once, one succeeds: what everybody pulls is what it sent."""
    name = f"race/other{number}"
    (image,) = builders.v1_chain(b"", seed=name)
    layers = [builders.layer({"f": os.urandom(20_000)}) for _ in range(4)]

    def push(layer: bytes) -> bool:
        try:
            sent = V1Client(host).push(name, "latest", [builders.V1Pushed(image.id, image.json, layer)])
        except ProtocolError:
            return False
        return bool(sent)

    succeeded = at_once([lambda layer=layer: push(layer) for layer in layers])
    assert succeeded.count(True) == 1
    (pulled,) = V1Client(host).pull(name, "latest")
    assert pulled.layer == layers[succeeded.index(True)]


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize("number", range(3))
def test_other_json_under_the_same_id(host: str, number: int, *, checksums: bool) -> None:
    """One client sends it, the others are refused at once or find it; JSON and layer are what that one sent.

    That is so for releases that send no checksum of both, which could not tell whose JSON is whose.
    """
    name = f"race/json{number}-{checksums:d}"
    (image,) = builders.v1_chain(b"", seed=name)
    contents = [
        builders.V1Pushed(
            image.id,
            json.dumps(json.loads(image.json) | {"author": str(each)}).encode(),
            builders.layer({"f": os.urandom(20_000)}),
        )
        for each in range(4)
    ]

    def push(content: builders.V1Pushed) -> list[str] | str:
        generation = V1_RELEASES[-1 if checksums else 0]
        try:
            return V1Client(host, generation=generation).push(name, "latest", [content])
        except ProtocolError as error:
            return str(error)

    outcomes = at_once([lambda content=content: push(content) for content in contents])
    senders = [content for content, outcome in zip(contents, outcomes, strict=True) if outcome == [image.id]]
    refused = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert all("409" in outcome for outcome in refused), refused
    (pulled,) = V1Client(host).pull(name, "latest")
    assert [(each.json, each.layer) for each in senders] == [(pulled.json, pulled.layer)]


@pytest.mark.slow
def test_the_first_v1_look_at_an_image_by_many(host: str) -> None:
    """Whoever derives it, all see the same chain."""
    image = builders.image(*(builders.layer({"f": bytes([number])}) for number in range(5)))
    V2Client(host).push("race/look", "latest", image)
    chains = at_once([lambda: V1Client(host).pull("race/look", "latest")] * 6)
    assert all(chain == chains[0] for chain in chains)
    assert [pulled.layer for pulled in chains[0]] == list(image.layers)


@pytest.mark.slow
def test_the_same_v1_image_from_two_clients(host: str, tmp_path: Path) -> None:
    """One of them may be told to come again; when both have, the image is there and right."""
    assert tmp_path.exists()
    chain = builders.v1_chain(builders.layer({"f": os.urandom(20_000)}), seed="race same")

    def push() -> str:
        try:
            V1Client(host).push("race/same", "latest", chain)
        except Exception as error:  # noqa: BLE001 -- whatever a real client would stop at
            return str(error)
        return ""

    failures = at_once([push] * 4)
    assert "" in failures
    assert V1Client(host).push("race/same", "latest", chain) == []
    (pulled,) = V1Client(host).pull("race/same", "latest")
    assert (pulled.json, pulled.layer) == (chain[0].json, chain[0].layer)
