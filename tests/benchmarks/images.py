"""What is pushed before it is read, and pushes as clients do them."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from tests.benchmarks.servers import Server
from tests.benchmarks.wire import STREAM, Connection
from tests.builders import Image, image, layer

#: Where the image is that small requests are about.
REPOSITORY = "bench/image"
_LISTED = "bench/tags"
#: Connections over which many small things are prepared.
_CLIENTS = 8


def new_image(layers: int, size: int) -> Image:
    """Return an image like no other, of layers of about *size* bytes each."""
    return image(*(layer({"file": os.urandom(size)}) for _ in range(layers)), oci=True)


def push(connection: Connection, repository: str, image: Image, tag: str) -> None:
    """Push as Docker does: HEAD, POST, PATCH, PUT for each blob, then the manifest."""
    blobs = f"/v2/{repository}/blobs"
    for digest, content in image.blobs.items():
        if connection.ask("HEAD", f"{blobs}/{digest}", allowed=404).status == 200:
            continue
        location = connection.ask("POST", f"{blobs}/uploads/").location
        location = connection.ask("PATCH", location, content, STREAM).location
        connection.ask("PUT", with_digest(location, str(digest)))
    put_manifest(connection, repository, image, tag)


def put_manifest(connection: Connection, repository: str, image: Image, tag: str) -> None:
    """Push the manifest alone, under *tag*."""
    path = f"/v2/{repository}/manifests/{tag}"
    connection.ask("PUT", path, image.manifest, {"Content-Type": image.media_type})


def with_digest(location: str, digest: str) -> str:
    """Return the address that completes an upload."""
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


@cache
def pushed(server: Server) -> Image:
    """Push the image that small requests are about, once, as ``latest``; its layer has 4 KiB."""
    made = new_image(1, 4000)
    with Connection(server.host, server.login(REPOSITORY)) as connection:
        push(connection, REPOSITORY, made, "latest")
    return made


@cache
def tagged(server: Server, tags: int) -> str:
    """Return the name of a repository with so many tags."""
    made = new_image(1, 4000)
    with Connection(server.host, server.login(_LISTED)) as connection:
        push(connection, _LISTED, made, "v0")
        for number in range(1, tags):
            put_manifest(connection, _LISTED, made, f"v{number}")
    return _LISTED


@cache
def catalogued(server: Server, repositories: int) -> None:
    """Push so many repositories."""
    made = new_image(1, 4000)

    def fill(names: list[str]) -> None:
        for name in names:
            with Connection(server.host, server.login(name)) as connection:
                push(connection, name, made, "latest")

    names = [f"bench/catalog/{number}" for number in range(repositories)]
    with ThreadPoolExecutor(_CLIENTS) as pool:
        [*pool.map(fill, (names[first::_CLIENTS] for first in range(_CLIENTS)))]


def accepting(image: Image, login: Mapping[str, str]) -> dict[str, str]:
    """Return the headers with which a client asks for a manifest; without Accept it may be converted."""
    return {"Accept": f"{image.media_type}, */*", **login}
