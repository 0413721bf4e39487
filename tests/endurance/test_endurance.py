"""Clients of both APIs, kills and garbage collection, all at once: nothing is lost, and the disk comes back.

``make endurance MINUTES=60`` is the long form.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests.cuts.client import V2
from tests.endurance import acts
from tests.endurance.client import Client
from tests.endurance.contents import V2Image, WrongBytes
from tests.endurance.report import text
from tests.endurance.run import Endurance, Plan, Result
from tests.endurance.wire import Interrupted, Kills, WatchedWire
from tests.programs import dualreg_server, free_port
from tests.protocol.clients.wire import ProtocolError, Wire
from tests.soak import short_or_long
from tests.state import blob_file


@pytest.mark.slow
@pytest.mark.parametrize("postgresql", [False, pytest.param(True, marks=pytest.mark.postgres)])
def test_a_registry_endures(tmp_path: Path, *, postgresql: bool) -> None:
    """Whatever is killed, what was acknowledged is there, and what was deleted is gone from the disk."""
    seconds, grace = short_or_long((6, 3), (300, 20))
    plan = Plan(seconds, clients=3, workers=2, kill_every=2, grace=grace, postgresql=postgresql)
    result = Endurance(plan, tmp_path).run()
    assert result.is_clean, text(plan, result)
    assert result.kills


def _behind(path: str, method: str = "DELETE") -> Callable[[Client, Path], None]:
    def change(client: Client, _: Path) -> None:
        assert Wire(client.wire.host).send(method, path).status in (200, 202)

    return change


def _move(client: Client, _: Path) -> None:
    V2(Wire(client.wire.host)).push("client/0", "t", client.make.image())


def _flip(client: Client, data: Path) -> None:
    (content,) = client.tags.values()
    assert isinstance(content, V2Image)
    layer = content.image.layers[0]
    blob_file(data, Digest.of(layer)).write_bytes(bytes(len(layer)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server, and its data folder."""
    data = tmp_path_factory.mktemp("endurance") / "data"
    with dualreg_server(data, fsck_rate=0) as host:
        yield host, data


@pytest.mark.parametrize(
    ("change", "look"),
    [
        (_behind("/v2/client/0/manifests/t"), acts.read),
        (_behind("/v2/client/0/manifests/t"), acts.list_tags),
        (_behind("/v1/repositories/client/0/tags/t"), acts.read),
        (_move, acts.read),
        (_flip, acts.read),
    ],
)
def test_a_loss_is_found(
    served: tuple[str, Path], change: Callable[[Client, Path], None], look: acts.Act
) -> None:
    """By the client that looks: a tag that is gone or was moved, and bytes that are others."""
    host, data = served
    client = Client(host, "client", "0", Kills(), 30)
    client.repositories = ["client/0"]
    client.put("client/0", "t", V2Image(client.make.image()))
    look(client, [client])
    change(client, data)
    with pytest.raises((ProtocolError, WrongBytes)):
        look(client, [client])


def test_requests_may_only_fail_during_a_kill() -> None:
    """A connection that breaks off at another time is a failure."""
    kills = Kills()
    wire = WatchedWire(f"127.0.0.1:{free_port()}", kills)
    with pytest.raises(ProtocolError):
        wire.send("GET", "/v2/")
    kills.kill(2**22 + 1)  # there is none
    with pytest.raises(Interrupted):
        wire.send("GET", "/v2/")


@pytest.mark.parametrize(
    ("end", "findings", "clean"),
    [(100_000, [], True), (101_001, [], False), (99_999, [], False), (100_000, ["lost"], False)],
)
def test_a_disk_that_does_not_come_back_is_a_failure(end: int, findings: list[str], *, clean: bool) -> None:
    """It holds what is alive, and at most a hundredth more."""
    assert Result(failures=findings, end=end, alive=100_000).is_clean == clean
