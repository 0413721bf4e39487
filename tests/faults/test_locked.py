"""A catalog whose write lock another process holds for long: reads go on, writers are asked to come back."""

import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests.programs import dualreg_server
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Answer, Wire

NAME = "team/app"
DATA = b"of a blob"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder."""
    return tmp_path / "data"


@pytest.fixture
def host(data: Path) -> Iterator[str]:
    """``dualreg serve`` with one worker of eight threads."""
    with dualreg_server(data, workers=1, threads=8) as host:
        yield host


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "path"), [("POST", f"/v2/{NAME}/blobs/uploads/"), ("PUT", "/v1/repositories/x/y/")]
)
def test_reads_go_on_while_writers_wait(host: str, data: Path, method: str, path: str) -> None:
    """However many requests want to write: those that find no place get 503, the others wait for the lock."""
    client = V2Client(host)
    client.push_blob(NAME, str(Digest.of(DATA)), DATA)
    blob = {"digest": str(Digest.of(DATA)), "size": len(DATA)}

    def write() -> Answer:
        return Wire(host).send(
            method, path, {"Content-Type": "application/json"}, b"[]" if "v1" in path else b""
        )

    with closing(sqlite3.connect(data / "catalog.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(30) as pool:
            writing = [pool.submit(write) for _ in range(30)]
            time.sleep(2)
            for _ in range(5):
                began = time.monotonic()
                assert V2Client(host).pull_blob(NAME, blob) == DATA
                assert Wire(host).send("HEAD", f"/v2/{NAME}/blobs/{blob['digest']}").status == 200
                assert time.monotonic() - began < 3
            refused, waiting = wait(writing, timeout=0)
            assert waiting
            other.execute("ROLLBACK")
            assert {each.result().status // 100 for each in waiting} == {2}
    assert refused
    for each in refused:
        answer = each.result()
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        assert ("errors" in json.loads(answer.body)) == (path.startswith("/v2/"))
