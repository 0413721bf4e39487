"""The copy of accounts, permissions and keys follows the catalog, and never fails what it copies."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from dualreg.assembly import open_catalog, prepare
from dualreg.auth.sealed import NAME
from dualreg.catalog.access import AccessQueries
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore

FAILURES: dict[str, tuple[type, str, Callable[[], Exception]]] = {
    "the database is locked": (AccessQueries, "dump", lambda: OperationalError("", {}, Exception("locked"))),
    "the store is full": (FilesystemStore, "write_private", lambda: OSError("no space left")),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_copy_that_fails_does_not_fail_the_change(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The change was committed: its client is not sent an error; the log is, and the next start copies it."""
    owner, method, error = FAILURES[failure]
    settings = Settings(data=tmp_path, audit="off")
    prepare(settings)

    def fail(*_: object) -> None:
        raise error()

    with closing(open_catalog(settings)) as catalog, monkeypatch.context() as patch:
        patch.setattr(owner, method, fail)
        with catalog.begin() as tx:
            tx.accounts.add("alice", None)
    assert f"cannot write {NAME}" in caplog.text
    assert _accounts(tmp_path) == []
    prepare(settings)
    assert _accounts(tmp_path) == ["alice"]


def _accounts(folder: Path) -> list[str]:
    return [each["name"] for each in json.loads((folder / NAME).read_text())["tables"]["accounts"]]
