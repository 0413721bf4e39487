"""Every generation's clients against servers whose database is behind PgBouncer, in transaction mode."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from dualreg.catalog.database import Catalog, is_outage
from dualreg.catalog.upgrade import upgrade
from tests import builders
from tests.contracts.pgbouncer import pgbouncer
from tests.contracts.postgresql import Cluster, postgresql_cluster
from tests.programs import Serving, dualreg_process
from tests.protocol.everyone import TODAY_PULLERS, TODAY_PUSHERS, V1_PULLERS, V1_PUSHERS
from tests.protocol.layers import files

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

#: The clients: the oldest, and today's.
PUSHERS = {"oldest": next(iter(V1_PUSHERS.values())), **TODAY_PUSHERS}
PULLERS = {"oldest": next(iter(V1_PULLERS.values())), **TODAY_PULLERS}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server."""
    with postgresql_cluster() as cluster, cluster.running():
        yield cluster


@pytest.fixture(
    scope="module", params=[{}, {"ignore_startup_parameters": "options"}], ids=["refuses", "ignores"]
)
def url(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """Where PgBouncer listens; it refuses the options of a connection, or ignores them."""
    with pgbouncer(cluster, default_pool_size=3, **request.param) as url:
        with closing(Catalog(url)) as catalog:
            upgrade(catalog)
        yield url


@pytest.fixture(scope="module")
def serving(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server behind which PgBouncer has fewer connections than it."""
    data = tmp_path_factory.mktemp("served") / "data"
    with dualreg_process(data, database=url, audit="off", gc_interval="2s") as serving:
        yield serving
        assert "Traceback" not in serving.log.read_text()
        assert "catalog error" not in serving.log.read_text()


def test_every_client_pulls_what_every_client_pushes(serving: Serving) -> None:
    """All at once, again and again, so that statements would be prepared, and sessions exchanged."""

    def work(number: int) -> None:
        for kind, push in PUSHERS.items():
            name, layers = f"team/app{number}", [builders.layer({kind: b"%d" % number})]
            push(serving.host, name, f"t{number}", layers)
            for pull in PULLERS.values():
                assert files_of(pull(serving.host, name, f"t{number}")) == files_of(layers)

    with ThreadPoolExecutor(6) as pool:
        [*pool.map(work, range(18))]


def files_of(layers: Sequence[bytes]) -> list[object]:
    """Return what is in layers."""
    return [files(each) for each in layers]


def test_sessions_have_nothing_of_ours(serving: Serving, url: str) -> None:
    """Neither prepared statements nor settings nor locks: the next user of the session would have them."""
    assert serving.process.poll() is None
    with closing(psycopg.connect(url.replace("+psycopg", ""), prepare_threshold=None)) as connection:
        for query, expected in {
            "SELECT count(*) FROM pg_prepared_statements": 0,
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND state = 'idle'": 0,  # a collection holds one in its transaction
            "SELECT current_setting('statement_timeout')": "0",
            "SELECT current_setting('lock_timeout')": "0",
        }.items():
            for _ in range(5):
                assert connection.execute(query).fetchone() == (expected,)
                connection.rollback()


def test_limits_apply_in_each_transaction(url: str) -> None:
    """As they do without PgBouncer, which does not pass them on."""
    with closing(Catalog(url, timeout=1)) as catalog:
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(SQLAlchemyError, match="statement timeout") as failed, catalog.begin() as tx:
                tx.connection.exec_driver_sql("SELECT pg_sleep(20)")
            assert is_outage(failed.value)
            assert time.monotonic() - began < 10
    with closing(Catalog(url)) as catalog, catalog.begin() as tx:
        tx.connection.exec_driver_sql("SELECT pg_sleep(2)")
