"""The clients that the tests have of Docker 1.6 to 1.10, against the registry the real ones were made for."""

import json
from collections.abc import Iterator

import pytest

from tests.programs import free_port, require, running, wait_until_up
from tests.protocol.everyone import OLD_PULLERS, OLD_PUSHERS, assert_same
from tests.protocol.layers import OLD_LAYERS
from tests.protocol.replay import replay_schema1

pytestmark = pytest.mark.client


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The stock ``docker-registry``, told to take schema 1."""
    require("docker-registry", package="docker-registry")
    home = tmp_path_factory.mktemp("reference")
    host = f"127.0.0.1:{free_port()}"
    settings = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(home / "data")}},
        "http": {"addr": host},
        "compatibility": {"schema1": {"enabled": True}},
    }
    (home / "registry.yml").write_text(json.dumps(settings))
    log = home / "log"
    command = ["docker-registry", "serve", home / "registry.yml"]
    with running(command, log, {"AWS_CA_BUNDLE": ""}) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        yield host


@pytest.mark.parametrize("puller", OLD_PULLERS)
@pytest.mark.parametrize("pusher", OLD_PUSHERS)
def test_old_clients_understand_the_reference(reference: str, pusher: str, puller: str) -> None:
    """They push and pull there as the real ones did, so whoever satisfies them satisfies those."""
    name = f"team/{pusher}-{puller}"
    OLD_PUSHERS[pusher](reference, name, "latest", OLD_LAYERS)
    assert_same(OLD_PULLERS[puller](reference, name, "latest"), OLD_LAYERS, exactly=True)


@pytest.mark.parametrize("version", ["1.6.2", "1.9.1"])
def test_recordings_replay_against_the_reference(reference: str, version: str) -> None:
    """It gives the answers that it gave when the real daemons were recorded."""
    assert replay_schema1(version, reference) == 10
