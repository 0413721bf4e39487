"""Rows: the V1 API, which only dualreg speaks."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from tests.benchmarks import v1_images
from tests.benchmarks.blobs import Blob, mebibytes, pull, size
from tests.benchmarks.rows import Ask, Effort, Row, has, read, v1_only
from tests.benchmarks.servers import Server
from tests.benchmarks.wire import Answer, Connection, Refused
from tests.builders import V1Pushed

_REPOSITORY, _PUSHED = "bench/old", "bench/old-pushed"
#: Bytes in a layer of a chain.
_LAYER = 4000


def rows(effort: Effort) -> Sequence[Row]:
    """Return the rows."""
    big, length, tags = effort.big, effort.chain, effort.listed

    def get(title: str, ask: Callable[[Server, _Session], Ask]) -> Row:
        return read(
            f"V1 GET {title}", lambda server: ask(server, _session(server, length, tags)), effort, v1_only
        )

    def timed(title: str, start: Callable[[Server], Callable[[], float]]) -> Row:
        return Row(f"V1 {title} {length} layers", "s", start, higher_is_better=False, fits=v1_only)

    def moved(title: str, start: Callable[[Server], Callable[[], float]]) -> Row:
        return Row(f"V1 {title} a layer of {size(big)}", "MiB/s", start, fits=v1_only)

    return (
        get("json", _json),
        get(f"ancestry of {length}", _ancestry),
        get("layer of 4 KiB", _layer),
        get(f"tags of {tags}", _tags),
        timed("push", lambda server: _pushing(server, length)),
        timed("pull", lambda server: _pulling(server, _session(server, length, tags))),
        moved("push", lambda server: _pushing_layer(server, big)),
        moved("pull", lambda server: _pulling_layer(server, big)),
    )


@dataclass(frozen=True, slots=True)
class _Session:
    """A pull that has begun, of a chain with so many tags."""

    chain: Sequence[V1Pushed]
    tags: int
    headers: Mapping[str, str]

    @property
    def top(self) -> V1Pushed:
        """The image that the tags point at."""
        return self.chain[-1]


@cache
def _session(server: Server, length: int, tags: int) -> _Session:
    """Push a chain once, with all its tags."""
    chain = v1_images.new_chain(length, _LAYER)
    with Connection(server.host) as connection:
        push = v1_images.Push.begin(connection, server, _REPOSITORY)
        push.chain(chain)
        for number in range(1, tags):
            push.tag(f"v{number}", chain[-1].id)
        push.finish()
        return _Session(chain, tags, v1_images.begin_pull(connection, server, _REPOSITORY))


def _json(server: Server, session: _Session) -> Ask:
    path = f"/v1/images/{session.top.id}/json"
    return Ask(server.host, "GET", path, has(len(session.top.json)), session.headers)


def _ancestry(server: Server, session: _Session) -> Ask:
    ids = [image.id for image in reversed(session.chain)]
    path = f"/v1/images/{session.top.id}/ancestry"
    return Ask(server.host, "GET", path, lambda answer: _document(answer) == ids, session.headers)


def _layer(server: Server, session: _Session) -> Ask:
    path = f"/v1/images/{session.top.id}/layer"
    return Ask(server.host, "GET", path, has(len(session.top.layer)), session.headers)


def _tags(server: Server, session: _Session) -> Ask:
    path = f"/v1/repositories/{_REPOSITORY}/tags"
    return Ask(
        server.host, "GET", path, lambda answer: len(_document(answer)) == session.tags, session.headers
    )


def _document(answer: Answer) -> list[str] | dict[str, str]:
    document: list[str] | dict[str, str] = json.loads(answer.body)
    return document


def _pushing(server: Server, length: int) -> Callable[[], float]:
    """Push a new chain for each sample."""

    def sample() -> float:
        chain = v1_images.new_chain(length, _LAYER)
        with Connection(server.host) as connection:
            began = time.perf_counter()
            push = v1_images.Push.begin(connection, server, _PUSHED)
            push.chain(chain)
            push.finish()
            return time.perf_counter() - began

    return sample


def _pulling(server: Server, session: _Session) -> Callable[[], float]:
    expected = sum(len(image.layer) for image in session.chain)

    def sample() -> float:
        with Connection(server.host) as connection:
            began = time.perf_counter()
            received = v1_images.pull(connection, server, _REPOSITORY)
            seconds = time.perf_counter() - began
        if received != expected:
            raise Refused(f"{received} bytes of layers came instead of {expected}")
        return seconds

    return sample


def _pushing_layer(server: Server, length: int) -> Callable[[], float]:
    """Push a new layer for each sample, and take it away again."""

    def sample() -> float:
        _, rate, digest = _push_layer(server, length)
        server.forget(_PUSHED, digest)
        return rate

    return sample


def _pulling_layer(server: Server, length: int) -> Callable[[], float]:
    push, _, digest = _push_layer(server, length)
    path = f"/v1/images/{_id_of(digest)}/layer"
    return lambda: pull(server.host, path, push.session, length)


def _push_layer(server: Server, length: int) -> tuple[v1_images.Push, float, str]:
    """Push an image whose layer is big and not compressed.

    Returns:
        The push, MiB of the layer per second, and its digest.
    """
    blob = Blob(length)
    image = _id_of(blob.digest)
    with Connection(server.host) as connection:
        push = v1_images.Push.begin(connection, server, _PUSHED)
        began = time.perf_counter()
        # Docker 0.6 to 0.9 knows no payload checksum: an image of theirs is complete without.
        checksum = {"X-Docker-Checksum": "-"}
        push.image(image, json.dumps({"id": image}).encode(), blob.coded(), checksum)
        return push, mebibytes(length, began), blob.digest


def _id_of(digest: str) -> str:
    """Return the ID of the image with that big layer."""
    return digest.removeprefix("sha256:")
