"""Real servers on disks that fill up or turn read-only: answers, log, and recovery."""

import http.client
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests.programs import DUALREG, Serving, dualreg_process, require_root, until

PIECE = os.urandom(1 << 20)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    require_root()
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], check=False)
    if done.returncode:
        pytest.skip("may not mount file systems")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def ask(serving: Serving, method: str, path: str, body: bytes = b"") -> tuple[int, Mapping[str, str], bytes]:
    """Send one request; return status, headers and body."""
    connection = http.client.HTTPConnection(serving.host, timeout=60)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def begin(serving: Serving) -> str:
    """Start an upload that holds a piece; return its location."""
    status, headers, _ = ask(serving, "POST", "/v2/a/b/blobs/uploads/")
    assert status == 202
    status, headers, _ = ask(serving, "PATCH", headers["Location"], PIECE)
    assert (status, headers["Range"]) == (202, f"0-{len(PIECE) - 1}")
    return headers["Location"]


def fill(disk: Path) -> Path:
    """Leave no room on the disk; return the file to remove for some."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass
    return filler


def refused(serving: Serving, method: str, path: str, body: bytes = b"") -> str:
    """Send a request that this server cannot grant; return what it says, in the dialect of the path."""
    status, headers, answer = ask(serving, method, path, body)
    assert (status, int(headers["Retry-After"]) > 0) == (503, True), answer
    assert (b'"errors"' in answer) == path.startswith(("/v2", "http")), answer
    return answer.decode()


@pytest.mark.slow
@pytest.mark.parametrize("holds", ["store", "all"])
def test_a_disk_that_fills_up(disk: Path, tmp_path: Path, holds: str) -> None:
    """503 and few lines of log while it is full; then the upload goes on where it was, without a restart."""
    data = disk / "data" if holds == "all" else tmp_path / "data"
    store = (disk / "store").as_uri()
    with dualreg_process(data, store=store, audit="off", min_free="0") as serving:
        location = begin(serving)
        filler = fill(disk)
        for _ in range(40):
            text = refused(serving, "PATCH", location, PIECE)
        assert "the disk of the registry is full" in text or holds == "all"
        filler.unlink()
        status, headers, _ = ask(serving, "GET", location)
        assert (status, headers["Range"]) == (204, f"0-{len(PIECE) - 1}")
        status, headers, _ = ask(serving, "PATCH", location, PIECE)
        assert status == 202
        digest = Digest.of(PIECE * 2)
        assert ask(serving, "PUT", f"{headers['Location']}&digest={digest}")[0] == 201
        assert ask(serving, "GET", f"/v2/a/b/blobs/{digest}")[2] == PIECE * 2
        log = serving.log.read_text()
    assert "Traceback" not in log
    assert 1 <= log.count(" failed: ") <= 25


@pytest.mark.slow
def test_a_disk_that_turns_read_only(disk: Path, tmp_path: Path) -> None:
    """Writes are answered with 503, reads go on; writes go on too once it can be written again."""
    with dualreg_process(tmp_path / "data", store=disk.as_uri(), audit="off", min_free="0") as serving:
        location = begin(serving)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert "the disk of the registry is read-only" in refused(serving, "PATCH", location, PIECE)
        assert ask(serving, "GET", "/v2/")[0] == 200
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        assert ask(serving, "PATCH", location, PIECE)[0] == 202
        assert "Traceback" not in serving.log.read_text()


@pytest.mark.slow
def test_a_disk_that_runs_out_of_inodes(disk: Path) -> None:
    """Pushes are refused before it does, so that deletes and the database go on; with more, pushes do too."""
    subprocess.run(["mount", "-o", "remount,nr_inodes=200", disk], check=True)
    with dualreg_process(disk / "data", workers=1, audit="off", min_free="10%") as serving:
        location = begin(serving)
        taken = [disk / f"{number}" for number in range(os.statvfs(disk).f_favail - 10)]
        for each in taken:
            each.touch()
        assert until(lambda: b'"min_free": "reached"' in ask(serving, "GET", "/_status")[2])
        for method, path in (("POST", "/v2/a/b/blobs/uploads/"), ("PATCH", location)):
            status, _, answer = ask(serving, method, path, PIECE)
            assert (status, b"min_free" in answer) == (403, True)
        assert ask(serving, "DELETE", location)[0] == 204
        for each in taken:
            each.unlink()
        assert until(lambda: ask(serving, "POST", "/v2/a/b/blobs/uploads/")[0] == 202)


@pytest.mark.slow
def test_commands_on_a_full_disk(disk: Path) -> None:
    """A command that cannot write says so in one line, and exits with 1."""
    command = [DUALREG, "account", "add", "ann", "--password-stdin", "--data", disk / "data"]
    fill(disk)
    done = subprocess.run(command, input="correct horse battery", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert ("Traceback" in done.stderr, done.stderr.count("Error: ")) == (False, 1), done.stderr
    assert any(word in done.stderr for word in ("No space left", "full", "unable to open"))
