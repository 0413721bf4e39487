"""Memory: however large a blob is, no process of the server grows with it."""

import hashlib
import http.client
import shutil
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.programs import Process, Serving, children, dualreg_process, memory
from tests.soak import short_or_long

pytestmark = pytest.mark.slow

MIB = 1 << 20
#: Far more than a process may grow by.
SIZE = short_or_long(256, 2048) * MIB
#: What a process may grow by: room for buffers, threads and what Python keeps, but for no layer.
ALLOWED = 64 * MIB
PIECE = bytes(range(256)) * (MIB // 256)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """``dualreg serve`` with two workers that have both served already; deletes its blobs afterwards."""
    folder = tmp_path_factory.mktemp("memory")
    with dualreg_process(folder / "data", fresh=True, workers=2) as serving:
        for _ in range(24):
            upload(serving, 1, chunked=True)
        yield serving
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def large() -> str:
    """The digest of the large blob."""
    hasher = hashlib.sha256()
    for piece in pieces(SIZE // MIB):
        hasher.update(piece)
    return f"sha256:{hasher.hexdigest()}"


def pieces(count: int) -> Iterator[bytes]:
    """Yield *count* MiB."""
    for number in range(count):
        yield number.to_bytes(8, "big") + PIECE[8:]


def peaks(process: Process) -> dict[int, int]:
    """Return the most memory that each process of the server ever had, in bytes, by process id."""
    return {pid: memory(pid) for pid in (process.pid, *children(process.pid))}


def grown(serving: Serving, before: dict[int, int]) -> int:
    """Return by how much the process that grew most has grown; fail if one was replaced meanwhile."""
    after = peaks(serving.process)
    assert after.keys() == before.keys()
    assert len(after) == 3
    return max(after[pid] - before[pid] for pid in after)


def upload(serving: Serving, count: int, *, chunked: bool, digest: str = "") -> None:
    """Upload *count* MiB by a chunked PATCH or by the last PUT; with *digest*, they become a blob."""
    with closing(http.client.HTTPConnection(serving.host, timeout=120)) as connection:
        connection.request("POST", "/v2/large/blobs/uploads/")
        started = connection.getresponse()
        started.read()
        location = started.headers["Location"]
        if chunked:
            connection.request(
                "PATCH", location, pieces(count), {"Transfer-Encoding": "chunked"}, encode_chunked=True
            )
            patched = connection.getresponse()
            assert (patched.status, patched.headers["Range"]) == (202, f"0-{count * MIB - 1}")
            patched.read()
            if not digest:
                return
            connection.request("PUT", f"{location}?digest={digest}", b"")
        else:
            length = {"Content-Length": str(count * MIB)}
            connection.request("PUT", f"{location}?digest={digest}", pieces(count), length)
        assert connection.getresponse().status == 201


def download(serving: Serving, digest: str) -> int:
    """Download the blob; return the number of bytes that came."""
    received, buffer = 0, bytearray(MIB)
    with closing(http.client.HTTPConnection(serving.host, timeout=120)) as connection:
        connection.request("GET", f"/v2/large/blobs/{digest}")
        response = connection.getresponse()
        assert response.status == 200
        while read := response.readinto(buffer):
            received += read
    return received


def test_a_streamed_upload_and_its_download(serving: Serving, large: str) -> None:
    """A large blob, sent as one chunked stream and read back whole, makes no process grow by 64 MiB."""
    before = peaks(serving.process)
    upload(serving, SIZE // MIB, chunked=True, digest=large)
    assert grown(serving, before) < ALLOWED
    assert download(serving, large) == SIZE
    assert grown(serving, before) < ALLOWED


def test_a_monolithic_upload(serving: Serving, large: str) -> None:
    """One sent with a Content-Length in the request that finishes makes no process grow by 64 MiB."""
    before = peaks(serving.process)
    upload(serving, SIZE // MIB, chunked=False, digest=large)
    assert grown(serving, before) < ALLOWED
