"""Authentication backends: where accounts and the hashes of their passwords are stored."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from dualreg.auth.access import EVERYBODY
from dualreg.auth.passwords import cost_of
from dualreg.catalog.database import Catalog
from dualreg.reloading import ReloadingFile

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """What a directory says of an account.

    Attributes:
        password_hash: The bcrypt hash of its password; None: it has none.
        disabled: Whether it may not log in.
        ended: Whether its issuer has vouched for it too long ago, so that its keys do not count.
    """

    password_hash: str | None
    disabled: bool = False
    ended: bool = False


class Directory(Protocol):
    """A store of accounts."""

    def find(self, account: str) -> Entry | None:
        """Return the entry of the account; None if there is none."""

    def cost(self) -> int | None:
        """Return the highest cost of the hashes in the store; None: all have that of new hashes."""


class CatalogDirectory:
    """The accounts that ``dualreg account`` manages."""

    def __init__(self, catalog: Catalog) -> None:
        """Read from *catalog*."""
        self._catalog = catalog

    def find(self, account: str) -> Entry | None:
        with self._catalog.read() as tx:
            row = tx.accounts.find(account)
        if row is None:
            return None
        ended = row.login_ends_at is not None and row.login_ends_at <= self._catalog.now()
        return Entry(row.password_hash, row.disabled_at is not None, ended)

    def cost(self) -> int | None:
        return None


class HtpasswdDirectory:
    """The accounts of an htpasswd file, and the robots of the catalog, which have no password.

    Source: Apache's htpasswd, ``-B``; ``USER:HASH`` lines, ``#`` before a comment.
    """

    def __init__(self, path: Path, catalog: Catalog) -> None:
        """Read *path*, and reload it when it changes.

        Raises:
            ValueError: it cannot be read.
        """
        self.file = ReloadingFile(lambda: _parse(path.read_text(encoding="utf-8")), path)
        self._catalog = catalog

    def find(self, account: str) -> Entry | None:
        if hash_ := self.file.get().hashes.get(account):
            return Entry(hash_)
        with self._catalog.read() as tx:
            row = tx.accounts.find(account)
        return Entry(None, row.disabled_at is not None) if row and row.robot else None

    def cost(self) -> int | None:
        return self.file.get().cost


class _Htpasswd(NamedTuple):
    """The hashes of a file by account, and the highest cost of them; None if there are none."""

    hashes: Mapping[str, str]
    cost: int | None


def _parse(text: str) -> _Htpasswd:
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        user, colon, hash_ = line.strip().partition(":")
        if not user or user.startswith("#"):
            continue
        if not colon or cost_of(hash_) is None or user.startswith("@") or user in EVERYBODY:
            _log.warning("ignored line %s of htpasswd: not a bcrypt hash, or a reserved name", number)
            continue
        found[user] = hash_
    return _Htpasswd(found, max(filter(None, map(cost_of, found.values())), default=None))
