"""S3: the requests to a bucket that a registry needs, and what can go wrong with them.

Source: Amazon S3 API Reference. Other object stores, such as Ceph's, implement the same requests.
"""

import base64
import errno
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from io import BytesIO
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from dualreg.storage.base import StoreUnavailable
from dualreg.storage.s3_library import code_of, failures, open_library, unless_missing

Value = TypeVar("Value")
Result = TypeVar("Result")

#: Bytes of the parts of what is sent: at least 5 MiB, which only the last one may fall short of.
PART = 8 << 20
#: The most parts of one object that are sent; the API allows 10,000.
PARTS_LIMIT = 1_000
#: How often a stream that ends too early is read, or continued, by another request.
FETCHES = 3
#: Bytes that one request copies: 5 GiB is the limit, and more requests run in parallel.
_COPIED_AT_ONCE = 1 << 30
#: Keys that one request deletes.
_DELETED_AT_ONCE = 1_000
#: Requests of one store and process that run in parallel.
_PARALLEL = 16
#: What an object store says of an object that was to be new, or is made by somebody else right now.
_EXISTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
#: Parts of an object that are on their way at the same time, and in memory.
_PARTS_AT_ONCE = 3


class Found(NamedTuple):
    """An object: its size in bytes, what stands for its content, and what was recorded with it."""

    size: int
    etag: str
    modified: datetime
    metadata: Mapping[str, str]


class Listed(NamedTuple):
    """An entry of a list: an object, or, with a slash at its end, the beginning of keys."""

    key: str
    size: int
    modified: datetime | None


class Range(NamedTuple):
    """Bytes of an object.

    Attributes:
        length: How many, from the first one on.
        size: How many it has.
    """

    key: str
    length: int
    size: int


class _Piece(NamedTuple):
    """Bytes of an object that one request copies."""

    key: str
    first: int
    length: int


