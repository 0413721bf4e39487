"""upstream.conf: several instances, of which some do not answer."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.nginx.site import BETWEEN, nginx_site
from tests.programs import free_port

pytestmark = pytest.mark.client


class _Instance(BaseHTTPRequestHandler):
    """Answers each request on a connection of its own."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *given: object) -> None:
        pass


@contextmanager
def instance(port: int) -> Iterator[None]:
    """Answer requests on a port."""
    with ThreadingHTTPServer(("127.0.0.1", port), _Instance) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.slow
def test_instances_are_restarted_one_after_another(certificate: Path, tmp_path: Path) -> None:
    """However soon: those that are back get requests at once, so that there is always one that answers."""
    ports = [free_port() for _ in range(3)]
    upstream = BETWEEN.join(f"127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        running = {port: stack.enter_context(ExitStack()) for port in ports}
        for port, own in running.items():
            own.enter_context(instance(port))
        nginx = nginx_site("dualreg.conf", tmp_path / "nginx", certificate, upstream, tmp_path)
        site = stack.enter_context(nginx)
        for port, own in running.items():
            own.close()
            assert [site.send("GET", "/v2/").status for _ in range(9)] == [200] * 9
            own.enter_context(instance(port))
            time.sleep(2)  # a start takes about as long
