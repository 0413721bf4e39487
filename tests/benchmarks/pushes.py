"""Rows: pushes of small images over the V2 API."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.images import REPOSITORY, new_image, push
from tests.benchmarks.rows import Effort, Row
from tests.benchmarks.servers import Server
from tests.benchmarks.wire import Connection, Refused
from tests.builders import Image

#: Clients that push at once, the layers of each of their images, and the bytes of a layer.
_CLIENTS, _LAYERS, _LAYER = 8, 5, 16 << 10
_SMALL = 4000


def rows(effort: Effort) -> Sequence[Row]:
    """Return the rows."""
    many = f"push {effort.images} images of {_LAYERS} layers, {_CLIENTS} clients"
    return (
        Row("push an image of 1 layer", "ms", _one_by_one(effort.pushes), higher_is_better=False),
        Row(many, "images/s", _at_once(effort.images)),
    )


def _one_by_one(pushes: int) -> Callable[[Server], Callable[[], float]]:
    """Push images one after the other over one connection; a sample is the median time of one, in ms."""

    def start(server: Server) -> Callable[[], float]:
        def sample() -> float:
            times = []
            with Connection(server.host, server.login(REPOSITORY)) as connection:
                for image in [new_image(1, _SMALL) for _ in range(pushes)]:
                    began = time.perf_counter()
                    push(connection, REPOSITORY, image, "pushed")
                    times.append(time.perf_counter() - began)
                _require(connection, REPOSITORY, image, "pushed")
            return statistics.median(times) * 1000

        return sample

    return start


def _at_once(images: int) -> Callable[[Server], Callable[[], float]]:
    """Push images by several clients at once, each to a repository of its own."""

    def start(server: Server) -> Callable[[], float]:
        names = [f"bench/client/{number}" for number in range(_CLIENTS)]
        logins = {name: server.login(name) for name in names}

        def client(name: str, own: Sequence[Image]) -> None:
            with Connection(server.host, logins[name]) as connection:
                for number, image in enumerate(own):
                    push(connection, name, image, f"v{number}")

        def sample() -> float:
            made = [new_image(_LAYERS, _LAYER) for _ in range(images)]
            shares = [made[first::_CLIENTS] for first in range(_CLIENTS)]
            with ThreadPoolExecutor(_CLIENTS) as pool:
                began = time.perf_counter()
                [*pool.map(client, names, shares)]
                rate = images / (time.perf_counter() - began)
            with Connection(server.host, logins[names[0]]) as connection:
                _require(connection, names[0], shares[0][-1], f"v{len(shares[0]) - 1}")
            return rate

        return sample

    return start


def _require(connection: Connection, repository: str, image: Image, tag: str) -> None:
    """Raise Refused unless *tag* is the image."""
    path = f"/v2/{repository}/manifests/{tag}"
    if connection.ask("GET", path, headers={"Accept": image.media_type}).body != image.manifest:
        raise Refused(f"{tag} in {repository} is another image than was pushed")
