"""Requests to a bucket: how long they may take, who sends them, and what is not taken for their success."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from unittest.mock import patch
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest
from urllib3.exceptions import SSLError

from dualreg.image.digest import Digest
from dualreg.storage import s3_library
from dualreg.storage.base import StoreUnavailable
from dualreg.storage.s3 import PART, Bucket, Range, _pieces
from dualreg.storage.s3_layouts import may_be_followed
from dualreg.storage.s3_store import S3Store
from tests.contracts.radosgw import s3_bucket
from tests.contracts.s3_faults import Faults, faulty
from tests.programs import until

pytestmark = pytest.mark.s3

MIB, TIB = 1 << 20, 1 << 40
#: In parts of at most 5 GiB, 10,000 of them.  Source: Amazon S3, "Multipart upload limits".
LARGEST, LARGEST_PART, MOST_PARTS = 5 * TIB, 5 << 30, 10_000


@contextmanager
def proxied() -> Iterator[tuple[Bucket, Faults]]:
    """Yield an empty bucket behind a proxy, and what that does."""
    with s3_bucket() as url:
        endpoint = parse_qs(urlsplit(url).query)["endpoint"][0]
        with faulty(endpoint) as (proxy, faults):
            bucket = Bucket.parse(url.replace(quote_plus(endpoint), quote_plus(proxy)))
            yield bucket, faults
            bucket.close()


def is_answered(bucket: Bucket) -> bool:
    """Return whether requests succeed."""
    try:
        bucket.head("key")
    except StoreUnavailable:
        return False
    return True


def test_a_file_of_credentials_that_changes_is_read_again(tmp_path: Path) -> None:
    """Without a restart; while it is wrong, all is an outage, which ends with the next change."""
    file = tmp_path / "credentials"

    def write(secret: str) -> None:
        lines = ["[default]", f"aws_access_key_id = {key}", f"aws_secret_access_key = {secret}"]
        file.write_text("\n".join(lines))

    with s3_bucket() as url:
        key, secret = (os.environ.pop(f"AWS_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        with patch.dict(os.environ, {"AWS_SHARED_CREDENTIALS_FILE": str(file)}):
            bucket = Bucket.parse(url)
            for written, answered in ((secret, True), ("withdrawn", False), (secret, True)):
                write(written)
                assert until(lambda expected=answered: is_answered(bucket) is expected, 10)  # type: ignore[misc]
            bucket.close()


def test_urls_are_signed_once_a_minute() -> None:
    """Of each blob; the one that is given out again works for 19 minutes at least."""
    with proxied() as (bucket, _), patch("dualreg.storage.s3_store._SIGNED", 0.5):
        store = S3Store(bucket)
        first, other = (Digest.of(data) for data in (b"1", b"2"))
        found = store.url(first)
        assert store.url(first) == found != store.url(other)
        time.sleep(1.1)  # the time is in the URL, in seconds
        assert store.url(first) != found


def test_an_object_of_another_is_not_the_one_that_was_made() -> None:
    """If an upload is gone that is to be completed, one of the same size may be damaged."""
    with proxied() as (bucket, faults):
        parts = [bytes(PART), b"end"]
        other = b"\1" * sum(map(len, parts))
        bucket.put("key", other)
        faults.kind, faults.times = "no such upload", 1
        faults.wanted = lambda method, path: method == "POST" and "uploadId" in path
        with pytest.raises(StoreUnavailable):
            bucket.write("key", parts)
        assert bucket.fetch("key")[1] == other  # type: ignore[index]
        faults.kind, faults.times = "lost answer", 1
        assert bucket.write("key", parts) == len(other)
        assert faults.times == 0
        assert bucket.fetch("key")[1] == b"".join(parts)  # type: ignore[index]


def test_what_is_sent_slowly_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece of it has the time that a connection has; all of it may take longer."""
    monkeypatch.setattr(s3_library, "_CONNECT_TIMEOUT", 1)
    with proxied() as (bucket, faults):
        faults.kind, faults.times = "slow request", 1
        faults.wanted = lambda method, _: method == "PUT"
        began = time.monotonic()
        bucket.write("key", [bytes(PART)])
        assert time.monotonic() - began > 3
        assert bucket.head("key").size == PART  # type: ignore[union-attr]
        assert len([each for each in faults.requests if each[0] == "PUT"]) == 1


def test_tls_that_breaks_in_a_body_is_an_outage() -> None:
    """As every other connection that breaks; the library hands on this error as it is."""
    with proxied() as (bucket, _):
        bucket.put("key", b"1")
        with pytest.raises(StoreUnavailable, match="bad record mac"):
            bucket.client.read("key", _Broken(), 1)


class _Broken(BytesIO):
    """A body whose connection breaks."""

    def read(self, size: int | None = -1) -> bytes:
        """Break."""
        del size
        raise SSLError("bad record mac")


@pytest.mark.parametrize("chunk", [5 * MIB, 64 * MIB, 3 << 30])
def test_the_largest_object_has_few_parts(chunk: int) -> None:
    """However it is uploaded: from chunks of one size, which are segments, or parts of a segment, or both."""
    ranges, size = [0], 0
    while size < LARGEST:
        if may_be_followed(ranges[-1], size):
            ranges.append(chunk)
        else:
            ranges[-1] += chunk
        size += chunk
    largest = max(256 * MIB, size // 2_000)
    pieces = [piece for length in ranges for piece in _pieces(Range("", length, length), largest)]
    assert len(pieces) < MOST_PARTS
    assert max(piece.length for piece in pieces) < LARGEST_PART
    assert min(piece.length for piece in pieces[:-1]) >= 5 * MIB
    assert sum(piece.length for piece in pieces) == size
