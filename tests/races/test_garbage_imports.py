"""Races of the garbage collection with what brings content back: imports on demand, and an older catalog."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from tests import builders
from tests.migrate.stock_trees import StockTree
from tests.programs import DUALREG, start
from tests.protocol.clients.v2 import V2Client
from tests.races.site import Site, open_site
from tests.races.test_garbage import ROUNDS, THREADS, image, is_pulled
from tests.state import copy_rows, put_back

pytestmark = pytest.mark.slow


def test_an_image_is_imported_while_it_goes(database: str, tmp_path: Path) -> None:
    """An image of the legacy source that has no tag is collected, and imported again when it is asked for."""
    tree = StockTree(tmp_path / "old")
    images = [image(number) for number in range(ROUNDS)]
    for number, each in enumerate(images):
        tree.image(f"import/r{number}", each)

    def race(number: int) -> None:
        name, pushed = f"import/r{number}", images[number]
        for _ in range(3):
            assert is_pulled(site, name, str(pushed.digest), pushed)
            site.let_pass(name)
            time.sleep(number % 8 / 200)
        with site.hurrying(*pushed.blobs, pushed.digest):
            site.collect()
        assert is_pulled(site, name, str(pushed.digest), pushed)

    source = f"registry-tree:{tree.root}"
    with open_site(tmp_path / "data", database, legacy_source=source) as site:
        with site.collecting(), ThreadPoolExecutor(THREADS) as pool:
            for each in [pool.submit(race, number) for number in range(ROUNDS)]:
                each.result()
        site.check()


def run(site: Site, *command: str) -> tuple[int, str]:
    """Run a command of ours over what the server of a site has; return its exit code and what it printed."""
    log = site.data.parent / f"{command[0]}.log"
    return start([DUALREG, *command], log, site.environment).wait(60), log.read_text()


def test_a_catalog_that_is_older_than_the_store(database: str, tmp_path: Path) -> None:
    """Nothing that was pushed since is collected; a rebuild has all of it."""
    old, new = image(1), image(2)
    unused = builders.layer({"g": b"g"})
    with open_site(tmp_path / "data", database) as site:
        client = V2Client(site.host)
        client.push("older/app", "old", old)
        for digest, blob in (*new.blobs.items(), (Digest.of(unused), unused)):
            client.push_blob("older/app", str(digest), blob)
        site.collect()
        rows = copy_rows(site.catalog)
        client.push("older/app", "new", new)
        site.collect()
        put_back(site.catalog, rows)
        site.let_pass("older/app")
        code, printed = run(site, "gc")
        assert code == 1
        assert "the catalog is older than the store" in printed
        assert all(site.has(digest) for digest in (*new.blobs, new.digest))
    assert run(site, "db", "rebuild", "--replace")[0] == 0
    with open_site(tmp_path / "data", database) as site:
        assert is_pulled(site, "older/app", "old", old)
        assert is_pulled(site, "older/app", "new", new)
        site.purge("older/app")
        assert is_pulled(site, "older/app", "new", new)
        assert not site.has(Digest.of(unused))
        site.check()