#: Makes a part of an object, given what the request for it says, and returns what the object is made of.
_MakePart = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Bucket:
    """A bucket, or all of it whose keys begin with a prefix.

    Every method raises StoreUnavailable if the object store does not answer or refuses. Requests are tried
    again by the library. Keys are relative to the prefix.

    Attributes:
        prefix: Empty, or with a slash at its end.
        endpoint: Where the object store is; None: at Amazon, or where the library's own settings say.
    """

    name: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the bucket at ``s3://NAME/PREFIX?endpoint=URL&region=NAME``.

        Raises:
            ValueError: it names none.
        """
        parts, options = urlsplit(url), parse_qs(urlsplit(url).query)
        path = unquote(parts.path).strip("/")
        if not parts.netloc:
            raise ValueError(f'invalid store "{url}": expected s3://BUCKET/PREFIX')
        endpoint, region = (options.get(name, [None])[0] for name in ("endpoint", "region"))
        return cls(parts.netloc, f"{path}/" if path else "", endpoint, region)

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """Threads for requests that run in parallel. What runs in one must not wait for another one."""
        return ThreadPoolExecutor(_PARALLEL, thread_name_prefix="s3")

    @cached_property
    def _client(self) -> Any:  # noqa: ANN401 -- boto3 makes its classes when it runs
        """The client, once the bucket was found."""
        boto3, config = open_library(path_style=self.endpoint is not None, connections=4 * _PARALLEL)
        with failures(f"s3://{self.name}"):
            session = boto3.session.Session()
            region = self.region or session.region_name or "us-east-1"
            client = session.client("s3", region_name=region, endpoint_url=self.endpoint, config=config)
            client.head_bucket(Bucket=self.name)
        return client

    def head(self, key: str) -> Found | None:
        """Return what there is of an object; None if there is none."""
        with failures(key):
            answer = unless_missing(self._client.head_object, **self._at(key))
            return None if answer is None else _found(answer)

    def get(self, key: str, *, start: int = 0, etag: str | None = None) -> tuple[Found, Any] | None:
        """Return an object and a stream of its bytes from *start* on; None if there is none.

        Args:
            etag: The object must have this, or it is not the one that was opened before.
        """
        wanted = {"Range": f"bytes={start}-"} if start else {}
        wanted |= {"IfMatch": etag} if etag else {}
        try:
            with failures(key):
                answer = unless_missing(self._client.get_object, **self._at(key), **wanted)
                found = None if answer is None else _found(answer)
        except StoreUnavailable as error:
            if code_of(error.__cause__) != "InvalidRange":
                raise
            found = self.head(key)  # it has no bytes from *start* on
            return found and (found, BytesIO())
        if answer is None or found is None:
            return None
        return found._replace(size=start + found.size), answer["Body"]

    def fetch(self, key: str) -> tuple[Found, bytes] | None:
        """Return a small object and all its bytes; None if there is none."""
        for left in reversed(range(FETCHES)):
            if (opened := self.get(key)) is None:
                break
            found, stream = opened
            try:
                with failures(key):
                    return found, bytes(stream.read())
            except StoreUnavailable:
                if not left:
                    raise
        return None

    def put(
        self, key: str, content: bytes, metadata: Mapping[str, str] | None = None, *, new: bool = False
    ) -> bool:
        """Create or replace an object; return False, and change nothing, if it is to be *new* and exists.

        An object store that does not know the condition replaces it.
        """
        condition = {"IfNoneMatch": "*"} if new else {}
        described = {"ContentMD5": _md5(content), "Metadata": {**(metadata or {})}}
        try:
            with failures(key):
                self._client.put_object(**self._at(key), Body=content, **described, **condition)
        except StoreUnavailable as error:
            if code_of(error.__cause__) not in _EXISTS:
                raise
            return False
        return True

    def write(self, key: str, parts: Iterable[bytes]) -> int:
        """Create an object of *parts*, which are sent while more arrive; return its size in bytes.

        Args:
            parts: Up to PARTS_LIMIT; all but the last one of PART bytes.
        """
        rest = iter(parts)
        first, second = next(rest, b""), next(rest, None)
        if second is None:
            self.put(key, first)
            return len(first)
        return self._assemble(
            key, ((len(part), partial(self._send, part)) for part in chain((first, second), rest))
        )

    def join(self, key: str, ranges: Sequence[Range]) -> None:
        """Create or replace an object by bytes of others, which are copied where they are.

        Raises:
            FileNotFoundError: one of them is gone.
        """
        ranges = [each for each in ranges if each.length]
        if not ranges:
            self.put(key, b"")
        elif len(ranges) == 1 and ranges[0].length == ranges[0].size <= _COPIED_AT_ONCE:
            source = self._at(ranges[0].key)
            with failures(key):
                copied = unless_missing(self._client.copy_object, **self._at(key), CopySource=source)
            _require(copied, ranges[0].key)
        else:
            pieces = (piece for each in ranges for piece in _pieces(each))
            self._assemble(key, ((piece.length, partial(self._copy, piece)) for piece in pieces))

    def delete(self, *keys: str) -> None:
        """Delete objects. It is not an error if there are none."""
        rest = iter(keys)
        while batch := [*islice(rest, _DELETED_AT_ONCE)]:
            listed = [{"Key": self.prefix + key} for key in batch]
            with failures(batch[0]):
                answer = self._client.delete_objects(
                    Bucket=self.name, Delete={"Objects": listed, "Quiet": True}
                )
            for failed in answer.get("Errors", ()):
                raise StoreUnavailable(f"{failed['Key']}: {failed.get('Code')}")

    def walk(self, prefix: str, *, deep: bool = True) -> Iterator[Listed]:
        """Yield the objects whose keys begin with *prefix*, in byte order of their keys.

        Args:
            deep: Also those with another slash behind it; otherwise, what is before that, once.
        """
        more = {} if deep else {"Delimiter": "/"}
        with failures(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=self.prefix + prefix, **more
            )
            for page in pages:
                objects = [
                    Listed(each["Key"], each["Size"], each["LastModified"])
                    for each in page.get("Contents", ())
                ]
                folders = [Listed(each["Prefix"], 0, None) for each in page.get("CommonPrefixes", ())]
                for each in sorted([*objects, *folders]) if folders else objects:
                    yield each._replace(key=each.key.removeprefix(self.prefix))

    def unfinished(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Yield the key, the ID and the begin of what ``write`` began below *prefix* and did not finish."""
        with failures(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self.name, Prefix=self.prefix + prefix
            )
            for page in pages:
                for each in page.get("Uploads", ()):
                    yield each["Key"].removeprefix(self.prefix), each["UploadId"], each["Initiated"]

    def abort(self, key: str, upload: str) -> None:
        """Discard the parts of what ``write`` began. It is not an error if there are none."""
        with failures(key), suppress(self._client.exceptions.NoSuchUpload):
            self._client.abort_multipart_upload(**self._at(key), UploadId=upload)

    def map(self, function: Callable[[Value], Result], values: Iterable[Value]) -> list[Result]:
        """Return what *function* returns for each of *values*, by requests in parallel."""
        several = [*values]
        if len(several) < 2:  # noqa: PLR2004 -- one needs no other thread
            return [*map(function, several)]
        return [*self.pool.map(function, several)]

    def close(self) -> None:
        """Close all connections, and end the threads. The bucket can be used again."""
        if pool := self.__dict__.pop("pool", None):
            pool.shutdown()
        if client := self.__dict__.pop("_client", None):
            client.close()

    def _assemble(self, key: str, parts: Iterable[tuple[int, _MakePart]]) -> int:
        """Create an object of parts, a few of which are made at once; return its size in bytes."""
        with failures(key):
            upload = self._client.create_multipart_upload(**self._at(key))["UploadId"]
        size, made, running = 0, list[dict[str, Any]](), deque[Future[dict[str, Any]]]()
        try:
            for number, (length, make) in enumerate(parts, 1):
                running.append(
                    self.pool.submit(make, {**self._at(key), "UploadId": upload, "PartNumber": number})
                )
                size += length
                if len(running) == _PARTS_AT_ONCE:
                    made.append(running.popleft().result())
            made += [each.result() for each in running]
            self._complete(key, upload, made, size)
        except BaseException:
            wait(running)  # a part that arrives after the end would stay
            with suppress(StoreUnavailable):
                self.abort(key, upload)
            raise
        return size

    def _send(self, part: bytes, at: dict[str, Any]) -> dict[str, Any]:
        with failures(at["Key"]):
            answer = self._client.upload_part(**at, Body=part, ContentMD5=_md5(part))
            return {"PartNumber": at["PartNumber"], "ETag": answer["ETag"]}

    def _copy(self, piece: _Piece, at: dict[str, Any]) -> dict[str, Any]:
        span = f"bytes={piece.first}-{piece.first + piece.length - 1}"
        with failures(at["Key"]):
            source = self._at(piece.key)
            answer = unless_missing(
                self._client.upload_part_copy, **at, CopySource=source, CopySourceRange=span
            )
            copied = _require(answer, piece.key)["CopyPartResult"]
            return {"PartNumber": at["PartNumber"], "ETag": copied["ETag"]}

    def _complete(self, key: str, upload: str, parts: Sequence[dict[str, Any]], size: int) -> None:
        """Make the object; that the upload is gone is fine if an earlier try has made it, unheard."""
        try:
            with failures(key):
                self._client.complete_multipart_upload(
                    **self._at(key), UploadId=upload, MultipartUpload={"Parts": [*parts]}
                )
        except StoreUnavailable as error:
            made = self.head(key) if code_of(error.__cause__) == "NoSuchUpload" else None
            if made is None or made.size != size:
                raise

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": self.prefix + key}


def _require(answer: dict[str, Any] | None, source: str) -> dict[str, Any]:
    if answer is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", source)
    return answer


def _found(answer: Mapping[str, Any]) -> Found:
    return Found(answer["ContentLength"], answer["ETag"], answer["LastModified"], answer["Metadata"])


def _md5(content: bytes) -> str:
    """Return the Content-MD5, by which the object store notices damage on the way.  Source: RFC 1864."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _pieces(source: Range) -> Iterator[_Piece]:
    """Yield the bytes of an object as requests copy them, in pieces of about the same size."""
    number = -(-source.length // _COPIED_AT_ONCE)
    ends = [source.length * each // number for each in range(number + 1)]
    for first, end in pairwise(ends):
        yield _Piece(source.key, first, end - first)
