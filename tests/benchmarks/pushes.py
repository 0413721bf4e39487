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
_FEW, _MANY, _LAYERS, _LAYER = 8, 32, 5, 16 << 10
_SMALL = 4000


def rows(effort: Effort) -> Sequence[Row]:
    """Return the rows."""
    images = f"push {effort.images} images of {_LAYERS} layers"
    return (
        Row("push an image of 1 layer", "ms", _one_by_one(effort.pushes), higher_is_better=False),
        Row(f"{images}, {_FEW} clients", "images/s", _at_once(effort.images, _FEW)),
        Row(f"{images}, {_MANY} clients", "images/s", _at_once(effort.images, _MANY)),
        Row(
            f"{images}, {_MANY} clients, one repository",
            "images/s",
            _at_once(effort.images, _MANY, repositories=1),
        ),
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


def _at_once(
    images: int, clients: int, *, repositories: int | None = None
) -> Callable[[Server], Callable[[], float]]:
    """Push images by several clients at once.

    Args:
        repositories: In which they are, in turn; None: each client has its own.
    """

    def start(server: Server) -> Callable[[], float]:
        names = [f"bench/client/{number % (repositories or clients)}" for number in range(clients)]
        logins = {name: server.login(name) for name in names}

        def client(number: int, own: Sequence[Image]) -> None:
            with Connection(server.host, logins[names[number]]) as connection:
                for index, image in enumerate(own):
                    push(connection, names[number], image, f"v{number}-{index}")

        def sample() -> float:
            made = [new_image(_LAYERS, _LAYER) for _ in range(images)]
            shares = [made[first::clients] for first in range(clients)]
            with ThreadPoolExecutor(clients) as pool:
                began = time.perf_counter()
                [*pool.map(client, range(clients), shares)]
                rate = images / (time.perf_counter() - began)
            with Connection(server.host, logins[names[0]]) as connection:
                _require(connection, names[0], shares[0][-1], f"v0-{len(shares[0]) - 1}")
            return rate

        return sample

    return start


def _require(connection: Connection, repository: str, image: Image, tag: str) -> None:
    """Raise Refused unless *tag* is the image."""
    path = f"/v2/{repository}/manifests/{tag}"
    if connection.ask("GET", path, headers={"Accept": image.media_type}).body != image.manifest:
        raise Refused(f"{tag} in {repository} is another image than was pushed")
