"""Bytes: the BlobStore protocol, its drivers, and the link files that repeat the catalog's names on disk."""

from importlib import import_module
from typing import Any, Protocol

from dualreg.storage.base import BlobStore, PrivateFiles
from dualreg.storage.link_tree import LinkTree
from dualreg.stores import kind_of


class Store(BlobStore, LinkTree, PrivateFiles, Protocol):
    """What every driver implements: a store of blobs, a tree of link files, and private files."""


def open_store(url: str, fallback: str = "") -> Store:
    """Return the store at *url*, which is as ``dualreg.stores`` lists.

    Args:
        fallback: The URL of another one that is served together with it (``moving``); empty: none.

    Raises:
        ValueError: no driver supports *url*.
    """
    try:
        driver = kind_of(url).driver
    except ValueError as error:
        raise ValueError(f'unsupported store "{url}": {error}') from error
    store: Store = _find(driver).at(url)
    return _find("moving:MovingStore")(store, open_store(fallback)) if fallback else store


def _find(driver: str) -> Any:  # noqa: ANN401 -- a class of this package, which is imported when it is used
    module, _, name = driver.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), name)
