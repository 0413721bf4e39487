"""S3: the requests to a bucket that a registry needs, and what can go wrong with them.

Source: Amazon S3 API Reference. Other object stores, such as Ceph's, implement the same requests.
"""

import base64
import errno
import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from io import BytesIO
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from dualreg.storage.base import StoreUnavailable
from dualreg.storage.s3_client import COPY, PARALLEL, S3Client
from dualreg.storage.s3_library import code_of, failures, unless_missing

Value = TypeVar("Value")
Result = TypeVar("Result")

#: Bytes of the parts of what is sent: at least 5 MiB, which only the last one may fall short of.
PART = 8 << 20
#: The most parts of one object that are sent; the API allows 10,000.
PARTS_LIMIT = 1_000
#: How often a stream that ends too early is read, or continued, by another request.
FETCHES = 3
#: Bytes that one request copies, in the time for that; more requests run in parallel.
_COPIED_AT_ONCE = 256 << 20
#: Pieces of about the same size in which an object is copied at most, of 5 TiB too; one copies 5 GiB at most.
_PIECES = 2_000
#: Keys that one request deletes.
_DELETED_AT_ONCE = 1_000
#: What an object store says of an object that was to be new, or is made by somebody else right now.
_EXISTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
#: The metadata by which an object is recognized that was made of parts.
_MARK = "made-by"
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
    again by the library, for seconds, unless the ``circuit`` is open. Keys are relative to the prefix.

    Attributes:
        prefix: Empty, or with a slash at its end.
        endpoint: Where the object store is; None: at Amazon, or where the library's own settings say.
        redirect_endpoint: Where clients find it; None: likewise.
        waiting: How many threads wait for it at once, besides those of its own.
        profile: Whose credentials of the library's own settings are used; None: those of the environment.
    """

    name: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    waiting: int = PARALLEL
    redirect_endpoint: str | None = None
    profile: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the bucket at ``s3://NAME/PREFIX?ATTRIBUTE=VALUE&…``.

        Raises:
            ValueError: it names none.
        """
        parts, options = urlsplit(url), parse_qs(urlsplit(url).query)
        path = unquote(parts.path).strip("/")
        if not parts.netloc:
            raise ValueError(f'invalid store "{url}": expected s3://BUCKET/PREFIX')
        given: dict[str, Any] = {name: values[0] for name, values in options.items()}
        given["waiting"] = int(given.get("waiting", PARALLEL))
        return cls(parts.netloc, f"{path}/" if path else "", **given)

    @property
    def fingerprint(self) -> str:
        """What stands for this place and, behind a dot, for the address by which this process reaches it."""
        parts = f"{self.name}/{self.prefix}", f"{self.endpoint}"
        return ".".join(hashlib.sha256(each.encode()).hexdigest()[:12] for each in parts)

    @cached_property
    def client(self) -> S3Client:
        """What sends the requests."""
        return S3Client(self.name, self.endpoint, self.region, self.profile, self.waiting)

    @cached_property
    def _signer(self) -> S3Client:
        """What signs requests that clients send."""
        endpoint = self.redirect_endpoint or self.endpoint
        return S3Client(self.name, endpoint, self.region, self.profile, self.waiting)

    def url(self, key: str) -> str:
        """Return a URL of an object, for anyone who has it, without a request."""
        return self._signer.sign("get_object", self._at(key))

    def head(self, key: str) -> Found | None:
        """Return what there is of an object; None if there is none."""
        with self.client.asking(key) as client:
            answer = unless_missing(client.head_object, **self._at(key))
            return None if answer is None else _found(answer)

    def get(
        self, key: str, *, start: int = 0, length: int | None = None, etag: str | None = None
    ) -> tuple[Found, Any] | None:
        """Return an object and a stream of its bytes from *start* on; None if there is none.

        Args:
            length: How many of them; None: all.
            etag: The object must have this, or it is not the one that was opened before.
        """
        end = "" if length is None else start + length - 1
        wanted = {"Range": f"bytes={start}-{end}"} if start or length else {}
        wanted |= {"IfMatch": etag} if etag else {}
        try:
            with self.client.asking(key) as client:
                answer = unless_missing(client.get_object, **self._at(key), **wanted)
                found = None if answer is None else _found(answer)
        except StoreUnavailable as error:
            if code_of(error.__cause__) != "InvalidRange":
                raise
            found = self.head(key)  # it has no bytes from *start* on
            return found and (found, BytesIO())
        if answer is None or found is None:
            return None
        return found, self.client.body(answer)

    def fetch(self, key: str) -> tuple[Found, bytes] | None:
        """Return a small object and all its bytes; None if there is none."""
        for left in reversed(range(FETCHES)):
            if (opened := self.get(key)) is None:
                break
            found, stream = opened
            try:
                return found, self.client.read(key, stream, None)
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
            with self.client.asking(key) as client:
                client.put_object(**self._at(key), Body=content, **described, **condition)
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
            with self.client.asking(key, COPY) as client:
                copied = unless_missing(client.copy_object, **self._at(key), CopySource=source)
            _require(copied, ranges[0].key)
        else:
            size = max(_COPIED_AT_ONCE, sum(each.length for each in ranges) // _PIECES)
            pieces = (piece for each in ranges for piece in _pieces(each, size))
            self._assemble(key, ((piece.length, partial(self._copy, piece)) for piece in pieces))

    def delete(self, *keys: str) -> None:
        """Delete objects. It is not an error if there are none."""
        rest = iter(keys)
        while batch := [*islice(rest, _DELETED_AT_ONCE)]:
            listed = [{"Key": self.prefix + key} for key in batch]
            with self.client.asking(batch[0]) as client:
                answer = client.delete_objects(Bucket=self.name, Delete={"Objects": listed, "Quiet": True})
            for failed in answer.get("Errors", ()):
                raise StoreUnavailable(f"{failed['Key']}: {failed.get('Code')}")

    def walk(self, prefix: str, *, deep: bool = True) -> Iterator[Listed]:
        """Yield the objects whose keys begin with *prefix*, in byte order of their keys.

        Args:
            deep: Also those with another slash behind it; otherwise, what is before that, once.
        """
        more = {} if deep else {"Delimiter": "/"}
        for page in self._pages("list_objects_v2", prefix, **more):
            with failures(prefix):
                found = [
                    Listed(each["Key"], each["Size"], each["LastModified"])
                    for each in page.get("Contents", ())
                ]
                folders = [Listed(each["Prefix"], 0, None) for each in page.get("CommonPrefixes", ())]
            for each in sorted([*found, *folders]) if folders else found:
                yield each._replace(key=each.key.removeprefix(self.prefix))

    def unfinished(self, prefix: str) -> Iterator[tuple[str, str, datetime]]:
        """Yield the key, the ID and the begin of what ``write`` began below *prefix* and did not finish."""
        for page in self._pages("list_multipart_uploads", prefix):
            with failures(prefix):
                found = [
                    (each["Key"], each["UploadId"], each["Initiated"]) for each in page.get("Uploads", ())
                ]
            for key, upload, begun in found:
                yield key.removeprefix(self.prefix), upload, begun

    def _pages(self, kind: str, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of a list, each as it is asked for."""
        pages: Iterator[dict[str, Any]] | None = None
        while True:
            with self.client.asking(prefix) as client:
                if pages is None:
                    paginator = client.get_paginator(kind)
                    pages = iter(paginator.paginate(Bucket=self.name, Prefix=self.prefix + prefix, **more))
                page = next(pages, None)
            if page is None:
                return
            yield page

    def abort(self, key: str, upload: str) -> None:
        """Discard the parts of what ``write`` began. It is not an error if there are none."""
        with self.client.asking(key) as client, suppress(client.exceptions.NoSuchUpload):
            client.abort_multipart_upload(**self._at(key), UploadId=upload)

    def map(self, function: Callable[[Value], Result], values: Iterable[Value]) -> list[Result]:
        """Return what *function* returns for each of *values*, by requests in parallel."""
        several = [*values]
        if len(several) < 2:  # noqa: PLR2004 -- one needs no other thread
            return [*map(function, several)]
        with self.client.circuit.place():
            return [*self.client.pool.map(function, several)]

    def close(self) -> None:
        """Close all connections, and end the threads. The bucket can be used again."""
        self.client.close()
        self._signer.close()

    def _assemble(self, key: str, parts: Iterable[tuple[int, _MakePart]]) -> int:
        """Create an object of parts, a few of which are made at once; return its size in bytes."""
        mark = secrets.token_hex(8)
        with self.client.asking(key) as client:
            begun = client.create_multipart_upload(**self._at(key), Metadata={_MARK: mark})
            upload = begun["UploadId"]
        size, made, running = 0, list[dict[str, Any]](), deque[Future[dict[str, Any]]]()
        try:
            for number, (length, make) in enumerate(parts, 1):
                running.append(
                    self.client.pool.submit(make, {**self._at(key), "UploadId": upload, "PartNumber": number})
                )
                size += length
                if len(running) == _PARTS_AT_ONCE:
                    with self.client.circuit.place():
                        made.append(running.popleft().result())
            with self.client.circuit.place():
                made += [each.result() for each in running]
            self._complete(key, upload, made, mark)
        except BaseException:
            wait(running)  # a part that arrives after the end would stay
            with suppress(StoreUnavailable):
                self.abort(key, upload)
            raise
        return size

    def _send(self, part: bytes, at: dict[str, Any]) -> dict[str, Any]:
        with self.client.asking(at["Key"]) as client:
            answer = client.upload_part(**at, Body=part, ContentMD5=_md5(part))
            return {"PartNumber": at["PartNumber"], "ETag": answer["ETag"]}

    def _copy(self, piece: _Piece, at: dict[str, Any]) -> dict[str, Any]:
        span = f"bytes={piece.first}-{piece.first + piece.length - 1}"
        with self.client.asking(at["Key"], COPY) as client:
            source = self._at(piece.key)
            answer = unless_missing(client.upload_part_copy, **at, CopySource=source, CopySourceRange=span)
            copied = _require(answer, piece.key)["CopyPartResult"]
            return {"PartNumber": at["PartNumber"], "ETag": copied["ETag"]}

    def _complete(self, key: str, upload: str, parts: Sequence[dict[str, Any]], mark: str) -> None:
        """Make the object; that the upload is gone is fine if an earlier try has made it, unheard.

        It has our *mark* then. An object of the same size may be another one, and damaged.
        """
        try:
            with self.client.asking(key, COPY) as client:
                client.complete_multipart_upload(
                    **self._at(key), UploadId=upload, MultipartUpload={"Parts": [*parts]}
                )
        except StoreUnavailable as error:
            made = self.head(key) if code_of(error.__cause__) == "NoSuchUpload" else None
            if made is None or made.metadata.get(_MARK) != mark:
                raise

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": self.prefix + key}


def _require(answer: dict[str, Any] | None, source: str) -> dict[str, Any]:
    if answer is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such object", source)
    return answer


def _found(answer: Mapping[str, Any]) -> Found:
    _, _, total = answer.get("ContentRange", "").rpartition("/")
    size = int(total or answer["ContentLength"])
    return Found(size, answer["ETag"], answer["LastModified"], answer["Metadata"])


def _md5(content: bytes) -> str:
    """Return the Content-MD5, by which the object store notices damage on the way.  Source: RFC 1864."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _pieces(source: Range, size: int) -> Iterator[_Piece]:
    """Yield the bytes of an object as requests copy them, in equal pieces of up to *size* bytes."""
    number = -(-source.length // size)
    ends = [source.length * each // number for each in range(number + 1)]
    for first, end in pairwise(ends):
        yield _Piece(source.key, first, end - first)
