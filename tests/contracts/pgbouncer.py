"""A real PgBouncer in transaction mode before a PostgreSQL server."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.contracts.postgresql import Cluster
from tests.programs import free_port, require, running, wait_for


@contextmanager
def pgbouncer(cluster: Cluster, **settings: str | int) -> Iterator[str]:
    """Run PgBouncer for the block, with *settings*; yield where SQLAlchemy finds the database behind it.

    The test is skipped if it is not installed.
    """
    require("pgbouncer", package="pgbouncer")
    port, folder = free_port(), Path(tempfile.mkdtemp(prefix="dualreg-pgbouncer-"))
    if cluster.as_postgres:
        shutil.chown(folder, "postgres")
    chosen = {"listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": ""}
    chosen |= {"auth_type": "any", "pool_mode": "transaction"} | settings
    lines = [f"{name} = {value}" for name, value in chosen.items()]
    server = f"* = host=127.0.0.1 port={cluster.port} user=postgres"
    (folder / "ini").write_text("\n".join(["[databases]", server, "[pgbouncer]", *lines, ""]))
    log = folder / "log"
    try:
        with running([*cluster.as_postgres, "pgbouncer", folder / "ini"], log) as process:
            wait_for(lambda: _listens(port), process, log)
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
