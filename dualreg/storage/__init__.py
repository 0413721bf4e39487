"""Bytes: the BlobStore protocol, its drivers, and the link files beside the bytes."""

from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from dualreg.storage.base import BlobStore
from dualreg.storage.filesystem import FilesystemStore
from dualreg.storage.links import LinkTree
from dualreg.storage.memory import MemoryStore


class Store(BlobStore, LinkTree, Protocol):
    """What every driver is: a place for bytes and for the link files beside them."""


def open_store(url: str) -> Store:
    """Return the store that *url* names: ``file:///PATH``, or ``memory:`` for tests.

    Raises:
        ValueError: no driver for this kind of URL.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "file":
            return FilesystemStore(Path(unquote(parts.path)))
        case "memory":
            return MemoryStore()
        case scheme:
            raise ValueError(f"store: there is no driver for {scheme or url}:")
