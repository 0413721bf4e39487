"""Bytes: the BlobStore protocol, its drivers, and the link files that repeat the catalog's names on disk."""

from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from dualreg.storage.base import BlobStore, LinkTree, PrivateFiles
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.followed import FollowedStore
from dualreg.storage.memory import MemoryStore
from dualreg.storage.s3 import Bucket
from dualreg.storage.s3_store import S3Store


class Store(BlobStore, LinkTree, PrivateFiles, Protocol):
    """What every driver implements: a store of blobs, a tree of link files, and private files."""


def open_store(url: str) -> Store:
    """Return the store at *url*: ``file:///PATH``, ``s3://BUCKET/PREFIX``, or ``memory:`` for tests.

    ``follow:///PATH?own=PATH`` is a copy of another store, which is only read, with a folder for what is
    derived from it.

    Raises:
        ValueError: no driver supports the scheme of *url*.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "file":
            return FilesystemStore(Path(unquote(parts.path)))
        case "memory":
            return MemoryStore()
        case "follow":
            return FollowedStore(Path(unquote(parts.path)), Path(parse_qs(parts.query)["own"][0]))
        case "s3":
            return S3Store(Bucket.parse(url))
        case _:
            raise ValueError(f'unsupported store "{url}": expected file:///PATH or s3://BUCKET/PREFIX')
