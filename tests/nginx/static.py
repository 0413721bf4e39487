"""A static tree, served by nginx with the file that lies beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs import free_port, require, running, wait_until_up


@contextmanager
def static_server(folder: Path, home: Path) -> Iterator[str]:
    """Serve the tree in *folder*, with what nginx needs for that in *home*; yield HOST:PORT."""
    require("nginx", package="nginx")
    host = f"127.0.0.1:{free_port()}"
    snippet = home / "static.conf"
    snippet.write_text((folder / "nginx.conf").read_text().replace("127.0.0.1:5080", host))
    whole = home / "nginx.conf"
    whole.write_text(
        f"user root; daemon off; pid {home}/nginx.pid; error_log {home}/error.log; events {{ }}\n"
        f"http {{ access_log off; include {snippet}; }}\n"
    )
    log = home / "nginx.log"
    with running(["nginx", "-c", whole, "-p", home], log) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        yield host
