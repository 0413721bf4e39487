"""Images of nginx and PostgreSQL without a network: programs of this machine, started as official ones."""

from pathlib import Path

from tests.clients.tools import Tools
from tests.deploy.base import copy_libraries, make_shell

_POSTGRESQL = next(iter(sorted(Path("/usr/lib/postgresql").glob("*"), reverse=True)), Path("/absent"))
_POSTGRES_USER = 999
_DATA = "/var/lib/postgresql/data"
#: What the official image does at its first start, as far as compose.instances.yaml relies on it.
_ENTRYPOINT = f"""#!/bin/sh
set -eu
PATH={_POSTGRESQL}/bin:/bin
data={_DATA}
if [ ! -s $data/PG_VERSION ]; then
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb --encoding=UTF8 --locale=C --auth=scram-sha-256 --no-sync --pgdata=$data \\
        --username="$POSTGRES_USER" --pwfile=/tmp/password
    echo "CREATE DATABASE $POSTGRES_USER" | postgres --single -D $data postgres
    echo "host all all all scram-sha-256" >>$data/pg_hba.conf
fi
exec postgres -D $data -c listen_addresses=* -c unix_socket_directories=/tmp
"""


def make_nginx(tools: Tools, name: str) -> None:
    """Make the image *name*: nginx, and the shell that starts it."""
    root = tools.home / "nginx"
    make_shell(root)
    _copy(root, Path("/usr/sbin/nginx"))
    _commit(tools, root, name)


def make_postgresql(tools: Tools, name: str) -> None:
    """Make the image *name*: PostgreSQL, which makes its database at the first start."""
    root = tools.home / "postgresql"
    make_shell(root)
    share = Path("/usr/share/postgresql") / _POSTGRESQL.name
    tools.run("cp", "-r", "--parents", _POSTGRESQL / "lib", share, root)
    _copy(root, *((_POSTGRESQL / "bin" / program) for program in ("initdb", "postgres", "pg_isready")))
    (root / "entrypoint").write_text(_ENTRYPOINT)
    (root / "entrypoint").chmod(0o755)
    (root / "etc/passwd").write_text(f"postgres:x:{_POSTGRES_USER}:{_POSTGRES_USER}::/:/bin/sh\n")
    _commit(
        tools,
        root,
        name,
        "--user=postgres",
        '--entrypoint=["/entrypoint"]',
        f"--env=PATH={_POSTGRESQL}/bin:/bin",
    )


def _copy(root: Path, *programs: Path) -> None:
    for program in programs:
        place = root / program.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(program.read_bytes())
        place.chmod(0o755)
    copy_libraries(root, *programs)


def _commit(tools: Tools, root: Path, name: str, *options: str) -> None:
    container = tools.buildah("from", "scratch")
    tools.buildah("copy", "-q", container, root, "/")
    (root / "empty").mkdir()
    tools.buildah("copy", "-q", f"--chown={_POSTGRES_USER}", container, root / "empty", _DATA)
    tools.buildah("config", "--env=PATH=/usr/sbin:/bin", *options, container)
    tools.buildah("commit", "-q", "--rm", container, name)
