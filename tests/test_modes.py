"""Who on the machine may read and write what commands and servers create."""

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import builders
from tests.migrate.stock_trees import LAYERS, StockTree
from tests.programs import DUALREG, running, start, until

pytestmark = pytest.mark.slow

#: What is created, by path, and its mode under any umask that takes nothing from the owner and the group.
MODES = {
    r"(data|store|db|log)": 0o750,
    r"store/uploads/[^/]+": 0o600,
    r"store/.*/data": 0o444,
    r"db/catalog\.sqlite3(-wal|-shm)?": 0o600,
    r"log/audit\.jsonl": 0o640,
    r"data/migrations": 0o750,
    r"data/migrations/[^/]+": 0o640,
    r"s": 0o770,
}


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_modes(tmp_path: Path, umask: int) -> None:
    """Nothing is open to everybody: data, a store, database and audit log elsewhere, sockets, journals."""
    tree, top = StockTree(tmp_path / "old"), tmp_path / "new"
    tree.image("team/app", builders.image(LAYERS["a"]), "1")
    top.mkdir()
    env = {
        "DUALREG_DATA": str(top / "data"),
        "DUALREG_STORE": f"file://{top}/store",
        "DUALREG_DATABASE": f"sqlite:///{top}/db/catalog.sqlite3",
        "DUALREG_AUDIT": str(top / "log/audit.jsonl"),
    }
    before = os.umask(umask)
    try:
        run(tmp_path, "migrate", "run", f"registry-tree:{tree.root}", env=env)
        run(tmp_path, "access", "grant", "anonymous", "*", "pull", env=env)
        with running([DUALREG, "serve", "--bind", f"unix:{top}/s"], tmp_path / "out", env):
            assert until(lambda: "Serving" in (tmp_path / "out").read_text())
            run(tmp_path, "gc", env=env)
            database = sqlite3.connect(top / "db/catalog.sqlite3")
            database.execute("SELECT * FROM tags").fetchall()  # the other files exist while one is open
            found = {path.relative_to(top).as_posix(): path for path in top.rglob("*")}
            modes = {name: stat.S_IMODE(path.lstat().st_mode) for name, path in found.items()}
            database.close()
        run(tmp_path, "export", f"oci-layout:{tmp_path}/layout", env=env)
    finally:
        os.umask(before)
    assert {name for pattern in MODES for name in matching(pattern, modes)} >= {
        "data", "store", "db", "db/catalog.sqlite3", "db/catalog.sqlite3-wal", "log/audit.jsonl",
        "data/migrations/lock", "s",
    }  # fmt: skip
    for pattern, expected in MODES.items():
        assert {name: oct(modes[name]) for name in matching(pattern, modes)} == {
            name: oct(expected) for name in matching(pattern, modes)
        }
    assert [name for name, mode in modes.items() if mode & 0o002] == []
    exported = stat.S_IMODE((tmp_path / "layout/index.json").stat().st_mode)
    assert exported == 0o666 & ~umask  # what is exported is the operator's, as of any command


def matching(pattern: str, names: dict[str, int]) -> Iterator[str]:
    """Yield the names that a pattern matches."""
    return (name for name in names if re.fullmatch(pattern, name))


def run(folder: Path, *words: str, env: dict[str, str]) -> None:
    """Run a command, its output in *folder*."""
    log = folder / f"{words[0]}.log"
    assert start([DUALREG, *words], log, env).wait(60) == 0, log.read_text()
