"""Open files: the limit is raised, and connections leave enough of them to the store and the catalog."""

import http.client
import os
import re
import socket
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests.programs import children, dualreg_process, require

BLOB = os.urandom(100_000)


def limits(pid: int) -> tuple[int, int]:
    """Return the soft and the hard limit of open files of a process."""
    match = re.search(r"Max open files +(\d+) +(\d+)", Path(f"/proc/{pid}/limits").read_text())
    assert match is not None
    return int(match[1]), int(match[2])


@pytest.mark.slow
def test_the_limit_is_raised(tmp_path: Path) -> None:
    """Workers may open as many files as the hard limit allows; that is no reason for a warning."""
    require("prlimit", package="util-linux")
    wrapper = ["prlimit", "--nofile=128:4096"]
    with dualreg_process(tmp_path / "data", wrapper=wrapper, workers=1, audit="off") as serving:
        assert [limits(pid) for pid in children(serving.process.pid)] == [(4096, 4096)]
        assert "Warning" not in serving.log.read_text()


@pytest.mark.slow
def test_few_files_and_many_connections(tmp_path: Path) -> None:
    """However many connections wait, an upload finds files to open; one line says that the limit is low."""
    require("prlimit", package="util-linux")
    wrapper, digest = ["prlimit", "--nofile=150:150"], Digest.of(BLOB)
    with dualreg_process(tmp_path / "data", wrapper=wrapper, workers=1, threads=4, audit="off") as serving:
        host, _, port = serving.host.partition(":")
        waiting = [socket.create_connection((host, int(port))) for _ in range(300)]
        try:
            for _ in range(3):
                client = http.client.HTTPConnection(serving.host, timeout=20)
                client.request("POST", f"/v2/a/b/blobs/uploads/?digest={digest}", BLOB)
                assert client.getresponse().status == 201
                client.close()
        finally:
            for each in waiting:
                each.close()
        log = serving.log.read_text()
    assert log.count("may open 150 files only") == 1
    assert "Too many open files" not in log
