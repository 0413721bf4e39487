"""Races of the garbage collection with clients: what they were told of is there when they name it.

Two processes collect all the time. Clocks do not move: what is to be old is dated back (``Site.let_pass``).
"""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from dualreg.image import media_types
from dualreg.image.digest import Digest
from tests import builders
from tests.contracts.postgresql import DATABASES, database_of
from tests.contracts.radosgw import STORES, s3_bucket, settings_of
from tests.programs import until
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.v2 import V2Client
from tests.races.collecting import POINTS
from tests.races.site import Site, at_once, open_site
from tests.soak import short_or_long

#: How often each race is run, and how many of these runs at once.
ROUNDS, THREADS = short_or_long(4, 1000), 4


@pytest.fixture(scope="module", params=[*DATABASES, *STORES[1:]])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server with two collectors, over each database, and over a bucket."""
    with ExitStack() as stack:
        is_s3 = request.param == "s3"
        more = settings_of(stack.enter_context(s3_bucket())) if is_s3 else {}
        database = stack.enter_context(database_of("sqlite" if is_s3 else request.param))
        with open_site(tmp_path_factory.mktemp("garbage") / "data", database, **more) as site:
            yield site
            site.check()


def image(number: int = 0) -> builders.Image:
    """Return an image like no other."""
    return builders.image(builders.layer({"f": os.urandom(200)}), author=f"{number} {os.urandom(8).hex()}")


def repeat(site: Site, race: Callable[[int], None]) -> None:
    """Run a race again and again, while both processes collect."""
    with site.collecting(), ThreadPoolExecutor(THREADS) as pool:
        for each in [pool.submit(race, number) for number in range(ROUNDS)]:
            each.result()


def is_pulled(site: Site, name: str, tag: str, pushed: builders.Image) -> bool:
    """Pull an image and return whether it is the one that was pushed, whole."""
    pulled = V2Client(site.host).pull(name, tag)
    return (pulled.manifest, pulled.layers) == (pushed.manifest, [*pushed.layers])


@pytest.mark.slow
def test_an_upload_is_a_promise(site: Site) -> None:
    """After 201, a blob that was garbage before is there when the manifest names it, whenever that comes."""

    def race(number: int) -> None:
        name, pushed, client = f"upload/r{number}", image(), V2Client(site.host)

        def send() -> None:
            for digest, blob in pushed.blobs.items():
                path = f"/v2/{name}/blobs/uploads/?digest={digest}"
                assert site.send("POST", path, blob).status == 201

        send()
        site.let_pass(name)
        send()
        site.collect()
        client.push_manifest(name, "latest", pushed.media_type, pushed.manifest)
        site.let_pass(name)
        site.collect()
        assert is_pulled(site, name, "latest", pushed)

    repeat(site, race)


@pytest.mark.slow
def test_an_answer_to_head_is_a_promise(site: Site) -> None:
    """What HEAD finds need not be sent, though it was garbage at that moment; what it does not find, is."""

    def race(number: int) -> None:
        name, pushed, client = f"head/r{number}", image(), V2Client(site.host)
        for digest, blob in pushed.blobs.items():
            client.push_blob(name, str(digest), blob)
        site.let_pass(name)
        time.sleep(number % 8 / 500)
        sent = [client.push_blob(name, str(digest), blob) for digest, blob in pushed.blobs.items()]
        assert len(sent) == 2
        site.collect()
        client.push_manifest(name, "latest", pushed.media_type, pushed.manifest)
        site.collect()
        assert is_pulled(site, name, "latest", pushed)

    repeat(site, race)


def mount_or_send(site: Site, name: str, source: str, digest: Digest, blob: bytes) -> None:
    """Mount a blob like Docker: if the answer is an upload, send it."""
    mounted = site.send("POST", f"/v2/{name}/blobs/uploads/?mount={digest}&from={source}", b"")
    assert mounted.status in (201, 202)
    if mounted.status == 202:
        location = mounted.headers["location"].removeprefix(f"http://{site.host}")
        joint = "&" if "?" in location else "?"
        assert site.send("PUT", f"{location}{joint}digest={digest}", blob).status == 201


@pytest.mark.slow
def test_a_mount_is_a_promise(site: Site) -> None:
    """A blob is mounted while the last image of its repository goes, and its bytes with it."""

    def race(number: int) -> None:
        source, name, pushed, client = f"mount/a{number}", f"mount/b{number}", image(), V2Client(site.host)
        client.push(source, "latest", pushed)
        with site.hurrying(*pushed.blobs):
            site.send("DELETE", f"/v2/{source}/manifests/{pushed.digest}")
            site.let_pass(source)
            for digest, blob in pushed.blobs.items():
                mount_or_send(site, name, source, digest, blob)
            site.collect()
            client.push_manifest(name, "latest", pushed.media_type, pushed.manifest)
            site.collect()
        assert is_pulled(site, name, "latest", pushed)

    repeat(site, race)


@pytest.mark.slow
@pytest.mark.parametrize("by_client", [True, False])
def test_a_manifest_goes_while_an_index_names_it(site: Site, *, by_client: bool) -> None:
    """Either the index is refused, or the manifest stays, whether a client deletes it or a collection."""

    def race(number: int) -> None:
        name, pushed, client = f"index/r{number}{by_client:d}", image(), V2Client(site.host)
        document = builders.index(pushed, architectures=["amd64"])
        client.push(name, str(pushed.digest), pushed)

        def put() -> int:
            path = f"/v2/{name}/manifests/latest"
            return site.send("PUT", path, document, Content_Type=media_types.OCI_INDEX).status

        def delete() -> int:
            return site.send("DELETE", f"/v2/{name}/manifests/{pushed.digest}").status

        if by_client:
            status, deleted = at_once([put, delete])
            assert (status, deleted) in {(201, 405), (404, 202), (400, 202)}
        else:
            site.let_pass(name)
            status = put()
        site.collect()
        if status != 201:
            client.push(name, str(pushed.digest), pushed)
            assert put() == 201
        site.let_pass(name)
        site.collect()
        assert is_pulled(site, name, "latest", pushed)

    repeat(site, race)


@pytest.mark.slow
@pytest.mark.parametrize("by_client", [True, False])
def test_a_subject_goes_while_a_referrer_arrives(site: Site, *, by_client: bool) -> None:
    """The referrer is there and listed, for as long as any manifest without a tag."""

    def race(number: int) -> None:
        name, subject, client = f"subject/r{number}{by_client:d}", image(), V2Client(site.host)
        about = builders.image(oci=True, author=name)
        named = builders.descriptor(subject.media_type, subject.manifest)
        payload = json.dumps(json.loads(about.manifest) | {"subject": named}).encode()
        path = f"/v2/{name}/manifests/{Digest.of(payload)}"
        client.push(name, str(subject.digest), subject)

        def put() -> int:
            client.push_blob(name, str(Digest.of(about.config)), about.config)
            return site.send("PUT", path, payload, Content_Type=media_types.OCI_MANIFEST).status

        def delete() -> int:
            return site.send("DELETE", f"/v2/{name}/manifests/{subject.digest}").status

        if by_client:
            assert at_once([put, delete]) == [201, 202]
        else:
            site.let_pass(name)
            assert put() == 201
        site.collect()
        assert site.send("GET", path).body == payload
        listed = json.loads(site.send("GET", f"/v2/{name}/referrers/{subject.digest}").body)["manifests"]
        assert [each["digest"] for each in listed] == [str(Digest.of(payload))]

    repeat(site, race)


@pytest.mark.slow
def test_a_tag_moves_back_while_its_manifest_goes(site: Site) -> None:
    """A tag moves to a manifest that had none for too long: it is taken, and whole from then on."""

    def race(number: int) -> None:
        name, client, (first, second) = f"tag/r{number}", V2Client(site.host), (image(1), image(2))
        client.push(name, "latest", first)
        client.push(name, "latest", second)
        site.let_pass(name)
        time.sleep(number % 8 / 500)
        client.push(name, "latest", first)
        site.collect()
        assert is_pulled(site, name, "latest", first)

    repeat(site, race)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_collection_that_is_killed(site: Site, point: str) -> None:
    """Wherever that happens, clients get a blob or learn that it must be sent; the next one goes on."""
    name, kept, client = f"killed/{point}", image(), V2Client(site.host)
    garbage = [os.urandom(100) for _ in range(3)]
    for blob in garbage:
        client.push_blob(name, str(Digest.of(blob)), blob)
    client.push(name, "latest", kept)
    site.let_pass(name)
    if "bytes" in point:
        site.collect()
        site.let_pass_since_condemned(*map(Digest.of, garbage))
    assert site.collectors[0].ask(f"die {point}") == -signal.SIGKILL
    again = builders.image(builders.layer({"f": garbage[0]}), author=point)
    for blob in (garbage[0], *again.blobs.values()):
        client.push_blob(name, str(Digest.of(blob)), blob)
        entry = {"digest": str(Digest.of(blob)), "size": len(blob)}
        assert client.pull_blob(name, entry) == blob
    client.push(name, "again", again)
    site.purge(name)
    assert is_pulled(site, name, "latest", kept)
    assert is_pulled(site, name, "again", again)
    assert not any(site.has(Digest.of(blob)) for blob in garbage)


@pytest.mark.slow
def test_two_collections(site: Site) -> None:
    """Each blob is deleted once, by one of them, and what is in use by none."""
    kept, client, blobs = image(), V2Client(site.host), [os.urandom(100) for _ in range(ROUNDS * 3)]
    names = [f"two/r{number}" for number in range(ROUNDS)]
    site.purge()
    for number, blob in enumerate(blobs):
        client.push_blob(names[number % ROUNDS], str(Digest.of(blob)), blob)
    client.push("two/kept", "latest", kept)
    site.let_pass(*names, "two/kept")
    deleted = 0
    for _ in range(2):
        found = at_once([lambda each=each: each.ask("once") for each in site.collectors])  # type: ignore[misc]
        deleted += sum(each["blobs"] for each in found)
        site.let_pass_since_condemned(*map(Digest.of, blobs))
    assert deleted == len(blobs)
    assert not any(site.has(Digest.of(blob)) for blob in blobs)
    assert is_pulled(site, "two/kept", "latest", kept)


@pytest.mark.slow
def test_a_download_goes_on_while_its_blob_goes(site: Site) -> None:
    """A client that began to read gets all bytes; the next one learns that there is no such blob."""

    def race(number: int) -> None:
        name, blob, client = f"download/r{number}", os.urandom(1 << 24), V2Client(site.host)
        digest = Digest.of(blob)
        client.push_blob(name, str(digest), blob)
        connection = http.client.HTTPConnection(site.host, timeout=30)
        connection.request("GET", f"/v2/{name}/blobs/{digest}")
        answer = connection.getresponse()
        begun = answer.read(1000)
        with site.hurrying(digest):
            site.let_pass(name)
            assert until(lambda: not site.has(digest))
        assert Digest.of(begun + answer.read()) == digest
        connection.close()
        assert site.send("GET", f"/v2/{name}/blobs/{digest}").status == 404

    for number in range(max(ROUNDS // 8, 2)):
        with site.collecting():
            race(number)


@pytest.mark.slow
@pytest.mark.parametrize("hours", [24 * 365, -24 * 365])
def test_a_clock_that_jumps(site: Site, hours: int) -> None:
    """What is in use stays, whatever time it is; a push that is under way succeeds when it is repeated."""
    name, kept, under_way, client = f"clock/r{hours}", image(), image(), V2Client(site.host)
    client.push(name, "latest", kept)
    for digest, blob in under_way.blobs.items():
        client.push_blob(name, str(digest), blob)
    for each in site.collectors:
        each.ask(f"ahead {hours * 3600}")
    site.collect()
    put = site.send("PUT", f"/v2/{name}/manifests/b", under_way.manifest, Content_Type=under_way.media_type)
    assert put.status == 201 or json.loads(put.body)["errors"][0]["code"] == "MANIFEST_BLOB_UNKNOWN"
    client.push(name, "b", under_way)
    site.collect()
    for each in site.collectors:
        each.ask("ahead 0")
    site.collect()
    assert is_pulled(site, name, "latest", kept)
    assert is_pulled(site, name, "b", under_way)


@pytest.mark.slow
def test_an_upload_ends_while_its_digest_is_deleted(site: Site) -> None:
    """The blob is there afterwards, with its bytes, whichever was first."""

    def race(number: int) -> None:
        name, blob, client = f"finish/r{number}", os.urandom(1000), V2Client(site.host)
        digest = Digest.of(blob)
        client.push_blob(f"{name}/old", str(digest), blob)
        location = client.start_upload(name)
        assert site.send("PATCH", location, blob).status == 202
        site.let_pass(f"{name}/old")
        with site.hurrying(digest):
            time.sleep(number % 8 / 200)
            assert site.send("PUT", f"{location}?digest={digest}", b"").status == 201
            site.collect()
        assert client.pull_blob(name, {"digest": str(digest), "size": len(blob)}) == blob

    repeat(site, race)


@pytest.mark.slow
def test_a_layer_of_both_generations(site: Site) -> None:
    """An image of V1 is pushed while the one of V2 that has the same layer goes, and the reverse."""

    def race(number: int) -> None:
        name, pushed, client = f"both/r{number}", image(), V2Client(site.host)
        chain = builders.v1_chain(*pushed.layers, seed=name)
        old = V1Client(site.host)
        client.push(name, "v2", pushed)
        site.send("DELETE", f"/v2/{name}/manifests/{pushed.digest}")
        site.let_pass(name)
        with site.hurrying(*pushed.blobs):
            old.push(name, "v1", chain)
            site.collect()
            assert [each.layer for each in old.pull(name, "v1")] == [*pushed.layers]
            client.push(name, "v2", pushed)
            v1 = client.find_manifest(name, "v1").headers["docker-content-digest"]
            assert site.send("DELETE", f"/v2/{name}/manifests/{v1}").status == 202
            site.let_pass(name)
            site.collect()
            assert is_pulled(site, name, "v2", pushed)

    repeat(site, race)


@pytest.mark.slow
def test_everything_that_is_garbage_goes(site: Site) -> None:
    """After all that, what is on the disk is what is alive."""
    with site.catalog.read() as tx:
        names = [name for name, _ in tx.repositories.walk(last="", limit=100_000)]
    site.purge(*names)
    site.check()
